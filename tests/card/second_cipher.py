"""The card's cryptography once more on other libraries (gmssl, pycryptodomex), to hold vectors against."""

from __future__ import annotations

from collections.abc import Callable

from Cryptodome.Cipher import DES, DES3
from gmssl.sm4 import SM4_ENCRYPT, CryptSM4

Encrypt = Callable[[bytes], bytes]


def sm4(key: bytes) -> Encrypt:
    """Return SM4 of one block."""
    context = CryptSM4()
    context.set_key(key, SM4_ENCRYPT)
    return lambda block: bytes(context.one_round(context.sk, list(block)))


def des(key: bytes) -> Encrypt:
    """Return DES of one block under 8 bytes, 3DES under 16."""
    made = DES.new(key, DES.MODE_ECB) if len(key) == 8 else DES3.new(key, DES3.MODE_ECB)
    return made.encrypt


class Second:
    """MAC, sealing, authentication and derivation, written down from docs/developers/virtual-card.md §2."""

    def __init__(self, algorithm: str) -> None:
        self.cipher, self.size = (sm4, 16) if algorithm == "sm4" else (des, 8)

    def pad(self, text: bytes) -> bytes:
        text += b"\x80"
        while len(text) % self.size:
            text += b"\x00"
        return text

    def blocks(self, key: bytes, text: bytes) -> bytes:
        encrypt = self.cipher(key)
        return b"".join(encrypt(text[at : at + self.size]) for at in range(0, len(text), self.size))

    def cbc(self, key: bytes, start: bytes, text: bytes) -> bytes:
        block, encrypt = start, self.cipher(key)
        for at in range(0, len(text), self.size):
            block = encrypt(bytes(a ^ b for a, b in zip(block, text[at : at + self.size], strict=True)))
        return block

    def mac(self, key: bytes, start: bytes, message: bytes) -> tuple[bytes, bytes]:
        last = self.cbc(key, start, self.pad(message))
        if self.size == 8:
            return last[:4], last
        return bytes(last[n] ^ last[n + 4] ^ last[n + 8] ^ last[n + 12] for n in range(4)), last

    def seal(self, key: bytes, content: bytes) -> bytes:
        text = bytes((len(content),)) + content
        return self.blocks(key, text if len(text) % self.size == 0 else self.pad(text))

    def authenticate(self, key: bytes, factor: bytes, content: bytes) -> tuple[bytes, bytes]:
        """Return the cryptogram and the whole block."""
        if self.size == 8:
            block = des(des(key)(factor))(content)
            return block, block
        block = sm4(sm4(key)(self.pad(factor)))(self.pad(content))
        return bytes(block[n] ^ block[n + 8] for n in range(8)), block

    def child(self, parent: bytes, factor: bytes) -> bytes:
        return self.blocks(parent, factor + bytes(0xFF - byte for byte in factor))


def retail_mac(key: bytes, start: bytes, text: bytes) -> bytes:
    """Return ISO/IEC 9797-1 algorithm 3 with padding 80 00…: single DES, then D and E at the end."""
    block = Second("3des").cbc(key[:8], start, Second("3des").pad(text))
    return DES.new(key[:8], DES.MODE_ECB).encrypt(DES.new(key[8:], DES.MODE_ECB).decrypt(block))
