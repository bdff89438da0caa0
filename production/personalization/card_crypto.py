"""What personalization computes for a card: derivation, MACs, sealed blocks, authentication (R-25).

Facts of the card, section 3; what they leave open is an assumption listed in docs/developers/virtual-card.md.
A `CardCipher` keeps one context a key: creating one costs ten times the block it enciphers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from portal.core.crypto import sm4_encryptor, triple_des_encryptor

FACTOR_SIZE = 8
KEY_SIZE = 16
MAC_SIZE = 4


class CardCipher(ABC):
    """One card algorithm: `block` bytes, `code` in key blocks and in the FCI (9F0C), contexts by key."""

    name: str
    title: str
    block: int
    code: int

    def __init__(self) -> None:
        self._contexts: dict[bytes, Callable[[bytes], bytes]] = {}

    @abstractmethod
    def _context(self, key: bytes) -> Callable[[bytes], bytes]:
        """Return what encrypts blocks under a key."""

    @abstractmethod
    def authentication_block(self, key: bytes, factor: bytes, content: bytes) -> bytes:
        """Return the block that proves a key for a process factor and eight bytes chosen by one side."""

    @abstractmethod
    def folded(self, block: bytes) -> bytes:
        """Return the eight bytes of an authentication block that travel."""

    @abstractmethod
    def _folded_mac(self, block: bytes) -> bytes:
        """Return the four bytes of a MAC from its last cipher block."""

    def encrypt(self, key: bytes, blocks: bytes) -> bytes:
        """Encrypt whole blocks on their own; keys and challenges only, never content of files."""
        if len(blocks) % self.block:
            raise ValueError(f"not a multiple of {self.block} bytes: {len(blocks)}")
        return self._encryptor(key)(blocks)

    def _encryptor(self, key: bytes) -> Callable[[bytes], bytes]:
        found = self._contexts.get(key)
        if found is None:
            found = self._contexts[key] = self._context(key)
        return found

    def start(self, challenge: bytes) -> bytes:
        """Return the freshness value of a challenge: its first block, filled up with zeros."""
        return challenge[: self.block].ljust(self.block, b"\x00")

    def padded(self, message: bytes) -> bytes:
        """Append 80 and zeros up to the next full block, also when the message is whole already."""
        return message + b"\x80" + bytes(-(len(message) + 1) % self.block)

    def mac(self, key: bytes, start: bytes, message: bytes) -> tuple[bytes, bytes]:
        """Return the four MAC bytes and the last cipher block, from which the next command's MAC starts."""
        encrypt, size, text = self._encryptor(key), self.block, self.padded(message)
        block = start
        for at in range(0, len(text), size):
            block = encrypt(joined(block, text[at : at + size]))
        return self._folded_mac(block), block

    def sealed(self, key: bytes, content: bytes) -> bytes:
        """Encrypt length and content, filled up with 80 00… to whole blocks."""
        text = bytes((len(content),)) + content
        return self.encrypt(key, self.padded(text) if len(text) % self.block else text)

    def child(self, parent: bytes, factor: bytes) -> bytes:
        """Return the child key of one level: the factor and its complement under the parent."""
        return self.encrypt(parent, factor + bytes(byte ^ 0xFF for byte in factor))


class Sm4Cipher(CardCipher):
    """SM4 of third-generation cards; results of 16 bytes are folded by exclusive or."""

    name, title, block, code = "sm4", "SM4", 16, 0x03

    def _context(self, key: bytes) -> Callable[[bytes], bytes]:
        return sm4_encryptor(key)

    def authentication_block(self, key: bytes, factor: bytes, content: bytes) -> bytes:
        """Use a process key of 16 bytes (A-2)."""
        process_key = self.encrypt(key, self.padded(factor))
        return self._context(process_key)(self.padded(content))

    def folded(self, block: bytes) -> bytes:
        """Join the halves of the block."""
        return joined(block[:8], block[8:])

    def _folded_mac(self, block: bytes) -> bytes:
        half = joined(block[:8], block[8:])
        return joined(half[:MAC_SIZE], half[MAC_SIZE:])


class TripleDesCipher(CardCipher):
    """3DES with two keys of second-generation cards."""

    name, title, block, code = "3des", "3DES", 8, 0x01

    def _context(self, key: bytes) -> Callable[[bytes], bytes]:
        return triple_des_encryptor(key)

    def authentication_block(self, key: bytes, factor: bytes, content: bytes) -> bytes:
        """Use a process key of 8 bytes, single DES (A-2)."""
        return self._context(self.encrypt(key, factor))(content)

    def folded(self, block: bytes) -> bytes:
        """Return the block, which has eight bytes already."""
        return block

    def _folded_mac(self, block: bytes) -> bytes:
        return block[:MAC_SIZE]


_CIPHERS: dict[str, type[CardCipher]] = {cipher.name: cipher for cipher in (Sm4Cipher, TripleDesCipher)}
ALGORITHMS = frozenset(_CIPHERS)


def card_cipher(algorithm: str) -> CardCipher:
    """Return a new cipher of a profile's algorithm; it dies with its keys when the script is computed."""
    return _CIPHERS[algorithm]()


def joined(left: bytes, right: bytes) -> bytes:
    """Return the exclusive or of two texts of one length."""
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))
