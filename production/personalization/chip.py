"""Chip content of one card: built from the holder, read back, compared value by value (R-18)."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from portal.core.errors import InputRefusedError
from portal.core.names import NameTooLongError, decode_gb18030, encode_gb18030, split_name
from production.personalization.holder import CardHolder
from production.personalization.profile import CardProfile, Field
from production.personalization.tlv import (
    TlvError,
    decode_records,
    decode_value,
    encode_record,
    encode_value,
)

_MAGIC = b"SC\x01"
_NAME_PARTS = ("name", "name_extension")


class ChipContentError(InputRefusedError):
    """Chip content that cannot be built from this holder or cannot be read as this profile."""

    code = "chip_content"


@dataclass(frozen=True, slots=True)
class ChipContent:
    """What personalization writes: path of the file, e.g. `SSSE/EF06`, to its records in record order."""

    profile_code: str
    files: Mapping[str, bytes] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the compact form: magic, profile code, path and content of each file, length-prefixed."""
        parts = [_MAGIC, _short(self.profile_code), bytes((len(self.files),))]
        for path, content in self.files.items():
            parts += (_short(path), struct.pack(">H", len(content)), content)
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, raw: bytes) -> ChipContent:
        """Read the compact form; raise ChipContentError when it is cut, padded or not one."""
        if not raw.startswith(_MAGIC):
            raise ChipContentError("不是芯片数据", expected=_MAGIC.hex())
        try:
            return cls._read(raw)
        except (struct.error, IndexError, UnicodeDecodeError):
            raise ChipContentError("芯片数据不完整或已损坏", got=f"{len(raw)} 字节") from None

    @classmethod
    def _read(cls, raw: bytes) -> ChipContent:
        code, offset = _read_short(raw, len(_MAGIC))
        count, offset = raw[offset], offset + 1
        files: dict[str, bytes] = {}
        for _ in range(count):
            path, offset = _read_short(raw, offset)
            (length,) = struct.unpack_from(">H", raw, offset)
            files[path] = raw[offset + 2 : offset + 2 + length]
            offset += 2 + length
        if offset != len(raw) or len(files) != count:
            raise ChipContentError("芯片数据长度不符", expected=f"{offset} 字节", got=f"{len(raw)} 字节")
        return cls(code, files)


@dataclass(frozen=True, slots=True)
class ChipValues:
    """Decoded values of a chip: `SSSE/EF06/08` to text; nested tags as `DF01/EF15/40/57`."""

    values: Mapping[str, str] = field(repr=False)
    by_source: Mapping[str, str] = field(repr=False)

    def summary(self, *, reset: bytes = b"", terminal: str = "", device: str = "") -> str:
        """Return the line of `iReadCardBas`: eleven values, each with `|`; `reset` is the ATR's history."""
        identifier = self.by_source.get("card_identifier", "")
        named = [self.by_source.get(key, "") for key in ("number", "card_number")]
        dates = [self.by_source.get(key, "") for key in ("spec_version", "issue_on", "expires_on")]
        name, history = self.by_source.get("name", ""), reset.hex().upper()
        return "".join(
            f"{v}|" for v in [identifier[:6], *named, identifier, name, history, *dates, terminal, device]
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """One value on the chip that is not the record's; `tag` is the path, the values are personal."""

    tag: str
    title: str
    expected: str = field(repr=False)
    got: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _FilePlan:
    """A file's initial content and where the holder's values go: lengths are fixed, so only slices change."""

    path: str
    initial: bytes
    slots: tuple[tuple[int, Field], ...]


def build_chip(holder: CardHolder, profile: CardProfile, card_identifier: bytes) -> ChipContent:
    """Write the holder's values into the profile's files; raise ChipContentError naming the tag."""
    texts = _texts(holder, profile, card_identifier)
    parts = dict(zip(_NAME_PARTS, split_name(holder.name), strict=True))
    _check_name(parts, profile)
    files: dict[str, bytes] = {}
    for plan in _plans(profile):
        content = bytearray(plan.initial)
        for offset, f in plan.slots:
            part = parts.get(f.source)
            value = _encode(plan.path, f, texts[f.source]) if part is None else _fill(plan.path, f, part)
            content[offset : offset + f.length] = value
        files[plan.path] = bytes(content)
    return ChipContent(profile.code, files)


def parse_chip(files: Mapping[str, bytes], profile: CardProfile) -> ChipValues:
    """Decode files as read from a card, by tag; raise TlvError with the path when a file cannot be decoded.

    Files and tags the card lacks are absent from the values (older cards have no tag 4E).
    """
    values: dict[str, str] = {}
    for path, file in profile.files():
        if file.fields and path in files:
            values.update(_decode_file(path, file.fields, files[path]))
    return ChipValues(values, _by_source(values, profile))


def compare(
    expected: CardHolder, readback: Mapping[str, bytes], profile: CardProfile, *, card_identifier: bytes
) -> list[Difference]:
    """Decode what was read and compare its values with the record's; an empty list means they agree (R-18).

    A file that cannot be decoded is a difference, not an error. Values are compared after decoding, so
    another valid padding or cut of the name is no difference, while a stray value in a field meant to
    be empty is one.
    """
    texts = _texts(expected, profile, card_identifier)
    found: list[Difference] = []
    for path, file in profile.files():
        try:
            got = dict(_decode_file(path, file.fields, readback.get(path, b"")))
        except TlvError as exc:
            found.append(Difference(path, file.title, "可以解码", str(exc)))
            continue
        _join_name(got, profile)
        found += _differences(_tags(profile)[path], texts, got)
    return found


def _differences(
    tags: Mapping[str, Field], texts: Mapping[str, str], got: Mapping[str, str]
) -> Iterator[Difference]:
    for key, f in tags.items():
        wanted = _allowed(f, texts.get(f.source, ""))
        if got.get(key, "") != wanted:
            yield Difference(key, f.title, wanted, got.get(key, ""))


def _texts(holder: CardHolder, profile: CardProfile, identifier: bytes) -> dict[str, str]:
    own = {"card_identifier": identifier.hex().upper(), "spec_version": profile.spec_version}
    return {**holder.texts(), **own}


def _join_name(values: dict[str, str], profile: CardProfile) -> None:
    """Move the name's extension into the name, as a reader shows it."""
    paths = _source_paths(profile)
    first, second = (paths.get(part, "") for part in _NAME_PARTS)
    extension = values.pop(second, "")
    if extension:
        values[first] = values.get(first, "") + extension


def _by_source(values: Mapping[str, str], profile: CardProfile) -> dict[str, str]:
    found = {source: values[path] for source, path in _source_paths(profile).items() if path in values}
    found["name"] = found.get("name", "") + found.pop("name_extension", "")
    return found


@functools.lru_cache(maxsize=8)
def _tags(profile: CardProfile) -> Mapping[str, Mapping[str, Field]]:
    """Map each file's path to its tags, nested ones included."""
    return {path: dict(_walk(path, file.fields)) for path, file in profile.files()}


@functools.lru_cache(maxsize=8)
def _source_paths(profile: CardProfile) -> Mapping[str, str]:
    """Map each source to its tag's path."""
    return {f.source: key for tags in _tags(profile).values() for key, f in tags.items() if f.source}


@functools.lru_cache(maxsize=8)
def _plans(profile: CardProfile) -> tuple[_FilePlan, ...]:
    plans = []
    for path, file in profile.files():
        content, slots = bytearray(), []
        for f in file.fields:
            if f.source:
                slots.append((len(content) + 2, f))
            content += encode_record(f.tag, f.initial())
        if content:
            plans.append(_FilePlan(path, bytes(content), tuple(slots)))
    return tuple(plans)


def _encode(path: str, f: Field, text: str) -> bytes:
    if not text:
        return f.initial()
    try:
        return encode_value(f.kind, _allowed(f, text), f.length)
    except TlvError as exc:
        raise ChipContentError(
            exc.message, where=f"{path}/{f.tag:02X}", expected=exc.expected, got=exc.got
        ) from None


def _fill(path: str, f: Field, part: bytes) -> bytes:
    """Pad one part of the name, already coded without a split character."""
    if len(part) > f.length:
        where = f"{path}/{f.tag:02X}"
        raise ChipContentError(
            "姓名过长", where=where, expected=f"不超过 {f.length} 字节", got=f"{len(part)} 字节"
        )
    return part.ljust(f.length, b"\x00")


def _check_name(parts: Mapping[str, bytes], profile: CardProfile) -> None:
    """Refuse a name that goes on where the card has no extension: it would be cut without a word (R-18)."""
    first, second = (_source_paths(profile).get(part) for part in _NAME_PARTS)
    if parts[_NAME_PARTS[1]] and second is None:
        raise NameTooLongError("姓名超出芯片容量", where=first or "", expected="卡片没有姓名扩展")


def _allowed(f: Field, text: str) -> str:
    """Return the text as the field may hold it: cut only where the profile says so."""
    return _cut(text, f.length) if f.overlong == "cut" else text


def _cut(text: str, length: int) -> str:
    """Drop whole characters until the text fits."""
    return decode_gb18030(_whole(encode_gb18030(text[: length + 1]), length))


def _whole(raw: bytes, length: int) -> bytes:
    for size in range(min(length, len(raw)), -1, -1):
        try:
            decode_gb18030(raw[:size])
        except UnicodeDecodeError:
            continue
        return raw[:size]
    return b""


def _walk(path: str, fields: tuple[Field, ...]) -> Iterator[tuple[str, Field]]:
    for f in fields:
        key = f"{path}/{f.tag:02X}"
        if f.fields:
            yield from _walk(key, f.fields)
        else:
            yield key, f


def _decode_file(path: str, fields: tuple[Field, ...], content: bytes) -> Iterator[tuple[str, str]]:
    """Yield path and text of the tags the profile knows; the first record of a tag counts."""
    known = {f.tag: f for f in fields}
    try:
        for tag, value in decode_records(content):
            f = known.pop(tag, None)
            if f is None:
                continue
            if f.fields:
                yield from _decode_file(f"{path}/{tag:02X}", f.fields, value)
            else:
                yield f"{path}/{tag:02X}", decode_value(f.kind, value)
    except TlvError as exc:
        raise TlvError(exc.message, where=exc.where or path, expected=exc.expected, got=exc.got) from None


def _short(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


def _read_short(raw: bytes, offset: int) -> tuple[str, int]:
    end = offset + 1 + raw[offset]
    return raw[offset + 1 : end].decode(), end
