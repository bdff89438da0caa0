"""What a bank supplies for its payment application: data groups as reviewed JSON, nobody's data in it.

One file a bank. Values are hexadecimal or one of SOURCES, filled in for each card: the account number is the
PAN (5A) and stands in the track 2 equivalent (57). The card's keys (DGI 8000) derive from the bank's masters
by EMV Book 2, A1.4 option A. So no file of cards has to be kept and destroyed, and no key is in the file.

    {"format": "payment-groups-1", "bank": "B01", "application": "A000000333010101", "service_code": "620",
     "control": [["50", "50424F43204445424954"], ["87", "01"]],
     "processing": [["82", "7C00"], ["94", "08010200"]],
     "records": {"0101": [["57", "@track2"], ["5A", "@account"], ["5F34", "01"]],
                 "0102": [["5F24", "@expires"], ["5F25", "@effective"], ["5F28", "0156"]]},
     "groups": {}}
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portal.core.errors import InputRefusedError
from production.personalization.ber import BerError, decode_ber, encode_ber
from production.personalization.card_crypto import TripleDesCipher
from production.personalization.payment import CONTROL_GROUP, PROCESSING_GROUP, PaymentData
from production.personalization.profile_table import Table

FORMAT = "payment-groups-1"
KEY_ROLES = ("kmc", "ac", "mac", "enc")
SOURCES = frozenset({"@account", "@track2", "@effective", "@expires"})
_APPLICATIONS = frozenset({"A000000333010101", "A000000333010102"})
_BANK = re.compile(r"[A-Z0-9][A-Z0-9-]{0,19}")
_GROUP = re.compile(r"[0-9A-F]{4}")
_TAG = re.compile(r"([0-9A-F]{2}){1,3}")
_HEX = re.compile(r"([0-9A-F]{2})*")
_ACCOUNT = re.compile(r"[0-9]{12,19}")
_ACCOUNT_TAG, _TRACK_TAG, _EXPIRY_TAG = "5A", "57", "5F24"
_TEMPLATE, _LOCATOR_TAG = 0x70, 0x94
_MAX_GROUP = 230  # a data group must fit one command, with its identifier and the C-MAC
_MADE_HERE = frozenset({"8000", "8010", "9000", CONTROL_GROUP, PROCESSING_GROUP})

Objects = tuple[tuple[str, str], ...]


class PaymentDataError(InputRefusedError):
    """Data groups of a bank that contradict themselves; no card is begun with them."""

    code = "payment_data"


@dataclass(frozen=True, slots=True)
class BankGroups:
    """A bank's checked groups; `records` by group identifier, `extra` groups go on the card as they are."""

    bank: str
    application: bytes
    service_code: str
    control: Objects
    processing: Objects
    records: Mapping[str, Objects]
    extra: Mapping[str, bytes]

    def key_names(self) -> dict[str, str]:
        """Return the name of each of the bank's master keys in the key store, by role."""
        return payment_key_names(self.bank)


@dataclass(frozen=True, slots=True)
class PaymentAccount:
    """What is one card's own: account number and days."""

    number: str = field(repr=False)
    issued_on: dt.date
    expires_on: dt.date


def payment_key_names(bank: str) -> dict[str, str]:
    """Return the names of a bank's masters: kmc of its blanks, and ac, mac, enc of its application."""
    return {role: f"pay-{bank}-{role}" for role in KEY_ROLES}


def parse_bank_groups(text: str) -> BankGroups:
    """Read and check a bank's file; raise PaymentDataError naming the first contradiction."""
    try:
        raw: Any = json.loads(text)
    except ValueError:
        raise PaymentDataError("支付数据不是有效的 JSON") from None
    with Table(raw, "支付数据", PaymentDataError) as table:
        groups = BankGroups(
            bank=table.text("bank"),
            application=table.hex("application"),
            service_code=table.text("service_code", "620"),
            control=_objects(table.pairs("control"), CONTROL_GROUP),
            processing=_objects(table.pairs("processing"), PROCESSING_GROUP),
            records={
                group: _objects(pairs, group) for group, pairs in _lists(table.table("records")).items()
            },
            extra=_extra(table.table("groups", {})),
        )
        if table.text("format") != FORMAT:
            raise PaymentDataError("支付数据的格式不认识", expected=FORMAT)
    _check(groups)
    return groups


def build_payment(groups: BankGroups, account: PaymentAccount, masters: Mapping[str, bytes]) -> PaymentData:
    """Fill a bank's groups for one card; `masters` by role (KEY_ROLES)."""
    if not _ACCOUNT.fullmatch(account.number):
        raise PaymentDataError("银行账号不能作为支付卡号", expected="12–19 位数字")
    values = _values(groups, account)
    made: dict[str, bytes] = {**_keys(f"{account.number}{_sequence(groups)}", masters), **groups.extra}
    for group, objects in groups.records.items():
        made[group] = encode_ber(_TEMPLATE, _filled(objects, values))
    made[CONTROL_GROUP] = _filled(groups.control, values)
    made[PROCESSING_GROUP] = _filled(groups.processing, values)
    for group, value in made.items():
        if len(value) > _MAX_GROUP:
            raise PaymentDataError(
                "数据组过长", where=group, expected=f"不超过 {_MAX_GROUP} 字节", got=f"{len(value)} 字节"
            )
    return PaymentData(groups.application, masters["kmc"], made)


def sample_bank_groups(bank: str) -> str:
    """Return invented groups of a debit application, for demonstrations and tests."""
    return json.dumps(
        {
            "format": FORMAT,
            "bank": bank,
            "application": "A000000333010101",
            "service_code": "620",
            "control": [["50", b"PBOC DEBIT".hex().upper()], ["87", "01"], ["9F38", "9F1A029F3704"]],
            "processing": [["82", "7C00"], ["94", "0801020010010100"]],
            "records": {
                "0101": [["57", "@track2"], ["5A", "@account"], ["5F34", "01"]],
                "0102": [["5F24", "@expires"], ["5F25", "@effective"], ["5F28", "0156"], ["9F07", "FF00"]],
                "0201": [["8C", "9F02069F0306"], ["8D", "8A029F0206"], ["8E", "000000000000000042031F00"]],
            },
            "groups": {},
        }
    )


def _lists(raw: Mapping[str, Any]) -> Mapping[str, list[Any]]:
    for group, pairs in raw.items():
        if not _GROUP.fullmatch(group) or not isinstance(pairs, list):
            raise PaymentDataError("数据组写法不对", where=group[:8], expected="四位十六进制与标签列表")
    return raw


def _objects(pairs: list[Any], where: str) -> Objects:
    """Check a list of [tag, value]; a value is hexadecimal or a source."""
    found: list[tuple[str, str]] = []
    for pair in pairs:
        shaped = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        if not shaped or not _TAG.fullmatch(pair[0]) or not (pair[1] in SOURCES or _HEX.fullmatch(pair[1])):
            raise PaymentDataError("数据对象写法不对", where=where, expected="[标签, 十六进制或来源]")
        try:
            ((tag, _),) = decode_ber(bytes.fromhex(pair[0]) + b"\x00")
        except (BerError, ValueError):
            raise PaymentDataError("标签不合法", where=f"{where}/{pair[0]}") from None
        if any(tag == int(other, 16) for other, _ in found):
            raise PaymentDataError("重复定义", where=f"{where}/{pair[0]}")
        found.append((pair[0], pair[1]))
    return tuple(found)


def _extra(raw: Mapping[str, Any]) -> dict[str, bytes]:
    """Return groups that go on the card as they are; those made here cannot be given."""
    for group, value in raw.items():
        if not _GROUP.fullmatch(group) or group in _MADE_HERE or group < "8000":
            raise PaymentDataError("数据组不能由银行直接给出", where=group[:8])
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise PaymentDataError("不是十六进制", where=group)
    return {group: bytes.fromhex(value) for group, value in raw.items()}


def _check(groups: BankGroups) -> None:
    if not _BANK.fullmatch(groups.bank):
        raise PaymentDataError("银行代码不对", expected="大写字母、数字和连字符")
    if groups.application.hex().upper() not in _APPLICATIONS:
        raise PaymentDataError("支付应用标识不对", expected="、".join(sorted(_APPLICATIONS)))
    if not re.fullmatch(r"[0-9]{3}", groups.service_code):
        raise PaymentDataError("服务代码不对", expected="3 位数字")
    given = {tag: value for objects in groups.records.values() for tag, value in objects}
    wanted = {_ACCOUNT_TAG: "@account", _TRACK_TAG: "@track2", _EXPIRY_TAG: "@expires"}
    for tag, source in wanted.items():
        if given.get(tag) != source:
            raise PaymentDataError("记录缺少必需的标签", where=tag, expected=source)
    _check_locator(groups)


def _check_locator(groups: BankGroups) -> None:
    """Hold the records against the application file locator: it must list exactly those that are there."""
    processing = {int(tag, 16): value for tag, value in groups.processing}
    locator = processing.get(_LOCATOR_TAG, "")
    if set(processing) != {0x82, _LOCATOR_TAG} or len(processing[0x82]) != 4 or len(locator) % 8:
        raise PaymentDataError("处理选项写法不对", where="82、94", expected="AIP 2 字节，AFL 每项 4 字节")
    raw = bytes.fromhex(locator)
    listed = [
        f"{raw[at] >> 3:02X}{record:02X}"
        for at in range(0, len(raw), 4)
        for record in range(raw[at + 1], raw[at + 2] + 1)
    ]
    if sorted(listed) != sorted(groups.records):
        raise PaymentDataError("文件定位器与记录不符", where="94", expected="、".join(sorted(groups.records)))


def _values(groups: BankGroups, account: PaymentAccount) -> dict[str, str]:
    track = f"{account.number}D{account.expires_on:%y%m}{groups.service_code}"
    return {
        "@account": _even(account.number),
        "@track2": _even(track),
        "@effective": f"{account.issued_on:%y%m%d}",
        "@expires": f"{account.expires_on:%y%m%d}",
    }


def _even(digits: str) -> str:
    return digits + "F" * (len(digits) % 2)


def _filled(objects: Objects, values: Mapping[str, str]) -> bytes:
    return b"".join(
        encode_ber(int(tag, 16), bytes.fromhex(values.get(value, value))) for tag, value in objects
    )


def _sequence(groups: BankGroups) -> str:
    """Return the sequence number of the account's card (5F34), 00 when the bank gives none."""
    given = (value for objects in groups.records.values() for tag, value in objects if tag == "5F34")
    return next(given, "00")


def _keys(numbers: str, masters: Mapping[str, bytes]) -> dict[str, bytes]:
    """Derive the card's keys for cryptogram, MAC and encryption, and their check values."""
    cipher = TripleDesCipher()
    factor = bytes.fromhex(numbers[-16:].rjust(16, "0"))  # the end of account and sequence number
    keys = [cipher.child(masters[role], factor) for role in KEY_ROLES[1:]]
    checks = b"".join(cipher.encrypt(key, bytes(8))[:3] for key in keys)
    return {"8000": b"".join(keys), "9000": checks}
