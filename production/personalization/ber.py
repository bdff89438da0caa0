"""BER-TLV as ISO/IEC 7816-4 and EMV use it: file control information and payment records."""

from __future__ import annotations

from collections.abc import Iterator

from portal.core.errors import InputRefusedError


class BerError(InputRefusedError):
    """Bytes that are no BER-TLV; `where` is the offset."""

    code = "ber_refused"


def encode_ber(tag: int, value: bytes) -> bytes:
    """Return tag, length in the shortest form (up to 65,535 bytes) and value."""
    head = tag.to_bytes((tag.bit_length() + 7) // 8 or 1)
    size = len(value)
    if size < 0x80:
        return head + bytes((size,)) + value
    return head + (bytes((0x81, size)) if size < 0x100 else b"\x82" + size.to_bytes(2)) + value


def decode_ber(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and value of each object; raise BerError with the offset of one that is cut short."""
    at = 0
    while at < len(raw):
        try:
            tag, begin = _tag(raw, at)
            length, begin = _length(raw, begin)
        except IndexError:
            raise BerError("数据对象不完整", where=f"偏移 {at}") from None
        if begin + length > len(raw):
            raise BerError("数据对象不完整", where=f"偏移 {at}", got=f"剩余 {len(raw) - begin} 字节")
        yield tag, raw[begin : begin + length]
        at = begin + length


def find_ber(raw: bytes, *path: int) -> bytes | None:
    """Return the value at a path of tags, None when it is absent or the bytes are no BER-TLV."""
    for wanted in path:
        try:
            found = next((value for tag, value in decode_ber(raw) if tag == wanted), None)
        except BerError:
            return None
        if found is None:
            return None
        raw = found
    return raw


def _tag(raw: bytes, at: int) -> tuple[int, int]:
    tag, at = raw[at], at + 1
    if tag & 0x1F == 0x1F:
        while True:
            tag, at = tag << 8 | raw[at], at + 1
            if not tag & 0x80:
                break
    return tag, at


def _length(raw: bytes, at: int) -> tuple[int, int]:
    first, at = raw[at], at + 1
    if first < 0x80:
        return first, at
    count = first & 0x7F
    if count not in {1, 2}:
        raise BerError("长度写法不支持", where=f"偏移 {at - 1}", got=f"{first:02X}")
    value = int.from_bytes(raw[at : at + count]) if at + count <= len(raw) else raw[len(raw)]
    return value, at + count
