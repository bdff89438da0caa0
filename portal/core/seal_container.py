"""The ZIP around a sealed package: two stored members and nothing else; sizes are checked before use."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from typing import BinaryIO

from portal.core.seal_refusals import (
    ContainerBrokenError,
    EnvelopeOversizeError,
    MemberCompressedError,
    MembersRefusedError,
    MemberStreamedError,
    NotAContainerError,
    SizeMismatchError,
)

ENVELOPE_NAME = "envelope.json"
PAYLOAD_NAME = "payload.bin"
MAX_ENVELOPE_SIZE = 64 * 1024

_MAX_DIRECTORY_SIZE = 4 * 1024
_ENCRYPTED, _STREAMED, _UTF8 = 0x1, 0x8, 0x800
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL = struct.Struct("<4s5H3L2H")
_UNREADABLE = (
    zipfile.BadZipFile,
    struct.error,
    ValueError,  # UnicodeDecodeError among them
    OverflowError,
    NotImplementedError,
    RuntimeError,
    EOFError,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the payload lies in the container, and the envelope's bytes."""

    envelope: bytes
    payload_offset: int
    payload_size: int


def read_layout(container: BinaryIO) -> Layout:
    """Check the container's structure; raise the SealRefusedError of the first thing that is wrong."""
    _check_end(container)
    try:
        with zipfile.ZipFile(container) as archive:
            members = _members(archive)
            spans = [_span(container, member) for member in members.values()]
            _check_spans(spans, archive.start_dir)
            envelope = archive.read(ENVELOPE_NAME)
    except _UNREADABLE as exc:
        raise ContainerBrokenError("数据包的 ZIP 结构有误", where=type(exc).__name__) from exc
    payload = members[PAYLOAD_NAME]
    _, offset, _ = _span(container, payload)
    return Layout(envelope, offset, payload.file_size)


def _check_end(container: BinaryIO) -> None:
    """Refuse what does not end in a plain end record, before zipfile reads a directory of any size."""
    size = container.seek(0, io.SEEK_END)
    container.seek(0)
    if container.read(4) != b"PK\x03\x04":
        raise NotAContainerError("不是数据包：文件开头不是 ZIP", expected="PK 03 04")
    tail_size = min(size, _END.size + _END64_LOCATOR.size + _END64.size)
    container.seek(size - tail_size)
    tail = container.read(tail_size)
    if len(tail) < _END.size or not tail[-_END.size :].startswith(b"PK\x05\x06"):
        raise NotAContainerError("数据包不完整或末尾有多余内容", where="文件末尾", expected="ZIP 结束记录")
    _, _, _, _, count, directory_size, _, comment = _END.unpack(tail[-_END.size :])
    if comment:
        raise ContainerBrokenError("数据包带有 ZIP 注释", where="文件末尾", expected="无注释")
    wide = _end64(tail)
    if wide:
        count, directory_size = max(count, wide[0]), max(directory_size, wide[1])
    if count != 2:
        raise MembersRefusedError("数据包成员数不对", expected="2", got=str(count))
    if directory_size > _MAX_DIRECTORY_SIZE:
        raise ContainerBrokenError(
            "ZIP 目录过大", expected=f"不超过 {_MAX_DIRECTORY_SIZE} 字节", got=f"{directory_size} 字节"
        )


def _end64(tail: bytes) -> tuple[int, int] | None:
    """Return count and size of the ZIP64 directory, when the container is so large that it has one."""
    locator = tail[-_END.size - _END64_LOCATOR.size : -_END.size]
    if not locator.startswith(b"PK\x06\x07"):
        return None
    record = tail[: -_END.size - _END64_LOCATOR.size]
    if len(record) != _END64.size or not record.startswith(b"PK\x06\x06"):
        raise ContainerBrokenError("ZIP64 结束记录有误", where="文件末尾")
    _, _, _, _, _, _, _, count, size, _ = _END64.unpack(record)
    return count, size


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found = {member.orig_filename: member for member in archive.infolist()}
    if len(found) != 2 or found.keys() != {ENVELOPE_NAME, PAYLOAD_NAME}:
        raise MembersRefusedError(
            "数据包成员不对", expected=f"{ENVELOPE_NAME}, {PAYLOAD_NAME}", got=repr(archive.namelist())[:200]
        )
    for name, member in found.items():
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _ENCRYPTED:
            raise MemberCompressedError("数据包成员须原样存放，不得压缩或加密", where=name)
        if member.flag_bits & _STREAMED:
            raise MemberStreamedError("数据包成员的长度须写在前面，不得使用数据描述符", where=name)
        if member.flag_bits & ~_UTF8:
            raise ContainerBrokenError("成员带有不认识的标志", where=name, got=hex(member.flag_bits))
        if member.compress_size != member.file_size:
            raise SizeMismatchError(
                "成员大小自相矛盾", where=name, expected=str(member.compress_size), got=str(member.file_size)
            )
    if found[ENVELOPE_NAME].file_size > MAX_ENVELOPE_SIZE:
        raise EnvelopeOversizeError(
            "信封过大",
            where=ENVELOPE_NAME,
            expected=f"不超过 {MAX_ENVELOPE_SIZE} 字节",
            got=f"{found[ENVELOPE_NAME].file_size} 字节",
        )
    return found


def _span(container: BinaryIO, member: zipfile.ZipInfo) -> tuple[int, int, int]:
    """Return where the member's local header, its content and its end lie."""
    container.seek(member.header_offset)
    header = container.read(_LOCAL.size)
    if len(header) != _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise ContainerBrokenError("成员头有误", where=member.filename)
    _, _, flags, method, _, _, crc, _, _, name_length, extra_length = _LOCAL.unpack(header)
    claimed = (container.read(name_length), flags, method, crc)
    if claimed != (member.orig_filename.encode(), member.flag_bits, member.compress_type, member.CRC):
        raise ContainerBrokenError("成员头与目录不一致", where=member.filename)
    start = member.header_offset + _LOCAL.size + name_length + extra_length
    return member.header_offset, start, start + member.file_size


def _check_spans(spans: list[tuple[int, int, int]], directory_start: int) -> None:
    """Refuse members that overlap or reach into the directory, and bytes hidden before, between or behind."""
    first, second = sorted(spans)
    if first[0] != 0 or first[2] != second[0] or second[2] != directory_start:
        raise ContainerBrokenError("成员的位置互相重叠、超出文件或留有空隙")
