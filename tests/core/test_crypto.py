"""SM3 and SM4 against the standards' own examples and against second implementations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gmalg
import gmssl_pyx
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.crypto import (
    BlindIndex,
    FieldCipher,
    GcmKey,
    KeyFormatError,
    TamperedError,
    derive_key,
    hmac_sm3,
    kcv,
    sm3,
    sm3_hasher,
    sm4_blocks,
)

VECTORS = Path(__file__).parent / "vectors"
KEY = bytes(range(16))
CONTEXT = b"record:17:AAC002"

keys = st.binary(min_size=16, max_size=16)


def vectors(name: str) -> dict[str, Any]:
    """Return one file of published examples."""
    found: dict[str, Any] = json.loads((VECTORS / name).read_text())
    return found


def peer_sm3(message: bytes) -> bytes:
    peer = gmalg.SM3()
    peer.update(message)
    return bytes(peer.value())


@pytest.mark.parametrize("case", vectors("sm3_gbt32905.json")["cases"])
def test_sm3_gives_the_standards_digests(case: dict[str, str]) -> None:
    message = bytes.fromhex(case["message"])
    assert sm3(message).hex() == case["digest"]
    hasher = sm3_hasher()
    for byte in message:
        hasher.update(bytes([byte]))
    assert hasher.finalize().hex() == case["digest"]


@settings(max_examples=30)
@given(st.binary(max_size=300))
def test_sm3_agrees_with_a_second_implementation(message: bytes) -> None:
    assert sm3(message) == peer_sm3(message)


@settings(max_examples=20)
@given(st.binary(min_size=1, max_size=100), st.binary(max_size=200))
def test_hmac_is_built_on_sm3_with_64_byte_blocks(key: bytes, message: bytes) -> None:
    block = (peer_sm3(key) if len(key) > 64 else key).ljust(64, b"\0")
    inner = peer_sm3(bytes(byte ^ 0x36 for byte in block) + message)
    assert hmac_sm3(key, message) == peer_sm3(bytes(byte ^ 0x5C for byte in block) + inner)


@pytest.mark.parametrize("case", vectors("hmac_sm3_gmt0042.json")["cases"])
def test_hmac_gives_the_standards_codes(case: dict[str, str]) -> None:
    assert hmac_sm3(bytes.fromhex(case["key"]), bytes.fromhex(case["message"])).hex() == case["mac"]


def test_sm3_of_a_million_letters() -> None:
    """Many blocks, and a length that needs more than two bytes, at once and in parts."""
    assert sm3(b"a" * 1_000_000).hex() == vectors("sm3_gbt32905.json")["million_a"]
    hasher = sm3_hasher()
    for _ in range(1000):
        hasher.update(b"a" * 1000)
    assert hasher.finalize().hex() == vectors("sm3_gbt32905.json")["million_a"]


def test_sm4_a_million_times_over_gives_the_standards_block() -> None:
    """GB/T 32907, A.2, in one context: `sm4_blocks` would make a million of them."""
    case = vectors("sm4_gbt32907.json")
    key, block = (bytes.fromhex(case["block"][name]) for name in ("key", "plaintext"))
    encrypt = Cipher(algorithms.SM4(key), modes.ECB()).encryptor().update
    assert encrypt(block) == sm4_blocks(key, block)
    for _ in range(1_000_000):
        block = encrypt(block)
    assert block.hex() == case["million"]


def test_sm4_gives_the_standards_block_and_its_check_value() -> None:
    case = vectors("sm4_gbt32907.json")["block"]
    key, plaintext = bytes.fromhex(case["key"]), bytes.fromhex(case["plaintext"])
    assert sm4_blocks(key, plaintext).hex() == case["ciphertext"]
    assert sm4_blocks(key, plaintext * 3).hex() == case["ciphertext"] * 3
    assert kcv(key) == gmalg.SM4(key).encrypt(bytes(16))[:3].hex().upper()


def test_sm4_gcm_gives_the_published_ciphertext_and_tag() -> None:
    case = {name: bytes.fromhex(value) for name, value in vectors("sm4_gbt32907.json")["gcm"].items()}
    gcm = GcmKey(case["key"])
    sealed = case["ciphertext"] + case["tag"]
    assert gcm.encrypt(case["nonce"], case["plaintext"], case["context"]) == sealed
    assert gcm.decrypt(case["nonce"], case["ciphertext"], case["tag"], case["context"]) == case["plaintext"]


@settings(max_examples=50)
@given(keys, st.integers(0, 5).flatmap(lambda count: st.binary(min_size=16 * count, max_size=16 * count)))
def test_sm4_blocks_agree_with_a_second_implementation(key: bytes, blocks: bytes) -> None:
    peer = gmalg.SM4(key)
    expected = b"".join(peer.encrypt(blocks[start : start + 16]) for start in range(0, len(blocks), 16))
    assert sm4_blocks(key, blocks) == expected


@given(keys, st.binary(min_size=12, max_size=12), st.binary(min_size=1, max_size=100), st.binary(max_size=40))
def test_gcm_agrees_with_a_second_implementation(
    key: bytes, nonce: bytes, plaintext: bytes, context: bytes
) -> None:
    ciphertext, tag = gmssl_pyx.sm4_gcm_encrypt(key, nonce, context, plaintext)
    assert GcmKey(key).encrypt(nonce, plaintext, context) == ciphertext + tag


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    for use in (kcv, FieldCipher, GcmKey, lambda key: derive_key(key, b"x")):
        with pytest.raises(KeyFormatError) as refusal:
            use(bytes(length))
        assert refusal.value.code == "key_format"
        assert refusal.value.got == f"{length} 字节"


def test_a_partial_block_is_refused() -> None:
    with pytest.raises(ValueError, match="17"):
        sm4_blocks(KEY, bytes(17))


@given(keys, st.binary(max_size=200), st.binary(max_size=60))
def test_a_field_opens_to_what_was_sealed(key: bytes, plaintext: bytes, context: bytes) -> None:
    cipher = FieldCipher(key)
    blob = cipher.seal(plaintext, context)
    assert len(blob) == 12 + len(plaintext) + 16
    assert cipher.open(blob, context) == plaintext


def test_the_same_field_never_looks_the_same_twice() -> None:
    cipher = FieldCipher(KEY)
    assert len({cipher.seal(b"same", CONTEXT) for _ in range(1000)}) == 1000


def test_every_flipped_bit_of_a_field_is_noticed() -> None:
    cipher = FieldCipher(KEY)
    blob = cipher.seal("张三".encode(), CONTEXT)
    for position in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(TamperedError):
            cipher.open(bytes(changed), CONTEXT)


@pytest.mark.parametrize("length", range(len(b"x") + 28))
def test_every_cut_of_a_field_is_noticed(length: int) -> None:
    cipher = FieldCipher(KEY)
    blob = cipher.seal(b"x", CONTEXT)
    with pytest.raises(TamperedError):
        cipher.open(blob[:length], CONTEXT)


def test_a_field_moved_to_another_record_column_or_key_is_refused() -> None:
    """R-22: what belongs to one record is readable there only."""
    blob = FieldCipher(KEY).seal(b"x", CONTEXT)
    for context in (b"record:18:AAC002", b"record:17:AAC003", b""):
        with pytest.raises(TamperedError) as refusal:
            FieldCipher(KEY).open(blob, context)
        assert refusal.value.code == "tampered"
    with pytest.raises(TamperedError):
        FieldCipher(bytes(16)).open(blob, CONTEXT)


def test_fields_do_not_use_the_package_key_itself() -> None:
    """The package key has counted nonces in the payload: random ones beside them would be a risk."""
    blob = FieldCipher(KEY).seal(b"x", CONTEXT)
    with pytest.raises(TamperedError):
        GcmKey(KEY).decrypt(blob[:12], blob[12:-16], blob[-16:], CONTEXT)
    assert GcmKey(derive_key(KEY, b"field")).decrypt(blob[:12], blob[12:-16], blob[-16:], CONTEXT) == b"x"


@given(st.binary(min_size=1, max_size=64), st.text(max_size=40))
def test_a_blind_index_is_the_mac_of_the_value(key: bytes, value: str) -> None:
    index = BlindIndex(key)
    assert index.of(value) == index.of(value) == hmac_sm3(key, value.encode())


def test_no_cipher_shows_its_key() -> None:
    key = b"\xabKEY-IN-CLEAR\xcd\xef\x01"
    for shown in (repr(FieldCipher(key)), repr(GcmKey(key)), repr(BlindIndex(key))):
        assert "KEY-IN-CLEAR" not in shown
        assert key.hex() not in shown
