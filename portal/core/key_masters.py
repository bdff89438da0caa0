"""Card master keys: two components by two people, versions, days of use, and which keys everybody knows."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator
from datetime import date

from portal.core.crypto import KEY_SIZE, KeyFormatError, kcv
from portal.core.errors import InputRefusedError
from portal.core.key_records import MasterKey
from portal.core.key_refusals import CheckValueError, KeyExpiredError, KeyForTestsError, KeyMissingError
from portal.core.key_wrapping import PUBLIC_KEYS

TEST_VERSION = 0
_MASTER_ID = re.compile(r"master-(?P<name>[A-Za-z0-9_.-]+)-v(?P<version>\d+)\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}\Z")
_CHECK_VALUE = re.compile(r"[0-9A-F]{6}\Z")


def master_id(name: str, version: int) -> str:
    """Return the id of a card master key's file."""
    return f"master-{checked_name(name)}-v{version}"


def versions_of(key_ids: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Give name and version of each card master key among the ids."""
    for key_id in key_ids:
        if match := _MASTER_ID.match(key_id):
            yield match["name"], int(match["version"])


def checked_name(name: str) -> str:
    """Return a key's name, or refuse one that could walk the file system."""
    if not _NAME.match(name):
        raise InputRefusedError(
            "密钥名称格式不对", expected="1–40 位字母、数字、点、横线、下划线", got=repr(name)[:60]
        )
    return name


def checked_value(text: str) -> str:
    """Return a check value as six capital hex digits; refuse anything else."""
    value = "".join(text.split()).upper()
    if not _CHECK_VALUE.match(value):
        raise CheckValueError("校验值格式不对", expected="6 位十六进制")
    return value


def checked_version(name: str, version: int) -> str:
    """Return the id of a version that real keys may have."""
    if version <= TEST_VERSION:
        raise InputRefusedError("主密钥版本须从 1 起", where="version", expected="≥ 1", got=str(version))
    return master_id(name, version)


def checked_days(valid_from: date | None, valid_until: date | None) -> None:
    """Refuse a time of use that ends before it begins."""
    if valid_from is not None and valid_until is not None and valid_until < valid_from:
        raise InputRefusedError(
            "有效期止于起日之前", where="valid_until", expected=f"≥ {valid_from}", got=str(valid_until)
        )


def read_component(text: str, check_value: str, *, where: str = "") -> bytes:
    """Read a component as 32 hex digits in any grouping; its own check value catches a typing error.

    No error repeats what was typed.
    """
    digits = "".join(text.split())
    try:
        component = bytes.fromhex(digits)
    except ValueError:
        raise KeyFormatError("分量不是十六进制", where=where, expected="32 位十六进制") from None
    if len(component) != KEY_SIZE:
        raise KeyFormatError("主密钥分量长度不对", where=where, expected=f"{KEY_SIZE} 字节")
    if component in PUBLIC_KEYS:
        raise KeyForTestsError("主密钥或其分量是公开的已知值", where=where)
    if not _same(kcv(component), checked_value(check_value)):
        raise CheckValueError("分量与其校验值不符，请核对后重新输入", where=where)
    return component


def joined(name: str, first: bytes, second: bytes, check_value: str) -> bytes:
    """Return the key of two components, or refuse one that does not check or that everybody knows."""
    if len(first) != KEY_SIZE or len(second) != KEY_SIZE:
        raise KeyFormatError("主密钥分量长度不对", expected=f"{KEY_SIZE} 字节")
    key = bytes(a ^ b for a, b in zip(first, second, strict=True))
    found, wanted = kcv(key), check_value.strip().upper()
    if not _same(found, wanted):
        raise CheckValueError("主密钥校验值不符", where=name, expected=wanted, got=found)
    if PUBLIC_KEYS & {key, first, second}:
        raise KeyForTestsError("主密钥或其分量是公开的已知值", where=name, got=found)
    return key


def newest_valid(name: str, masters: Iterable[MasterKey], on: date) -> MasterKey:
    """Return the newest version that makes cards on a day; a test key only where there is no real one.

    Raises KeyMissingError without any version, KeyExpiredError where none is valid on the day.
    """
    known = list(masters)
    if not known:
        raise KeyMissingError("没有这个主密钥", where=name)
    candidates = [master for master in known if not master.test] or known
    valid = [master for master in candidates if master.is_valid(on)]
    if not valid:
        raise KeyExpiredError("主密钥的各版本都不在有效期内，不得用于新的制卡", where=name, got=str(on))
    return max(valid, key=lambda master: master.version)


def _same(found: str, wanted: str) -> bool:
    return hmac.compare_digest(found.encode(), wanted.encode())
