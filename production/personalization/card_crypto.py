"""What personalization computes for a card with SM4: MACs, sealed blocks, authentication.

Facts of the card, section 3; what they leave open is an assumption listed in docs/developers/virtual-card.md.
"""

from __future__ import annotations

from portal.core.crypto import BLOCK_SIZE, sm4_blocks

FACTOR_SIZE = 8
MAC_SIZE = 4


def padded(message: bytes) -> bytes:
    """Append 80 and zeros up to the next full block, also when the message is whole already."""
    return message + b"\x80" + bytes(-(len(message) + 1) % BLOCK_SIZE)


def cbc_mac(key: bytes, start: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Return the four MAC bytes and the last cipher block, from which the next command's MAC starts."""
    block = start
    text = padded(message)
    for at in range(0, len(text), BLOCK_SIZE):
        block = sm4_blocks(key, _xor(block, text[at : at + BLOCK_SIZE]))
    words = [block[at : at + MAC_SIZE] for at in range(0, BLOCK_SIZE, MAC_SIZE)]
    mac = words[0]
    for word in words[1:]:
        mac = _xor(mac, word)
    return mac, block


def sealed_block(key: bytes, content: bytes) -> bytes:
    """Encrypt length and content, filled up with 80 00…, block by block."""
    text = bytes((len(content),)) + content
    if len(text) % BLOCK_SIZE:
        text = padded(text)
    return sm4_blocks(key, text)


def authentication_block(key: bytes, factor: bytes, content: bytes) -> bytes:
    """Return the block that proves a key for a process factor and eight bytes chosen by the other side."""
    process_key = sm4_blocks(key, padded(factor))
    return sm4_blocks(process_key, padded(content))


def folded(block: bytes) -> bytes:
    """Return the eight bytes that travel: the halves of the block joined by exclusive or."""
    return _xor(block[:FACTOR_SIZE], block[FACTOR_SIZE:])


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
