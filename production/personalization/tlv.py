"""Record TLV of the card's files: tag 1 byte, length 1 byte, value, and the two value types `an` and `cn`.

Facts of the card, section 1: `cn` is BCD padded right with F, `an` is GB18030 (of which GBK and ASCII
are parts) padded right with 00. Some writers pad the name extension with FF, so reading accepts both.
`hx` is ours: bytes that the standard lists as `cn` although the value holds hexadecimal digits (卡识别码
carries the RID D156000005).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from portal.core.errors import InputRefusedError
from portal.core.names import decode_gb18030, encode_gb18030

MAX_LENGTH = 255
_HEX = frozenset("0123456789ABCDEF")


class TlvError(InputRefusedError):
    """A record or value that does not follow the coding; `where` names the tag or the offset."""

    code = "tlv_refused"


class Kind(StrEnum):
    """How a value is written."""

    AN = "an"
    CN = "cn"
    HX = "hx"


def encode_value(kind: Kind, text: str, length: int) -> bytes:
    """Return exactly `length` bytes; raise TlvError, without the value in it, when the text does not fit."""
    if kind is Kind.AN:
        return _encode_an(text, length)
    if kind is Kind.CN:
        return _encode_cn(text, length)
    if len(text) != 2 * length or not _HEX.issuperset(text):
        raise TlvError("十六进制值不符", expected=f"{2 * length} 位大写十六进制", got=f"{len(text)} 位")
    return bytes.fromhex(text)


def decode_value(kind: Kind, value: bytes) -> str:
    """Return the text without padding; a field of padding only gives the empty text."""
    if kind is Kind.AN:
        return _decode_an(value)
    return _decode_cn(value) if kind is Kind.CN else value.hex().upper()


def padding(kind: Kind, length: int) -> bytes:
    """Return what a field holds before it is personalized."""
    return (b"\xff" if kind is Kind.CN else b"\x00") * length


def encode_record(tag: int, value: bytes) -> bytes:
    """Return tag, length and value."""
    if not 0 <= tag <= 0xFF or len(value) > MAX_LENGTH:
        raise TlvError(
            "记录超出范围", where=f"{tag:02X}", expected=f"不超过 {MAX_LENGTH} 字节", got=f"{len(value)} 字节"
        )
    return bytes((tag, len(value))) + value


def encode_records(records: Iterable[tuple[int, bytes]]) -> bytes:
    """Join records as they stand in one file, in record order."""
    return b"".join(encode_record(tag, value) for tag, value in records)


def decode_records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and value of each record; raise TlvError with the offset when the last one is cut short."""
    offset, end = 0, len(content)
    while offset < end:
        if offset + 2 > end or offset + 2 + content[offset + 1] > end:
            raise TlvError("记录不完整", where=f"偏移 {offset}", got=f"剩余 {end - offset} 字节")
        tag, length = content[offset], content[offset + 1]
        yield tag, content[offset + 2 : offset + 2 + length]
        offset += 2 + length


def _encode_an(text: str, length: int) -> bytes:
    try:
        raw = encode_gb18030(text)
    except UnicodeEncodeError:  # from None: the chained error would show the person's text
        raise TlvError("含有无法编码的字符", expected="GB 18030 字符") from None
    if b"\x00" in raw:
        raise TlvError("含有空字符", expected="可打印字符")
    if len(raw) > length:
        raise TlvError("值过长", expected=f"不超过 {length} 字节", got=f"{len(raw)} 字节")
    return raw.ljust(length, b"\x00")


def _decode_an(value: bytes) -> str:
    # Neither 00 nor FF occurs in a GB 18030 character other than NUL, so the padding is unambiguous.
    raw = value.rstrip(b"\x00\xff")
    if b"\x00" in raw:
        raise TlvError("填充字节出现在值的中间", expected="填充只在末尾")
    try:
        return decode_gb18030(raw)
    except UnicodeDecodeError:
        raise TlvError("不是 GB 18030 编码", got=f"{len(raw)} 字节") from None


def _encode_cn(text: str, length: int) -> bytes:
    if not (text.isascii() and (text.isdigit() or not text)):
        raise TlvError("不是数字", expected="0–9")
    if len(text) > 2 * length:
        raise TlvError("数字过长", expected=f"不超过 {2 * length} 位", got=f"{len(text)} 位")
    return bytes.fromhex(text.ljust(2 * length, "F"))


def _decode_cn(value: bytes) -> str:
    # BCD cannot tell 00 padding of a blank card from zeros, so it stays zeros.
    digits = value.hex().upper().rstrip("F")
    if digits and not digits.isdigit():
        raise TlvError("不是 BCD 码", expected="0–9，右补 F")
    return digits
