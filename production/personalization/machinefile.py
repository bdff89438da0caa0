"""The machine file: what the personalization line gets for one chunk of cards, written and read card by card.

Layout (big endian): magic `SSCMF` and version byte; header (u32 length, UTF-8 JSON); per card a u32
length and the card; u32 zero as end mark; card count u32; SM3 over everything before the digest. Inside
a card: sequence u32, then blank serial, chip content, wrapped keys, three tracks and face JPEG, each
with a u32 length.

Why not a ZIP: its directory stands at the end and lists every entry, so a reader must seek and hold six
entries per card in memory, while this file travels inside a sealed stream that cannot seek. The trailer
tells a complete file from a cut one; authenticity comes from the seal around it. Keys are wrapped under
the transport key of the line and bound to batch, sequence and blank, so that they open for that card
only (R-25).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol, cast

from portal.core.crypto import DIGEST_SIZE, sm3_hasher
from portal.core.errors import InputRefusedError
from production.personalization.stripe import Stripe

MAGIC = b"SSCMF\x01"
MAX_HEADER = 64 * 1024
MAX_CARD = 2 * 1024 * 1024
_PARTS = 7
_U32 = struct.Struct(">I")
_HEAD = struct.Struct(">II")


class MachineFileError(InputRefusedError):
    """A machine file that is cut, damaged, of another version, or not written in order."""

    code = "machine_file"


class Sink(Protocol):
    """Where the bytes go: a sealed writer or an open file."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        ...


class Source(Protocol):
    """Where the bytes come from: a sealed reader or an open file."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


class SeekableSource(Source, Protocol):
    """A source in which cards can be passed over."""

    def tell(self) -> int:
        """Return the present place."""
        ...

    def seek(self, offset: int, whence: int, /) -> int:
        """Move."""
        ...


class KeyWrap(Protocol):
    """The line's transport key, as portal.core.crypto.FieldCipher."""

    def seal(self, plaintext: bytes, context: bytes, /) -> bytes:
        """Encrypt, bound to the context."""
        ...

    def open(self, blob: bytes, context: bytes, /) -> bytes:
        """Decrypt; raise when blob, context or key do not belong together."""
        ...


@dataclass(frozen=True, slots=True)
class MachineHeader:
    """What holds for every card of the chunk; `key_names` is the order of keys inside a card's key block."""

    batch: str
    chunk: int
    profile: str
    face_template: str
    key_names: Sequence[str]


@dataclass(frozen=True, slots=True)
class MachineCard:
    """One card for the line; `keys` is the joined key block, in the clear only in memory."""

    sequence: int
    blank_serial: str
    chip: bytes = field(repr=False)
    keys: bytes = field(repr=False)
    stripe: Stripe = field(repr=False)
    face: bytes = field(repr=False)


class MachineFileWriter:
    """Write cards in rising sequence; `close` writes the trailer, and without it readers refuse the file."""

    def __init__(self, sink: Sink, header: MachineHeader, wrap: KeyWrap) -> None:
        self._sink, self._header, self._wrap = sink, header, wrap
        self._hasher = sm3_hasher()
        self._last = 0
        self.count = 0
        raw = json.dumps(asdict(header), ensure_ascii=False, sort_keys=True).encode()
        if len(raw) > MAX_HEADER:
            raise MachineFileError(
                "机器文件头过长", expected=f"不超过 {MAX_HEADER} 字节", got=f"{len(raw)} 字节"
            )
        self._put(MAGIC + _prefixed(raw))

    def add(self, card: MachineCard) -> None:
        """Append one card; raise MachineFileError when it is out of sequence or too large."""
        if card.sequence <= self._last:
            raise MachineFileError(
                "卡片顺序号没有递增", expected=f"大于 {self._last}", got=str(card.sequence)
            )
        wrapped = self._wrap.seal(card.keys, _context(self._header, card.sequence, card.blank_serial))
        stripe = card.stripe
        parts = (card.chip, wrapped, stripe.track1, stripe.track2, stripe.track3, card.face)
        body = _U32.pack(card.sequence) + b"".join(map(_prefixed, (card.blank_serial.encode(), *parts)))
        if len(body) > MAX_CARD:
            raise MachineFileError(
                "单卡数据过大", expected=f"不超过 {MAX_CARD} 字节", got=f"{len(body)} 字节"
            )
        self._put(_prefixed(body))
        self._last = card.sequence
        self.count += 1

    def close(self) -> bytes:
        """Write end mark, count and digest; return the digest for the batch's record."""
        self._put(_U32.pack(0) + _U32.pack(self.count))
        digest = self._hasher.finalize()
        self._sink.write(digest)
        return digest

    def _put(self, raw: bytes) -> None:
        self._hasher.update(raw)
        self._sink.write(raw)


class MachineFileReader:
    """Read a machine file one card at a time; memory is that of one card.

    Cards are handed out before the trailer is reached: act on them only inside a sealed stream, and
    count the chunk as read only when the iteration ended without an error.
    """

    def __init__(self, source: Source, wrap: KeyWrap) -> None:
        self._source, self._wrap = source, wrap
        self._hasher = sm3_hasher()
        magic = self._take(len(MAGIC), "文件标识")
        if magic != MAGIC:
            raise MachineFileError("不是机器文件，或版本不同", expected=MAGIC.hex(), got=magic.hex())
        self.header = _header(self._take(self._length(MAX_HEADER, "文件头"), "文件头"))

    def __iter__(self) -> Iterator[MachineCard]:
        last = count = 0
        while size := self._length(MAX_CARD, f"第 {count + 1} 张"):
            card = self._card(self._take(size, f"第 {count + 1} 张"), f"第 {count + 1} 张")
            if card.sequence <= last:
                raise MachineFileError("卡片顺序号没有递增", expected=f"大于 {last}", got=str(card.sequence))
            yield card
            last, count = card.sequence, count + 1
        self._trailer(count)

    def places(self) -> dict[str, int]:
        """Return where the card of each blank begins, in bytes; nothing of a card but its serial is read.

        For seekable sources inside a seal: the trailer is not reached.
        """
        source = cast("SeekableSource", self._source)
        found: dict[str, int] = {}
        while size := self._length(MAX_CARD, f"第 {len(found) + 1} 张"):
            begins = source.tell()
            _, length = _HEAD.unpack(_read_exactly(source, _HEAD.size, "卡片"))
            raw = _read_exactly(source, min(length, size), "空白卡编号")
            found[raw.decode("utf-8", "replace")] = begins - _U32.size
            source.seek(begins + size, io.SEEK_SET)
        return found

    def card_at(self, place: int) -> MachineCard:
        """Return the card that begins there; a sealed source decrypts no other."""
        source, where = cast("SeekableSource", self._source), f"位置 {place}"
        source.seek(place, io.SEEK_SET)
        return self._card(self._take(self._length(MAX_CARD, where), where), where)

    def _trailer(self, count: int) -> None:
        (declared,) = _U32.unpack(self._take(_U32.size, "张数"))
        digest = self._hasher.finalize()
        if declared != count:
            raise MachineFileError("张数不符", expected=str(declared), got=str(count))
        if _read_exactly(self._source, DIGEST_SIZE, "摘要") != digest:
            raise MachineFileError("摘要不符，文件已损坏")
        if self._source.read(1):
            raise MachineFileError("文件末尾有多余内容")

    def _card(self, body: bytes, where: str) -> MachineCard:
        parts = _split(body[_U32.size :], where)
        (sequence,) = _U32.unpack(body[: _U32.size])
        try:
            serial = parts[0].decode()
        except UnicodeDecodeError:
            raise MachineFileError("空白卡编号不是文本", where=where) from None
        keys = self._wrap.open(parts[2], _context(self.header, sequence, serial))
        return MachineCard(sequence, serial, parts[1], keys, Stripe(parts[3], parts[4], parts[5]), parts[6])

    def _length(self, limit: int, where: str) -> int:
        (size,) = _U32.unpack(self._take(_U32.size, where))
        if size > limit:
            raise MachineFileError("长度超出范围", where=where, expected=f"不超过 {limit}", got=str(size))
        return int(size)

    def _take(self, size: int, where: str) -> bytes:
        raw = _read_exactly(self._source, size, where)
        self._hasher.update(raw)
        return raw


def _read_exactly(source: Source, size: int, where: str) -> bytes:
    parts: list[bytes] = []
    missing = size
    while missing:
        raw = source.read(missing)
        if not raw:
            raise MachineFileError(
                "机器文件不完整", where=where, expected=f"{size} 字节", got=f"{size - missing} 字节"
            )
        parts.append(raw)
        missing -= len(raw)
    return b"".join(parts)


def _split(raw: bytes, where: str) -> list[bytes]:
    """Return the length-prefixed parts of a card."""
    parts: list[bytes] = []
    offset = 0
    while offset + _U32.size <= len(raw) and len(parts) < _PARTS:
        (size,) = _U32.unpack_from(raw, offset)
        parts.append(raw[offset + _U32.size : offset + _U32.size + size])
        offset += _U32.size + size
    if offset != len(raw) or len(parts) != _PARTS:
        raise MachineFileError(
            "单卡数据结构不对", where=where, expected=f"{_PARTS} 段", got=f"{len(parts)} 段"
        )
    return parts


def _header(raw: bytes) -> MachineHeader:
    try:
        found = json.loads(raw)
        names = found.pop("key_names")
        texts = [found[key] for key in ("batch", "profile", "face_template")]
        if not all(isinstance(text, str) for text in (*texts, *names)) or type(found["chunk"]) is not int:
            raise MachineFileError("机器文件头的值类型不对")
        return MachineHeader(key_names=tuple(names), **found)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MachineFileError("机器文件头无法读取") from None


def _context(header: MachineHeader, sequence: int, serial: str) -> bytes:
    return f"machine-card|{header.batch}|{header.chunk}|{sequence}|{serial}".encode()


def _prefixed(raw: bytes) -> bytes:
    return _U32.pack(len(raw)) + raw
