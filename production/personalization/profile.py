"""The card profile: applications, files, tags, lengths and keys of one card version, as reviewed data.

A profile is a TOML file under `profiles/`, one per card version. The full text of LD/T 32-2015 and LD/T
33-2015 was not at hand: what a profile says without a published source is marked `assumption` in the
data and listed by `CardProfile.assumptions()`. Nothing here is the standard itself.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from portal.core.errors import PortalError
from production.personalization.card_crypto import ALGORITHMS
from production.personalization.profile_table import Table, take
from production.personalization.tlv import MAX_LENGTH, Kind, padding

# Every value a field may take: from the holder (holder.CardHolder), the blank, or the profile itself.
SOURCES = frozenset(
    {
        "card_identifier", "card_class", "initialiser", "issue_on", "expires_on", "card_number", "number",
        "name", "name_extension", "sex", "ethnicity", "birth_area", "birth_on", "person_code", "first_area",
        "employer_name", "employer_code", "spec_version",
    }
)  # fmt: skip
_CODE = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
_FILE_ID = re.compile(r"EF[0-9A-F]{2}")
_CONDITION = re.compile(r"(free|never|[A-Za-z0-9]+)( (and|or) [A-Za-z0-9]+)*|")


class ProfileError(PortalError):
    """A card profile that contradicts itself or cannot be read; production must not start with it."""

    code = "card_profile"


@dataclass(frozen=True, slots=True)
class Field:
    """One tag of a record file; `length` in bytes, `source` the value it takes, `overlong` refuse or cut.

    A field without a source holds padding. `fields` are the nested records of a group (a tag that holds
    tags).
    """

    tag: int
    title: str
    kind: Kind
    length: int
    source: str = ""
    overlong: str = "refuse"
    assumption: str = ""
    fields: tuple[Field, ...] = ()

    def initial(self) -> bytes:
        """Return the value before a holder's own value is written."""
        if self.fields:
            return b"".join(bytes((f.tag, f.length)) + f.initial() for f in self.fields)
        return padding(self.kind, self.length)


@dataclass(frozen=True, slots=True)
class ElementaryFile:
    """One EF: `records` of TLV, `transparent` of `size` bytes, or `cyclic` with records of `size` bytes.

    Cyclic and transparent files are created by initialization and stay empty in personalization, but for a
    transparent one with a `source` (the photo). `read` and `write` are conditions over PIN and key names;
    an empty text says the record at hand does not tell.
    """

    file_id: str
    title: str
    structure: str
    size: int = 0
    source: str = ""
    read: str = ""
    write: str = ""
    assumption: str = ""
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Application:
    """One environment or DF with its files; `aid` in bytes, `fid` two bytes or empty."""

    name: str
    title: str
    aid: bytes
    fid: bytes
    files: tuple[ElementaryFile, ...]
    assumption: str = ""


@dataclass(frozen=True, slots=True)
class CardKey:
    """One key of the card: its id on the card and the usage byte and id of the PSAM key it answers to."""

    application: str
    name: str
    key_id: int
    usage: int
    psam_id: int
    assumption: str = ""

    @property
    def full_name(self) -> str:
        """Return application and key name, the name of its master key in the key store."""
        return f"{self.application}/{self.name}"

    @property
    def levels(self) -> int:
        """Count the diversifications from the PSAM's key to the card's: 1 card, 2 city, 3 province."""
        return self.usage >> 5

    @property
    def key_type(self) -> int:
        """Return the low five bits: 7 encryption, 8 MAC and encryption."""
        return self.usage & 0x1F

    @property
    def makes_mac(self) -> bool:
        """Say whether commands can be secured with it."""
        return self.key_type == 8


@dataclass(frozen=True, eq=False, slots=True)
class CardProfile:
    """A checked card version; compared by identity, so that caches may hang on it."""

    code: str
    title: str
    spec_version: str
    algorithm: str
    applications: tuple[Application, ...]
    keys: tuple[CardKey, ...]

    def files(self) -> Iterator[tuple[str, ElementaryFile]]:
        """Yield each file with its path, e.g. `SSSE/EF06`, in the order of writing."""
        for application in self.applications:
            for file in application.files:
                yield f"{application.name}/{file.file_id}", file

    def assumptions(self) -> list[tuple[str, str]]:
        """List place and text of everything that no published source backs, for the documents."""
        found = [(a.name, a.assumption) for a in self.applications]
        for path, file in self.files():
            found.append((path, file.assumption))
            found.extend((f"{path}/{f.tag:02X}", f.assumption) for f in file.fields)
        found.extend((key.full_name, key.assumption) for key in self.keys)
        return [(where, text) for where, text in found if text]


@functools.cache
def load_profile(code: str) -> CardProfile:
    """Return the checked profile of a card version shipped with the portal; raise ProfileError."""
    if not _CODE.fullmatch(code):
        raise ProfileError("卡片规范文件名不合法", expected="小写字母、数字、点和连字符")
    source = resources.files("production.personalization") / "profiles" / f"{code}.toml"
    if not source.is_file():
        raise ProfileError("没有这个卡片规范", got=code)
    profile = parse_profile(source.read_text(encoding="utf-8"))
    if profile.code != code:
        raise ProfileError("卡片规范文件名与内容不一致", expected=code, got=profile.code)
    return profile


def parse_profile(text: str) -> CardProfile:
    """Read and check the TOML text of a profile; raise ProfileError naming the first contradiction."""
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ProfileError("卡片规范不是有效的 TOML", got=str(exc)) from exc
    with Table(raw, "规范", ProfileError) as table:
        profile = CardProfile(
            code=table.text("code"),
            title=table.text("title"),
            spec_version=table.text("spec_version"),
            algorithm=table.text("algorithm"),
            applications=tuple(_application(row) for row in table.rows("application")),
            keys=tuple(_key(row) for row in table.rows("key")),
        )
    _check(profile)
    return profile


def _application(row: Mapping[str, Any]) -> Application:
    with Table(row, "应用", ProfileError) as table:
        return Application(
            name=table.text("name"),
            title=table.text("title"),
            aid=table.hex("aid"),
            fid=table.hex("fid", b""),
            files=tuple(_file(item) for item in table.rows("file")),
            assumption=table.text("assumption", ""),
        )


def _file(row: Mapping[str, Any]) -> ElementaryFile:
    with Table(row, "文件", ProfileError) as table:
        return ElementaryFile(
            file_id=table.text("id"),
            title=table.text("title"),
            structure=table.text("structure", "records"),
            size=table.number("size", 0),
            source=table.text("source", ""),
            read=table.text("read", ""),
            write=table.text("write", ""),
            assumption=table.text("assumption", ""),
            fields=tuple(_field(item) for item in table.rows("fields")),
        )


def _field(row: Mapping[str, Any]) -> Field:
    with Table(row, "标签", ProfileError) as table:
        nested = tuple(_field(item) for item in table.rows("fields"))
        length = sum(2 + f.length for f in nested) if nested else table.number("length")
        return Field(
            tag=table.number("tag"),
            title=table.text("title", ""),
            kind=Kind(take(table.text("kind", "an"), frozenset(Kind), table)),
            length=length,
            source=table.text("source", ""),
            overlong=take(table.text("overlong", "refuse"), {"refuse", "cut"}, table),
            assumption=table.text("assumption", ""),
            fields=nested,
        )


def _key(row: Mapping[str, Any]) -> CardKey:
    with Table(row, "密钥", ProfileError) as table:
        return CardKey(
            application=table.text("application"),
            name=table.text("name"),
            key_id=table.number("id"),
            usage=table.number("usage"),
            psam_id=table.number("psam_id"),
            assumption=table.text("assumption", ""),
        )


def _check(profile: CardProfile) -> None:
    if profile.algorithm not in ALGORITHMS:
        known = "、".join(sorted(ALGORITHMS))
        raise ProfileError("不支持的算法", where=profile.code, expected=known, got=profile.algorithm)
    _unique("应用", [a.name for a in profile.applications])
    for application in profile.applications:
        if not 5 <= len(application.aid) <= 16 or len(application.fid) not in {0, 2}:
            raise ProfileError(
                "应用标识长度不对", where=application.name, expected="AID 5–16 字节，FID 2 字节"
            )
        _unique(application.name, [f.file_id for f in application.files])
    for path, file in profile.files():
        _check_file(path, file)
    _unique("来源", [f.source for _, file in profile.files() for f in file.fields if f.source])
    _unique("密钥", [key.full_name for key in profile.keys])
    _unique("密钥标识", [f"{key.application}/{key.key_id:02X}" for key in profile.keys])
    for key in profile.keys:
        _check_key(key, {a.name for a in profile.applications})


def _check_file(path: str, file: ElementaryFile) -> None:
    if not _FILE_ID.fullmatch(file.file_id):
        raise ProfileError("文件标识不合法", where=path, expected="EF00–EFFF")
    if not (_CONDITION.fullmatch(file.read) and _CONDITION.fullmatch(file.write)):
        raise ProfileError("访问条件写法不对", where=path, expected="free、never 或以 and/or 连接的名称")
    if (file.structure == "records") == bool(file.size):
        raise ProfileError("文件大小写法不对", where=path, expected="只有 transparent 和 cyclic 写 size")
    if file.structure not in {"records", "transparent", "cyclic"} or (file.fields and file.size):
        raise ProfileError(
            "文件结构不对", where=path, expected="records、transparent 或 cyclic", got=file.structure
        )
    if file.source not in {"", "photo"} or (file.source and file.structure != "transparent"):
        raise ProfileError(
            "文件的来源不对", where=path, expected="photo，仅用于 transparent", got=file.source
        )
    _check_fields(path, file.fields)


def _check_fields(path: str, fields: tuple[Field, ...]) -> None:
    _unique(path, [f"{f.tag:02X}" for f in fields])
    for field in fields:
        where = f"{path}/{field.tag:02X}"
        if not (0 < field.tag <= 0xFE and 0 < field.length <= MAX_LENGTH):
            raise ProfileError("标签或长度超出范围", where=where, expected="标签 01–FE，长度 1–255")
        if field.source and (field.source not in SOURCES or field.fields):
            raise ProfileError(
                "值的来源不对", where=where, expected="已知来源，且不在含嵌套的标签上", got=field.source
            )
        if any(f.source for f in field.fields):
            raise ProfileError("嵌套标签不能取持卡人值", where=where)
        _check_fields(where, field.fields)


def _check_key(key: CardKey, applications: set[str]) -> None:
    in_range = all(0 <= value <= 0xFF for value in (key.key_id, key.usage, key.psam_id))
    if key.application not in applications or not in_range:
        raise ProfileError("密钥的应用或字节不对", where=key.full_name)
    if key.levels not in {1, 2, 3} or key.key_type not in {7, 8}:
        raise ProfileError("PSAM 用途字节不对", where=key.full_name, expected="分散 1–3 级，类型 7 或 8")


def _unique(where: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ProfileError("重复定义", where=where, got="、".join(twice))
