"""IPP messages as bytes (RFC 8010 §3): what this program sends and asks, collections included.

pyipp cannot write collections, which the exact size of a card needs (media-col), and brings an event loop
and its HTTP stack; pycups wants libcups and prints files from disk only. See docs/decisions.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from portal.core.errors import InputRefusedError

VERSION = (2, 0)
MOST_DEPTH = 8  # collections in collections; media-col needs two levels


class IppFormatError(InputRefusedError):
    """Bytes that are no IPP message."""

    code = "ipp_format"


class Tag(IntEnum):
    """Delimiters and value tags (RFC 8010 §3.5)."""

    OPERATION, JOB, END, PRINTER, UNSUPPORTED = 0x01, 0x02, 0x03, 0x04, 0x05
    INTEGER, BOOLEAN, ENUM = 0x21, 0x22, 0x23
    OCTETS, DATE_TIME, RESOLUTION, RANGE, COLLECTION = 0x30, 0x31, 0x32, 0x33, 0x34
    TEXT_LANGUAGE, NAME_LANGUAGE, END_COLLECTION = 0x35, 0x36, 0x37
    TEXT, NAME, KEYWORD, URI, CHARSET, LANGUAGE, MIME, MEMBER = 0x41, 0x42, 0x44, 0x45, 0x47, 0x48, 0x49, 0x4A


_FIRST_VALUE = 0x10  # smaller tags begin a group of attributes (RFC 8010 §3.5.1)
_NUMBERS = frozenset({Tag.INTEGER, Tag.ENUM})
_TEXTS = frozenset({Tag.TEXT, Tag.NAME, Tag.KEYWORD, Tag.URI, Tag.CHARSET, Tag.LANGUAGE, Tag.MIME})
_WITH_LANGUAGE = frozenset({Tag.TEXT_LANGUAGE, Tag.NAME_LANGUAGE})


@dataclass(frozen=True, slots=True)
class Attribute:
    """Values of one tag: numbers, words, bytes, ranges (two numbers), or collections (named attributes)."""

    tag: int
    values: tuple[Value, ...]


Value = int | bool | str | bytes | tuple[int, int] | Mapping[str, Attribute]
Attributes = Mapping[str, Attribute]


def one(tag: int, *values: Value) -> Attribute:
    """Return an attribute with these values."""
    return Attribute(tag, values)


@dataclass(frozen=True, slots=True)
class Message:
    """A request (`code` is the operation) or an answer (`code` is the status), and the document behind it."""

    code: int
    request_id: int
    groups: Sequence[tuple[int, Attributes]]
    document: bytes = field(default=b"", repr=False)

    def group(self, tag: int) -> Attributes:
        """Return the first group with this tag, empty where there is none."""
        return next((attributes for found, attributes in self.groups if found == tag), {})

    def to_bytes(self) -> bytes:
        """Return the message as it travels."""
        parts = [struct.pack(">BBHI", *VERSION, self.code, self.request_id)]
        for tag, attributes in self.groups:
            parts.append(bytes((tag,)))
            parts.extend(_encoded(name, attribute) for name, attribute in attributes.items())
        return b"".join((*parts, bytes((Tag.END,)), self.document))


def parse(raw: bytes) -> Message:
    """Read a message; raise IppFormatError for anything else."""
    reader = _Reader(raw)
    try:
        _, _, code, request_id = struct.unpack(">BBHI", reader.take(8))
        groups = list(_groups(reader))
    except (IndexError, struct.error, UnicodeDecodeError) as exc:
        raise IppFormatError("打印机的应答不是 IPP 消息", got=f"{len(raw)} 字节") from exc
    return Message(code, request_id, groups, reader.rest())


# --- writing ----------------------------------------------------------------------------------------------
def _encoded(name: str, attribute: Attribute) -> bytes:
    """Return an attribute; its second and later values have no name (RFC 8010 §3.1.5)."""
    parts = []
    for number, value in enumerate(attribute.values):
        named = name.encode() if number == 0 else b""
        parts.append(bytes((attribute.tag,)) + _sized(named) + _value(attribute.tag, value))
    return b"".join(parts)


def _value(tag: int, value: Value) -> bytes:
    if isinstance(value, Mapping):
        members = b"".join(_member(name, attribute) for name, attribute in value.items())
        return _sized(b"") + members + bytes((Tag.END_COLLECTION,)) + _sized(b"") + _sized(b"")
    if isinstance(value, bool):
        return _sized(bytes((value,)))
    if isinstance(value, int):
        return _sized(struct.pack(">i", value))
    if isinstance(value, tuple):
        return _sized(struct.pack(">ii", *value))
    return _sized(value if isinstance(value, bytes) else value.encode())


def _member(name: str, attribute: Attribute) -> bytes:
    """Return a member of a collection: its name is a value of its own (RFC 8010 §3.1.7)."""
    head = bytes((Tag.MEMBER,)) + _sized(b"") + _sized(name.encode())
    values = (bytes((attribute.tag,)) + _sized(b"") + _value(attribute.tag, v) for v in attribute.values)
    return head + b"".join(values)


def _sized(raw: bytes) -> bytes:
    return struct.pack(">H", len(raw)) + raw


# --- reading ----------------------------------------------------------------------------------------------
class _Reader:
    """Bytes from left to right; raises IndexError at a premature end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._raw):
            raise IndexError
        self._at += count
        return self._raw[self._at - count : self._at]

    def sized(self) -> bytes:
        return self.take(int.from_bytes(self.take(2)))

    def byte(self) -> int:
        return self.take(1)[0]

    def back(self) -> None:
        self._at -= 1

    def rest(self) -> bytes:
        return self._raw[self._at :]


def _groups(reader: _Reader) -> Iterator[tuple[int, Attributes]]:
    tag = reader.byte()
    while tag != Tag.END:
        if tag >= _FIRST_VALUE:
            raise IppFormatError("打印机的应答不是 IPP 消息", got=f"{tag:02X}")
        yield tag, _attributes(reader)
        tag = reader.byte()


def _attributes(reader: _Reader) -> Attributes:
    """Read attributes up to the next group's tag, which is left to be read."""
    found: dict[str, Attribute] = {}
    name = ""
    while (tag := reader.byte()) >= _FIRST_VALUE:
        name = reader.sized().decode() or name
        _add(found, name, tag, _read_value(reader, tag, 0))
    reader.back()
    return found


def _add(found: dict[str, Attribute], name: str, tag: int, value: Value) -> None:
    before = found[name].values if name in found else ()
    found[name] = Attribute(tag, (*before, value))


def _read_value(reader: _Reader, tag: int, depth: int) -> Value:
    raw = reader.sized()
    if tag == Tag.COLLECTION:
        return _collection(reader, depth + 1)
    if tag in _NUMBERS:
        return int.from_bytes(_exactly(raw, 4), signed=True)
    if tag == Tag.BOOLEAN:
        return _exactly(raw, 1) != b"\0"
    if tag == Tag.RANGE:
        low, high = struct.unpack(">ii", raw)
        return low, high
    if tag in _WITH_LANGUAGE:
        inner = _Reader(raw)
        inner.sized()
        return inner.sized().decode()
    return raw.decode() if tag in _TEXTS else raw


def _collection(reader: _Reader, depth: int) -> Attributes:
    if depth > MOST_DEPTH:
        raise IppFormatError("打印机的应答嵌套过深")
    members: dict[str, Attribute] = {}
    name = ""
    while (tag := reader.byte()) != Tag.END_COLLECTION:
        reader.sized()
        if tag == Tag.MEMBER:
            name = reader.sized().decode()
        else:
            _add(members, name, tag, _read_value(reader, tag, depth))
    reader.sized()
    reader.sized()
    return members


def _exactly(raw: bytes, count: int) -> bytes:
    if len(raw) != count:
        raise IndexError
    return raw
