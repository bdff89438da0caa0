"""The card's own cryptography (docs/developers/virtual-card.md §2), written apart from the portal's.

The portal computes what the card checks. Sharing this code with it would hide a mistake both make: so it uses
the ciphers of `cryptography` directly and imports nothing of the project.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, modes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4

ECB = modes.ECB()  # noqa: S305 - single blocks, as the card's documents have it
KEY_SIZE = 16
FACTOR_SIZE = 8
MAC_SIZE = 4


class Algorithm(Enum):
    """The card's algorithm by its code in tag 86 of the FCI and in a key block."""

    TRIPLE_DES = 1
    SM4 = 3

    @property
    def block(self) -> int:
        """Return the block size in bytes."""
        return 16 if self is Algorithm.SM4 else 8


@dataclass(frozen=True, slots=True)
class Authentication:
    """A cryptogram of 8 bytes and the whole last block, which the chain goes on with."""

    cryptogram: bytes
    chain: bytes


@dataclass(frozen=True, slots=True)
class Mac:
    """A MAC of 4 bytes and the whole last block, which the chain goes on with."""

    value: bytes
    chain: bytes


def encrypt(algorithm: Algorithm, key: bytes, blocks: bytes) -> bytes:
    """Encrypt whole blocks in ECB; an 8-byte 3DES key is a single DES key."""
    context: CipherContext = _cipher(algorithm, key, ECB).encryptor()
    return context.update(blocks) + context.finalize()


def decrypt(algorithm: Algorithm, key: bytes, blocks: bytes) -> bytes:
    """Decrypt whole blocks in ECB."""
    context: CipherContext = _cipher(algorithm, key, ECB).decryptor()
    return context.update(blocks) + context.finalize()


def encrypt_chained(algorithm: Algorithm, key: bytes, start: bytes, blocks: bytes) -> bytes:
    """Encrypt whole blocks in CBC."""
    context: CipherContext = _cipher(algorithm, key, modes.CBC(start)).encryptor()
    return context.update(blocks) + context.finalize()


def pad(message: bytes, block: int) -> bytes:
    """Append 80 and as many 00 as fill the block; always, also to a full one."""
    return message + b"\x80" + bytes(-(len(message) + 1) % block)


def diversify(algorithm: Algorithm, parent: bytes, factor: bytes) -> bytes:
    """Return the child key of one level."""
    opposite = bytes(byte ^ 0xFF for byte in factor)
    return encrypt(algorithm, parent, factor + opposite)


def authenticate(algorithm: Algorithm, key: bytes, factor: bytes, challenge: bytes) -> Authentication:
    """Encrypt the 8-byte challenge under the process key that the 8-byte factor makes of a key."""
    if algorithm is Algorithm.TRIPLE_DES:
        answer = encrypt(algorithm, encrypt(algorithm, key, factor), challenge)
        return Authentication(answer, answer)
    process_key = encrypt(algorithm, key, pad(factor, 16))
    answer = encrypt(algorithm, process_key, pad(challenge, 16))
    return Authentication(_xor(answer[:8], answer[8:]), answer)


def mac(algorithm: Algorithm, key: bytes, start: bytes, message: bytes) -> Mac:
    """Return the MAC of header and data as sent, without the MAC itself."""
    last = encrypt_chained(algorithm, key, start, pad(message, algorithm.block))[-algorithm.block :]
    if algorithm is Algorithm.TRIPLE_DES:
        return Mac(last[:MAC_SIZE], last)
    return Mac(_xor(_xor(last[:4], last[4:8]), _xor(last[8:12], last[12:])), last)


def seal(algorithm: Algorithm, key: bytes, plain: bytes) -> bytes:
    """Encrypt length and content of a key block or PIN; padding only where the last block is not full."""
    message = bytes((len(plain),)) + plain
    if len(message) % algorithm.block:
        message = pad(message, algorithm.block)
    return encrypt(algorithm, key, message)


def unseal(algorithm: Algorithm, key: bytes, blocks: bytes) -> bytes | None:
    """Return what was sealed, or None where length or padding are not right."""
    if not blocks or len(blocks) % algorithm.block:
        return None
    message = decrypt(algorithm, key, blocks)
    plain = message[1 : 1 + message[0]]
    return plain if seal(algorithm, key, plain) == blocks else None


def check_value(algorithm: Algorithm, key: bytes) -> bytes:
    """Return the first 3 bytes of an encrypted block of zeros."""
    return encrypt(algorithm, key, bytes(algorithm.block))[:3]


def _cipher(algorithm: Algorithm, key: bytes, mode: modes.ECB | modes.CBC) -> Cipher[modes.ECB | modes.CBC]:
    if algorithm is Algorithm.SM4:
        return Cipher(SM4(key), mode)
    whole = key + key[:8] if len(key) == KEY_SIZE else key * 3  # K1 K2 K1; DES is 3DES with three equal keys
    return Cipher(TripleDES(whole), mode)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
