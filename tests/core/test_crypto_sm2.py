"""SM2 against the standard's example, OpenSSL's files and a second implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gmalg
import gmssl_pyx
import pytest
from Cryptodome.Util.asn1 import DerInteger, DerOctetString, DerSequence
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.crypto import KeyFormatError, Sm2PrivateKey, Sm2PublicKey, TamperedError

VECTORS = Path(__file__).parent / "vectors"
SIGNER = b"1234567812345678"
SM4_KEY = bytes(range(16))
PAIR = Sm2PrivateKey.generate()


def vectors(name: str) -> dict[str, Any]:
    """Return one file of published or recorded examples."""
    found: dict[str, Any] = json.loads((VECTORS / name).read_text())
    return found


AWKWARD = [pytest.param(case, id=case["case"]) for case in vectors("sm2_awkward_keys.json")["keys"]]


def signature_der(r: bytes, s: bytes) -> bytes:
    return bytes(DerSequence([int.from_bytes(r, "big"), int.from_bytes(s, "big")]).encode())


def signature_numbers(der: bytes) -> tuple[bytes, bytes]:
    r, s = DerSequence().decode(der)
    return r.to_bytes(32, "big"), s.to_bytes(32, "big")


def ciphertext_der(x: bytes, y: bytes, c3: bytes, c2: bytes) -> bytes:
    numbers = [DerInteger(int.from_bytes(number, "big")).encode() for number in (x, y)]
    return bytes(DerSequence([*numbers, DerOctetString(c3).encode(), DerOctetString(c2).encode()]).encode())


def ciphertext_raw(der: bytes) -> bytes:
    """Return 04 || x || y || C3 || C2, as the second implementation takes it."""
    x, y, c3, c2 = DerSequence().decode(der)
    octets = [DerOctetString().decode(part).payload for part in (c3, c2)]
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big") + b"".join(octets)


def peer_of(key: Sm2PrivateKey) -> gmalg.SM2:
    return gmalg.SM2(key.raw, SIGNER, b"\x04" + key.public.raw)


def test_the_standards_signature_verifies() -> None:
    """GB/T 32918.5, annex A."""
    case = vectors("sm2_gbt32918.json")
    public = Sm2PublicKey.from_hex(case["public"])
    numbers = (bytes.fromhex(case["signature"][name]) for name in ("r", "s"))
    signature = signature_der(*numbers)
    assert public.verify(signature, case["message"].encode())
    assert not public.verify(signature, b"message digesT")
    assert Sm2PrivateKey.from_hex(case["private"], "04" + case["public"]).public == public


def test_the_standards_ciphertext_decrypts() -> None:
    """GB/T 32918.5, annex C; its 19 bytes are no SM4 key, so `unwrap` names their length."""
    case = vectors("sm2_gbt32918.json")
    parts = {name: bytes.fromhex(value) for name, value in case["ciphertext"].items()}
    der = ciphertext_der(**parts)
    assert gmssl_pyx.sm2_decrypt(bytes.fromhex(case["private"]), der) == case["plaintext"].encode()
    with pytest.raises(TamperedError) as refusal:
        Sm2PrivateKey.from_hex(case["private"], case["public"]).unwrap(der)
    assert (refusal.value.expected, refusal.value.got) == ("16 字节", "19 字节")


def test_openssl_keys_signatures_and_wrapped_keys_are_read() -> None:
    case = vectors("sm2_openssl.json")
    key = Sm2PrivateKey.from_pem(case["private_pem"])
    public = Sm2PublicKey.from_pem(case["public_pem"])
    assert key.public == public
    assert (key.to_pem(), public.to_pem()) == (case["private_pem"], case["public_pem"])
    assert public.verify(bytes.fromhex(case["signature"]), case["message"].encode())
    assert key.unwrap(bytes.fromhex(case["wrapped"])) == bytes.fromhex(case["key"])


@pytest.mark.parametrize("case", AWKWARD)
def test_numbers_with_leading_zeros_and_fours_survive(case: dict[str, str]) -> None:
    key = Sm2PrivateKey.from_hex(case["private"], case["public"])
    assert gmalg.SM2().generate_pk(key.raw) == b"\x04" + key.public.raw
    assert Sm2PrivateKey.from_pem(key.to_pem()) == key
    assert Sm2PublicKey.from_pem(key.public.to_pem()).hex() == case["public"]
    assert peer_of(key).verify(b"message", *signature_numbers(key.sign(b"message")))
    assert key.public.verify(signature_der(*peer_of(key).sign(b"message")), b"message")
    assert key.unwrap(key.public.wrap(SM4_KEY)) == SM4_KEY


@settings(max_examples=10, deadline=None)
@given(st.binary(max_size=100))
def test_signatures_hold_in_both_implementations(message: bytes) -> None:
    key = Sm2PrivateKey.generate()
    assert peer_of(key).verify(message, *signature_numbers(key.sign(message)))
    assert key.public.verify(signature_der(*peer_of(key).sign(message)), message)


@settings(max_examples=10, deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_wrapped_keys_open_in_both_implementations(sm4_key: bytes) -> None:
    key = Sm2PrivateKey.generate()
    assert peer_of(key).decrypt(ciphertext_raw(key.public.wrap(sm4_key))) == sm4_key
    raw = peer_of(key).encrypt(sm4_key)
    assert key.unwrap(ciphertext_der(raw[1:33], raw[33:65], raw[65:97], raw[97:])) == sm4_key


def test_every_flipped_bit_of_a_wrapped_key_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    wrapped = PAIR.public.wrap(SM4_KEY)
    for position in range(len(wrapped) * 8):
        changed = bytearray(wrapped)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(TamperedError):
            PAIR.unwrap(bytes(changed))


def test_cut_padded_and_foreign_wrapped_keys_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    wrapped = PAIR.public.wrap(SM4_KEY)
    for changed in (b"", wrapped[:-1], wrapped + b"\0", wrapped * 4, bytes(120)):
        with pytest.raises(TamperedError) as refusal:
            PAIR.unwrap(changed)
        assert refusal.value.code == "tampered"
    with pytest.raises(TamperedError):
        Sm2PrivateKey.generate().unwrap(wrapped)


def test_a_changed_signature_message_or_key_does_not_verify(capfd: pytest.CaptureFixture[str]) -> None:
    signature = PAIR.sign(b"message")
    assert PAIR.public.verify(signature, b"message")
    for changed in (b"", b"\x30", signature[:-1], signature + b"\0", bytes(70)):
        assert not PAIR.public.verify(changed, b"message")
    for position in range(0, len(signature) * 8, 3):
        flipped = bytearray(signature)
        flipped[position // 8] ^= 1 << position % 8
        assert not PAIR.public.verify(bytes(flipped), b"message")
    assert not PAIR.public.verify(signature, b"Message")
    assert not Sm2PrivateKey.generate().public.verify(signature, b"message")


@pytest.mark.parametrize("raw", [b"", bytes(63), bytes(64), b"\xff" * 64, bytes(65)])
def test_a_point_off_the_curve_is_no_public_key(raw: bytes) -> None:
    with pytest.raises(KeyFormatError) as refusal:
        Sm2PublicKey(raw)
    assert refusal.value.code == "key_format"


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(32), b"\xff" * 32, (1).to_bytes(32, "big")])
def test_a_private_key_out_of_range_or_of_another_pair_is_refused(
    raw: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyFormatError):
        Sm2PrivateKey(raw, PAIR.public)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zz" * 32,
        "-----BEGIN PRIVATE KEY-----\n%%%\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n",
        PAIR.to_pem() + "more",
        PAIR.to_pem().replace("MIGHAgEAMBMGByqGSM49AgEG", "MIGHAgEAMBMGByqGSM49AgEH"),
        PAIR.public.to_pem(),
    ],
    ids=["empty", "hex", "no base64", "cut", "more behind it", "other frame", "public"],
)
def test_a_file_that_is_no_private_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(KeyFormatError) as refusal:
        Sm2PrivateKey.from_pem(text)
    assert refusal.value.__cause__ is None
    assert not text or text not in str(refusal.value)


def test_a_file_that_is_no_public_key_is_refused() -> None:
    for text in ("", PAIR.to_pem(), "-----BEGIN PUBLIC KEY-----\nMIGH\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(KeyFormatError):
            Sm2PublicKey.from_pem(text)


def test_hex_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(KeyFormatError) as refusal:
        Sm2PrivateKey.from_hex("5ecre7", PAIR.public.hex())
    assert "5ecre7" not in str(refusal.value)


def test_the_private_number_is_in_no_repr() -> None:
    shown = repr(PAIR)
    assert repr(PAIR.raw)[2:-1] not in shown
    assert PAIR.raw.hex() not in shown
    assert PAIR.public.fingerprint() == Sm2PublicKey(PAIR.public.raw).fingerprint()
