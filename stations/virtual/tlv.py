"""The card's own TLV: short records, BER templates of FCIs, and data groupings of EMV CPS."""

from __future__ import annotations

from collections.abc import Iterator

LONG = 0xFF  # a data grouping's length follows in two bytes


def record(tag: int, value: bytes) -> bytes:
    """Return tag, length and value of a record of at most 255 bytes, one byte each."""
    return bytes((tag, len(value))) + value


def template(tag: str, *parts: bytes) -> bytes:
    """Return a BER TLV of at most 65,535 bytes; the tag in hexadecimal digits."""
    value = b"".join(parts)
    if len(value) < 0x80:
        length = bytes((len(value),))
    elif len(value) < 0x100:
        length = bytes((0x81, len(value)))
    else:
        length = b"\x82" + len(value).to_bytes(2)
    return bytes.fromhex(tag) + length + value


def groupings(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield id and content of each data grouping; raise ValueError where one is cut."""
    at = 0
    while at < len(message):
        if len(message) - at < 3:
            raise ValueError("a data grouping without length")
        group, length = int.from_bytes(message[at : at + 2]), message[at + 2]
        at += 3
        if length == LONG:
            length, at = int.from_bytes(message[at : at + 2]), at + 2
        if at + length > len(message):
            raise ValueError("a data grouping is cut")
        yield group, message[at : at + length]
        at += length
