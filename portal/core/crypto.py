"""SM2, SM3 and SM4 as the portal uses them; nothing else in the project touches a cipher directly.

SM3 and SM4 come from OpenSSL through `cryptography`, SM2 from the C library GmSSL (architecture D4).
Standards: SM2 GB/T 32918, SM3 GB/T 32905, SM4 GB/T 32907, GCM GB/T 36624, SM2 encodings GM/T 0009.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from gmssl_pyx import (
    GmsslInnerError,
    normalize_sm2_public_key,
    sm2_decrypt,
    sm2_encrypt,
    sm2_key_generate,
    sm2_sign,
    sm2_verify,
)

from portal.core.errors import InputRefusedError, PortalError

Bytes = bytes | memoryview
BLOCK_SIZE = 16
KEY_SIZE = 16
DIGEST_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16

# DER in front of each number of an SM2 key: all numbers have fixed lengths, so the frame is constant.
_PUBLIC_DER = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d03420004")
_PRIVATE_DER = bytes.fromhex("308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420")
_PRIVATE_DER_POINT = bytes.fromhex("a14403420004")
_PAIR_PROBE = b"SM2 key pair consistency probe"


class TamperedError(PortalError):
    """Ciphertext, its context or its key is not the one it was sealed with."""

    code = "tampered"


class KeyFormatError(InputRefusedError):
    """A key that is not a usable SM2 or SM4 key."""

    code = "key_format"


class Sm3Hasher(Protocol):
    """A running SM3 digest."""

    def update(self, data: bytes, /) -> None:
        """Take more of the message."""

    def finalize(self) -> bytes:
        """Return the 32 bytes; the hasher is used up."""


def sm3(data: bytes) -> bytes:
    """Return the 32-byte SM3 digest."""
    hasher = hashes.Hash(hashes.SM3())
    hasher.update(data)
    return hasher.finalize()


def sm3_hasher() -> Sm3Hasher:
    """Start a digest over data that arrives in parts."""
    return hashes.Hash(hashes.SM3())


def hmac_sm3(key: bytes, data: bytes) -> bytes:
    """Return the 32-byte HMAC-SM3 (GB/T 15852.2)."""
    mac = hmac.HMAC(key, hashes.SM3())
    mac.update(data)
    return mac.finalize()


class BlindIndex:
    """Turn a normalised value into a 32-byte search key that reveals nothing without the index key."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.HMAC(key, hashes.SM3())

    def of(self, value: str) -> bytes:
        """Return HMAC-SM3 over the UTF-8 value; the caller normalises it first."""
        # A copy of the keyed state costs a third of keying HMAC anew for every value.
        mac = self._keyed.copy()
        mac.update(value.encode("utf-8", "replace"))
        return mac.finalize()


def sm4_blocks(key: bytes, blocks: bytes) -> bytes:
    """Encrypt many 16-byte blocks on their own in one context; for key derivation only, never for content."""
    if len(blocks) % BLOCK_SIZE:
        raise ValueError(f"not a multiple of {BLOCK_SIZE} bytes: {len(blocks)}")
    return sm4_encryptor(key)(blocks)


def sm4_encryptor(key: bytes) -> Callable[[bytes], bytes]:
    """Return what encrypts whole blocks on their own, again and again in one context, for cards' MACs."""
    _require_sm4_key(key)
    return Cipher(algorithms.SM4(key), modes.ECB()).encryptor().update  # noqa: S305 - raw blocks are the purpose


def triple_des_encryptor(key: bytes) -> Callable[[bytes], bytes]:
    """Return the same for 3DES with two keys (16 bytes), or single DES (8): cards that know no other."""
    whole = {16: key + key[:8], 8: key * 3}.get(len(key))
    if whole is None:
        raise KeyFormatError("3DES 密钥长度不对", expected="8 或 16 字节", got=f"{len(key)} 字节")
    return Cipher(TripleDES(whole), modes.ECB()).encryptor().update  # noqa: S305 - raw blocks are the purpose


def kcv(key: bytes) -> str:
    """Return the check value of an SM4 key: the first 3 bytes of its encryption of zeros, as hex digits."""
    return sm4_blocks(key, bytes(BLOCK_SIZE))[:3].hex().upper()


def new_key() -> bytes:
    """Draw an SM4 key from the operating system."""
    return os.urandom(KEY_SIZE)


def derive_key(key: bytes, purpose: bytes) -> bytes:
    """Return the SM4 key for one use of `key`, so that uses with different nonce rules never share one."""
    _require_sm4_key(key)
    return hmac_sm3(key, purpose)[:KEY_SIZE]


class GcmKey:
    """SM4-GCM under one key where the caller keeps nonces unique."""

    __slots__ = ("_algorithm", "_offsets")

    def __init__(self, key: bytes) -> None:
        _require_sm4_key(key)
        self._algorithm = algorithms.SM4(key)
        self._offsets: dict[tuple[int, int], int] = {}

    def encrypt(self, nonce: bytes, plaintext: bytes, context: bytes) -> bytes:
        """Return ciphertext || 16-byte tag."""
        encryptor = Cipher(self._algorithm, modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(context)
        return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag

    def decrypt(self, nonce: bytes, ciphertext: Bytes, tag: Bytes, context: bytes) -> bytes:
        """Return the plaintext only after its tag held; raise TamperedError otherwise."""
        decryptor = Cipher(self._algorithm, modes.GCM(nonce)).decryptor()
        decryptor.authenticate_additional_data(context)
        plaintext = decryptor.update(ciphertext)
        try:
            return plaintext + decryptor.finalize_with_tag(bytes(tag))
        except (InvalidTag, ValueError) as exc:
            raise TamperedError("密文校验失败：内容、位置或密钥不符") from exc

    def check(self, nonce: bytes, ciphertext: Bytes, tag: Bytes, context: bytes) -> None:
        """Raise TamperedError unless the tag holds; twenty times as fast as decrypting, and as strict.

        GHASH runs over padded context, padded ciphertext and their lengths (SP 800-38D, 6.4). Hashed as
        context alone, both give the same sum but for the lengths, and what these change is the same for
        every text of the same lengths: it is taken once from a text of zeros.
        """
        lengths = (len(context), len(ciphertext))
        offset = self._offsets.get(lengths)
        if offset is None:
            offset = self._offsets[lengths] = self._offset(*lengths)
        found = self._hashed(nonce, ciphertext, context) ^ offset
        if not compare_digest(found.to_bytes(TAG_SIZE, "big"), tag):
            raise TamperedError("密文校验失败：内容、位置或密钥不符")

    def _hashed(self, nonce: bytes, ciphertext: Bytes, context: bytes) -> int:
        encryptor = Cipher(self._algorithm, modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(context + bytes(-len(context) % BLOCK_SIZE))
        encryptor.authenticate_additional_data(ciphertext)
        encryptor.authenticate_additional_data(bytes(-len(ciphertext) % BLOCK_SIZE))
        encryptor.finalize()
        return int.from_bytes(encryptor.tag, "big")

    def _offset(self, context_length: int, length: int) -> int:
        # The sealed zeros never leave this function, so a nonce that others use gives nothing away.
        nonce, context = b"\xff" * NONCE_SIZE, bytes(context_length)
        sealed = self.encrypt(nonce, bytes(length), context)
        tag = int.from_bytes(sealed[length:], "big")
        return tag ^ self._hashed(nonce, sealed[:length], context)


class FieldCipher:
    """Seal single database fields under one package key; `context` ties each to its record and column.

    Nonces are random, so one key may seal up to 2**32 fields (NIST SP 800-38D, 8.3). A derived key is used:
    the package key itself has counted nonces in the package's payload.
    """

    __slots__ = ("_gcm",)

    def __init__(self, key: bytes) -> None:
        self._gcm = GcmKey(derive_key(key, b"field"))

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Return nonce (12) || ciphertext || tag (16)."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._gcm.encrypt(nonce, plaintext, context)

    def open(self, blob: bytes, context: bytes) -> bytes:
        """Return the plaintext; raise TamperedError when blob, context or key do not belong together."""
        if len(blob) < NONCE_SIZE + TAG_SIZE:
            raise TamperedError("密文长度不足", expected="不少于 28 字节", got=f"{len(blob)} 字节")
        return self._gcm.decrypt(blob[:NONCE_SIZE], blob[NONCE_SIZE:-TAG_SIZE], blob[-TAG_SIZE:], context)


@dataclass(frozen=True, slots=True)
class Sm2PublicKey:
    """A point of the SM2 curve as x || y, 64 bytes; construction refuses anything off the curve."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 64:
            raise KeyFormatError("SM2 公钥长度不对", expected="64 字节", got=f"{len(self.raw)} 字节")
        try:
            normalize_sm2_public_key(self.raw)
        except GmsslInnerError as exc:
            raise KeyFormatError("SM2 公钥不在曲线上") from exc

    @classmethod
    def from_hex(cls, text: str) -> Sm2PublicKey:
        """Read 128 hex digits, with or without the leading 04."""
        raw = _from_hex(text)
        return cls(raw[1:] if len(raw) == 65 and raw[0] == 4 else raw)

    @classmethod
    def from_pem(cls, text: str) -> Sm2PublicKey:
        """Read a `PUBLIC KEY` block (SubjectPublicKeyInfo, as OpenSSL and GmSSL write it)."""
        der = _from_pem(text, "PUBLIC KEY")
        if len(der) != len(_PUBLIC_DER) + 64 or not der.startswith(_PUBLIC_DER):
            raise KeyFormatError("不是 SM2 公钥文件")
        return cls(der[len(_PUBLIC_DER) :])

    def hex(self) -> str:
        """Return 128 hex digits, x then y."""
        return self.raw.hex()

    def to_pem(self) -> str:
        """Write a `PUBLIC KEY` block."""
        return _to_pem(_PUBLIC_DER + self.raw, "PUBLIC KEY")

    def fingerprint(self) -> str:
        """Return 16 hex digits people can compare over the telephone."""
        return sm3(self.raw)[:8].hex()

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Check a DER signature made with the default signer identity (GM/T 0009, 10)."""
        if not signature:
            return False
        try:
            return bool(sm2_verify(self.raw, message, signature))
        except GmsslInnerError:
            return False

    def wrap(self, key: bytes) -> bytes:
        """Encrypt an SM4 key to the holder of the private key: DER of C1, C3, C2 (GM/T 0009, 7.2)."""
        _require_sm4_key(key)
        return bytes(sm2_encrypt(self.raw, key))


@dataclass(frozen=True, slots=True)
class Sm2PrivateKey:
    """An SM2 private key with its public key; construction refuses a pair that does not belong together."""

    raw: bytes = field(repr=False)
    public: Sm2PublicKey

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise KeyFormatError("SM2 私钥长度不对", expected="32 字节", got=f"{len(self.raw)} 字节")
        try:
            belongs = self.public.verify(self.sign(_PAIR_PROBE), _PAIR_PROBE)
        except GmsslInnerError as exc:
            raise KeyFormatError("SM2 私钥不在取值范围内") from exc
        if not belongs:
            raise KeyFormatError("SM2 私钥与公钥不成对")

    @classmethod
    def generate(cls) -> Sm2PrivateKey:
        """Make a new pair."""
        public, private = sm2_key_generate()
        return cls(private, Sm2PublicKey(public))

    @classmethod
    def from_hex(cls, private: str, public: str) -> Sm2PrivateKey:
        """Read 64 hex digits with the 128 of the public key."""
        return cls(_from_hex(private), Sm2PublicKey.from_hex(public))

    @classmethod
    def from_pem(cls, text: str) -> Sm2PrivateKey:
        """Read a `PRIVATE KEY` block (PKCS#8 with the public key inside, as OpenSSL writes it)."""
        der = _from_pem(text, "PRIVATE KEY")
        start = len(_PRIVATE_DER)
        middle = der[start + 32 : start + 32 + len(_PRIVATE_DER_POINT)]
        if len(der) != start + 32 + len(_PRIVATE_DER_POINT) + 64:
            raise KeyFormatError("不是 SM2 私钥文件")
        if not der.startswith(_PRIVATE_DER) or middle != _PRIVATE_DER_POINT:
            raise KeyFormatError("不是 SM2 私钥文件")
        return cls(der[start : start + 32], Sm2PublicKey(der[-64:]))

    def to_pem(self) -> str:
        """Write a `PRIVATE KEY` block; the caller protects the file (mode 0600)."""
        return _to_pem(_PRIVATE_DER + self.raw + _PRIVATE_DER_POINT + self.public.raw, "PRIVATE KEY")

    def sign(self, message: bytes) -> bytes:
        """Return the DER signature under the default signer identity."""
        return bytes(sm2_sign(self.raw, self.public.raw, message))

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the SM4 key; raise TamperedError when it was made for another key or was changed."""
        try:
            key = bytes(sm2_decrypt(self.raw, wrapped))
        except GmsslInnerError as exc:
            raise TamperedError("密钥信封无法解开：不是给本私钥的，或已被改动") from exc
        if len(key) != KEY_SIZE:
            raise TamperedError("密钥信封内容长度不对", expected=f"{KEY_SIZE} 字节", got=f"{len(key)} 字节")
        return key


def _require_sm4_key(key: bytes) -> None:
    if len(key) != KEY_SIZE:
        raise KeyFormatError("SM4 密钥长度不对", expected=f"{KEY_SIZE} 字节", got=f"{len(key)} 字节")


def _from_hex(text: str) -> bytes:
    try:
        return binascii.unhexlify(text.strip())
    except ValueError:  # from None: the chained error could show digits of a private key
        raise KeyFormatError("密钥不是十六进制") from None


def _to_pem(der: bytes, label: str) -> str:
    body = base64.b64encode(der).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def _from_pem(text: str, label: str) -> bytes:
    head, tail = f"-----BEGIN {label}-----", f"-----END {label}-----"
    before, found_head, rest = text.partition(head)
    body, found_tail, after = rest.partition(tail)
    if not found_head or not found_tail or before.strip() or after.strip():
        raise KeyFormatError("密钥文件格式不对", expected=head)
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except ValueError:
        raise KeyFormatError("密钥文件不是 Base64") from None
