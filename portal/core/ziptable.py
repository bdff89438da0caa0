"""Read a ZIP of any number of members in constant memory, and refuse the hostile ones.

Why not `zipfile`: its constructor builds one ZipInfo and one dictionary entry per member, about 70 MB for the
100,000 photos of a package, which alone would break the memory goal; and it believes the directory where the
directory and the file disagree. This reader walks the directory block by block, yields one small `Entry` at a
time, and knows where each member must end because it looks one entry ahead.

It is stricter than the format (APPNOTE.TXT 6.3.10): nothing may follow the directory's end, members stand in
the file in the order of the directory and never overlap, and only stored and deflated members are read. Every
common writer produces that. Duplicate names are left to the caller, who has a database to find them with.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple

from zlib_ng import zlib_ng

from portal.core.ziprefusals import (
    NotAZipError,
    ZipBombError,
    ZipEncryptedError,
    ZipMethodError,
    ZipMismatchError,
    ZipOverlapError,
    ZipOversizeError,
    ZipPathError,
    ZipRefusedError,
    ZipTooManyError,
    shown_name,
)

STORED: Final = 0
DEFLATED: Final = 8
BLOCK: Final = 1 << 16

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 0xFFFF
_FULL_16 = 0xFFFF
_FULL_32 = 0xFFFFFFFF
_FLAG_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_FLAG_PATCHED = 1 << 5
_FLAG_SIZES_FOLLOW = 1 << 3
_FLAG_UTF8 = 1 << 11
_UNIX_TYPE = 0o170000 << 16
_UNIX_LINK = 0o120000 << 16
_EXTRA_64 = 0x0001
_RATIO_FLOOR = 1 << 20
_MISPLACED = "压缩包目录位置不符，文件不完整或被改动"


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """What a ZIP may hold; sizes in bytes, `max_ratio` unpacked to packed above one MiB."""

    max_members: int = 200_000
    max_entry_size: int = 512 << 20
    max_total_size: int = 8 << 30
    max_ratio: int = 200
    max_name_length: int = 255


class Entry(NamedTuple):
    """One member as the directory describes it; its bytes lie in the file between `offset` and `end`."""

    name: str
    offset: int
    compressed_size: int
    size: int
    method: int
    crc: int
    end: int

    @property
    def is_folder(self) -> bool:
        """Tell a folder's placeholder from a file."""
        return self.name.endswith("/")


class _Directory(NamedTuple):
    """Where the central directory lies."""

    start: int
    size: int
    members: int


def iter_entries(file: BinaryIO, limits: ZipLimits | None = None) -> Iterator[Entry]:
    """Yield the members in file order, each checked against the limits, or raise a ZipRefusedError.

    The file may be read by others between two entries: every access seeks first.
    """
    limits = limits or ZipLimits()
    directory = _find_directory(file)
    if directory.members > limits.max_members:
        raise ZipTooManyError(
            "压缩包内文件过多", expected=f"≤ {limits.max_members}", got=str(directory.members)
        )
    waiting: Entry | None = None
    total = 0
    for entry in _walk(file, directory, limits):
        total += entry.size
        if total > limits.max_total_size:
            raise ZipOversizeError(
                "压缩包解压后总量过大", expected=f"≤ {limits.max_total_size} 字节", got=f"≥ {total}"
            )
        if waiting is not None:
            yield _bounded(waiting, entry.offset)
        waiting = entry
    if waiting is not None:
        yield _bounded(waiting, directory.start)


def read_entry(file: BinaryIO, entry: Entry, max_size: int) -> bytes:
    """Return a member's content, complete and with its checksum right; for members that fit in memory."""
    _check_size(entry, max_size)
    span = min(entry.end - entry.offset, _LOCAL.size + 2 * _FULL_16 + entry.compressed_size)
    return content_of(_take(file, entry.offset, span), entry)


def member_at(block: bytes, offset: int) -> tuple[str, int]:
    """Return name and whole header's length of the member whose own header begins the block.

    For members whose place was noted and whose name was not; `offset` only tells where, if it is none.
    """
    if len(block) < _LOCAL.size or not block.startswith(b"PK\3\4"):
        raise ZipMismatchError("文件头与压缩包目录不一致", where=f"第 {offset} 字节")
    _, _, flags, *_, name_size, extra_size = _LOCAL.unpack_from(block)
    name_end = _LOCAL.size + name_size
    return _decode_name(block[_LOCAL.size : name_end], flags), name_end + extra_size


def content_of(block: bytes, entry: Entry) -> bytes:
    """Return the content of the member whose own header begins the block, its checksum right."""
    start = _content_start(block, entry)
    packed = block[start : start + entry.compressed_size]
    content = packed if entry.method == STORED else _inflate(packed, entry)
    if len(content) != entry.size or zlib_ng.crc32(content) != entry.crc:
        raise _broken(entry)
    return content


def open_entry(file: BinaryIO, entry: Entry, max_size: int) -> Iterator[bytes]:
    """Yield a member's content in blocks of at most 64 KiB; a wrong checksum shows only at the end."""
    _check_size(entry, max_size)
    head = _take(file, entry.offset, min(entry.end - entry.offset, _LOCAL.size + 2 * _FULL_16))
    start = entry.offset + _content_start(head, entry)
    size = crc = 0
    for block in _unpacked_blocks(file, start, entry):
        size += len(block)
        if size > entry.size:
            raise _broken(entry)
        crc = zlib_ng.crc32(block, crc)
        yield block
    if size != entry.size or crc != entry.crc:
        raise _broken(entry)


def _take(file: BinaryIO, start: int, count: int) -> bytes:
    """Read exactly `count` bytes at `start`."""
    file.seek(start)
    block = file.read(count)
    while len(block) < count:
        more = file.read(count - len(block))
        if not more:
            raise NotAZipError("压缩包不完整，文件在中途结束", where=f"第 {start} 字节")
        block += more
    return block


def _find_directory(file: BinaryIO) -> _Directory:
    """Find the end record and through it the directory, in the 64-bit form where there is one."""
    length = file.seek(0, 2)
    position, end = _find_end(file, length)
    _, disk, directory_disk, count_here, count, size, start, _ = end
    located = _find_end_64(file, position)
    if located is not None:
        position, (disk, directory_disk, count_here, count, size, start) = located
    if disk or directory_disk or count_here != count:
        raise NotAZipError("分卷压缩包不受支持")
    if start + size != position:
        raise NotAZipError(
            "压缩包目录位置不符，文件不完整或被改动", expected=str(position), got=str(start + size)
        )
    if count * _CENTRAL.size > size:
        raise NotAZipError("压缩包目录不完整", expected=f"{count} 个文件")
    return _Directory(start, size, count)


def _find_end(file: BinaryIO, length: int) -> tuple[int, tuple[int, ...]]:
    tail_start = max(0, length - _END.size - _MAX_COMMENT)
    tail = _take(file, tail_start, length - tail_start)
    found = tail.rfind(b"PK\5\6")
    while found >= 0:
        if found + _END.size <= len(tail):
            end = _END.unpack_from(tail, found)
            if found + _END.size + end[-1] == len(tail):
                return tail_start + found, end
        found = tail.rfind(b"PK\5\6", 0, found)
    raise NotAZipError("不是 ZIP 压缩包，或文件不完整")


def _find_end_64(file: BinaryIO, position: int) -> tuple[int, tuple[int, ...]] | None:
    """Return position and fields of the 64-bit end record that a locator before `position` points to."""
    locator_at = position - _LOCATOR_64.size
    if locator_at < 0:
        return None
    mark, disk, record_at, disks = _LOCATOR_64.unpack(_take(file, locator_at, _LOCATOR_64.size))
    if mark != b"PK\6\7":
        return None
    if disk or disks > 1 or record_at + _END_64.size > locator_at:
        raise NotAZipError(_MISPLACED)
    mark, length, _, _, *fields = _END_64.unpack(_take(file, record_at, _END_64.size))
    if mark != b"PK\6\6" or record_at + 12 + length != locator_at:
        raise NotAZipError(_MISPLACED)
    return record_at, tuple(fields)


def _walk(file: BinaryIO, directory: _Directory, limits: ZipLimits) -> Iterator[Entry]:
    """Parse the directory through one buffer; `end` of the entries is the earliest possible one."""
    buffer, at, taken, earliest = b"", 0, 0, 0
    for _ in range(directory.members):
        if len(buffer) - at < _CENTRAL.size + 3 * _FULL_16 and taken < directory.size:
            more = min(BLOCK * 4, directory.size - taken)
            buffer, at = buffer[at:] + _take(file, directory.start + taken, more), 0
            taken += more
        if len(buffer) - at < _CENTRAL.size:
            raise NotAZipError("压缩包目录不完整")
        entry, at = _parse_central(buffer, at, limits)
        if entry.offset < earliest or entry.end > directory.start:
            raise ZipOverlapError("压缩包内文件互相重叠或次序不符", where=shown_name(entry.name))
        earliest = entry.end
        yield entry
    if taken != directory.size or at != len(buffer):
        raise NotAZipError("压缩包目录与文件数不符", expected=f"{directory.members} 个文件")


def _parse_central(buffer: bytes, at: int, limits: ZipLimits) -> tuple[Entry, int]:
    """Return the entry whose record begins at `at`, and where the next record begins."""
    fields = _CENTRAL.unpack_from(buffer, at)
    mark, made_by, _, flags, method, _, _, crc, packed, size, name_size, extra_size, note_size = fields[:13]
    disk, _, attributes, offset = fields[13], fields[14], fields[15], fields[16]
    name_end = at + _CENTRAL.size + name_size
    following = name_end + extra_size + note_size
    if mark != b"PK\1\2" or following > len(buffer):
        raise NotAZipError("压缩包目录不完整")
    name = _decode_name(buffer[name_end - name_size : name_end], flags)
    _check_name(name, limits)
    if made_by >> 8 == 3 and attributes & _UNIX_TYPE == _UNIX_LINK:
        raise ZipPathError("压缩包内不得有链接", where=shown_name(name))
    if _FULL_32 in (size, packed, offset) or disk == _FULL_16:
        size, packed, offset = _wide(buffer[name_end : name_end + extra_size], (size, packed, offset), name)
    entry = Entry(name, offset, packed, size, method, crc, offset + _LOCAL.size + name_size + packed)
    _check_kind(name, flags, method)
    _check_sizes(entry, limits)
    return entry, following


def _decode_name(raw: bytes, flags: int) -> str:
    try:  # ASCII is the same either way, and cp437's codec is slow
        return raw.decode("utf-8" if flags & _FLAG_UTF8 or raw.isascii() else "cp437")
    except UnicodeDecodeError:
        raise ZipPathError("压缩包内文件名编码错误", got=repr(raw[:40])) from None


def _check_name(name: str, limits: ZipLimits) -> None:
    """Allow only relative paths of plain components, so that a name can be used below any folder."""
    parts = name.removesuffix("/").split("/")
    plain = name.isprintable() and "\\" not in name and name[1:2] != ":"
    if not plain or any(part in ("", ".", "..") for part in parts):
        raise ZipPathError("压缩包内文件名不安全", where=shown_name(name))
    if len(name) > limits.max_name_length:
        raise ZipPathError(
            "压缩包内文件名过长", where=shown_name(name), expected=f"≤ {limits.max_name_length}"
        )


def _check_kind(name: str, flags: int, method: int) -> None:
    if flags & _FLAG_ENCRYPTED:
        raise ZipEncryptedError("压缩包内文件有密码保护", where=shown_name(name))
    if method not in (STORED, DEFLATED) or flags & _FLAG_PATCHED:
        raise ZipMethodError(
            "压缩方式不受支持", where=shown_name(name), expected="stored、deflated", got=str(method)
        )


def _check_sizes(entry: Entry, limits: ZipLimits) -> None:
    if entry.method == STORED and entry.size != entry.compressed_size:
        raise ZipMismatchError("压缩包内文件大小自相矛盾", where=shown_name(entry.name))
    _check_size(entry, limits.max_entry_size)
    if entry.size > _RATIO_FLOOR and entry.size > entry.compressed_size * limits.max_ratio:
        ratio = entry.size // max(entry.compressed_size, 1)
        raise ZipBombError(
            "压缩比异常", where=shown_name(entry.name), expected=f"≤ {limits.max_ratio}", got=str(ratio)
        )


def _check_size(entry: Entry, max_size: int) -> None:
    if entry.size > max_size:
        limit = f"≤ {max_size} 字节"
        where = shown_name(entry.name)
        raise ZipOversizeError("压缩包内文件过大", where=where, expected=limit, got=str(entry.size))


def _wide(extra: bytes, narrow: tuple[int, int, int], name: str) -> tuple[int, int, int]:
    """Replace the full ones of (size, packed size, offset) by those of the ZIP64 extra field (4.5.3)."""
    body = _extra_64(extra)
    values, at = [], 0
    for value in narrow:
        if value != _FULL_32:
            values.append(value)
            continue
        if at + 8 > len(body):
            raise ZipMismatchError("压缩包的 64 位大小缺失", where=shown_name(name))
        values.append(int.from_bytes(body[at : at + 8], "little"))
        at += 8
    size, packed, offset = values
    return size, packed, offset


def _extra_64(extra: bytes) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _EXTRA_64:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _bounded(entry: Entry, following: int) -> Entry:
    return entry._replace(end=following)


def _content_start(block: bytes, entry: Entry) -> int:
    """Return where in `block` the content begins, after comparing the member's own header with the entry."""
    if len(block) < _LOCAL.size:
        raise NotAZipError("压缩包不完整", where=shown_name(entry.name))
    mark, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack_from(block)
    name_end = _LOCAL.size + name_size
    start: int = name_end + extra_size
    if _FULL_32 in (packed, size):
        size, packed, _ = _wide(block[name_end:start], (size, packed, 0), entry.name)
    agreed = _sizes_agree(entry, (crc, packed, size), bool(flags & _FLAG_SIZES_FOLLOW))
    if mark != b"PK\3\4" or method != entry.method or flags & _FLAG_ENCRYPTED or not agreed:
        raise ZipMismatchError("文件头与压缩包目录不一致", where=shown_name(entry.name))
    if _decode_name(block[_LOCAL.size : name_end], flags) != entry.name:
        raise ZipMismatchError("文件头与压缩包目录的文件名不一致", where=shown_name(entry.name))
    if entry.offset + start + entry.compressed_size > entry.end:
        raise ZipOverlapError("压缩包内文件互相重叠", where=shown_name(entry.name))
    return start


def _sizes_agree(entry: Entry, theirs: tuple[int, int, int], sizes_follow: bool) -> bool:
    """Compare a header's checksum and sizes; one written as a stream may leave each of them zero (4.4.4)."""
    ours = (entry.crc, entry.compressed_size, entry.size)
    return theirs == ours or (sizes_follow and all(a in (0, b) for a, b in zip(theirs, ours, strict=True)))


def _inflate(packed: bytes, entry: Entry) -> bytes:
    """Unpack at most one byte more than the directory promises."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(packed, entry.size + 1)
    except zlib.error:
        raise _broken(entry) from None
    if not unpacker.eof or unpacker.unused_data:
        raise _broken(entry)
    return content


def _unpacked_blocks(file: BinaryIO, start: int, entry: Entry) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == DEFLATED else None
    for at in range(0, entry.compressed_size, BLOCK):
        packed = _take(file, start + at, min(BLOCK, entry.compressed_size - at))
        if unpacker is None:
            yield packed
            continue
        while packed:
            try:
                block = unpacker.decompress(packed, BLOCK)
            except zlib.error:
                raise _broken(entry) from None
            if block:
                yield block
            packed = unpacker.unconsumed_tail
    if unpacker is not None and (not unpacker.eof or unpacker.unused_data):
        raise _broken(entry)


def _broken(entry: Entry) -> ZipRefusedError:
    return ZipRefusedError("压缩包内文件已损坏，校验不符", where=shown_name(entry.name))
