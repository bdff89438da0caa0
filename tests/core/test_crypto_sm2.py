"""SM2 against the standard's example, OpenSSL's files and a second implementation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gmalg
import gmssl_pyx
import pytest
from Cryptodome.Util.asn1 import DerInteger, DerOctetString, DerSequence
from gmssl import sm3 as gmssl_sm3
from gmssl.sm2 import CryptSM2
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.crypto import KeyFormatError, Sm2PrivateKey, Sm2PublicKey, TamperedError, sm3

VECTORS = Path(__file__).parent / "vectors"
SIGNER = b"1234567812345678"
SM4_KEY = bytes(range(16))
ORDER = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
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


def test_the_signers_identity_is_the_usual_one() -> None:
    """GM/T 0009, 10: ZA binds 1234567812345678, curve and key; both digests: GB/T 32918.5, annex A."""
    case = vectors("sm2_gbt32918.json")
    public = bytes.fromhex(case["public"])
    curve = b"".join(bytes.fromhex(case["curve"][name]) for name in ("a", "b", "gx", "gy"))
    za = sm3((8 * len(SIGNER)).to_bytes(2, "big") + SIGNER + curve + public)
    assert za.hex() == case["za"]
    assert sm3(za + case["message"].encode()).hex() == case["e"]
    other = gmalg.SM2(bytes.fromhex(case["private"]), b"ALICE123@YAHOO.COM", b"\x04" + public)
    assert not Sm2PublicKey(public).verify(signature_der(*other.sign(b"message")), b"message")


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


def key_until(wanted: Callable[[bytes, bytes], bool]) -> Sm2PrivateKey:
    """Draw pairs (private, x and y) until one has the form that careless code damages."""
    pairs = iter(gmssl_pyx.sm2_key_generate, None)
    return next(Sm2PrivateKey(d, Sm2PublicKey(point)) for point, d in pairs if wanted(d, point))


@pytest.mark.parametrize("part", ["d", "x", "y"])
def test_fresh_keys_with_a_leading_zero_work_with_a_second_implementation(part: str) -> None:
    """About one key in 85 has one; each of the three numbers is drawn anew until it has."""
    place = {"d": 0, "x": 32, "y": 64}[part]
    key = key_until(lambda private, point: (private + point)[place] == 0)
    assert gmalg.SM2().generate_pk(key.raw) == b"\x04" + key.public.raw
    assert Sm2PrivateKey.from_pem(key.to_pem()) == key
    assert peer_of(key).verify(b"message", *signature_numbers(key.sign(b"message")))
    assert peer_of(key).decrypt(ciphertext_raw(key.public.wrap(SM4_KEY))) == SM4_KEY
    raw = peer_of(key).encrypt(SM4_KEY)
    assert key.unwrap(ciphertext_der(raw[1:33], raw[33:65], raw[65:97], raw[97:])) == SM4_KEY


@pytest.mark.parametrize("place", [1, 33], ids=["x1", "y1"])
def test_wrapped_keys_with_a_leading_zero_open_in_both(place: int) -> None:
    """The DER of such a number is shorter; a reader of fixed lengths shifts all that follows."""
    while ciphertext_raw(wrapped := PAIR.public.wrap(SM4_KEY))[place]:
        pass
    raw = ciphertext_raw(wrapped)
    assert peer_of(PAIR).decrypt(raw) == SM4_KEY == PAIR.unwrap(wrapped)
    # The shortest form of each number, as DER asks.
    assert ciphertext_der(raw[1:33], raw[33:65], raw[65:97], raw[97:]) == wrapped


@pytest.mark.parametrize("place", [0, 1], ids=["r", "s"])
def test_signatures_with_a_leading_zero_hold_in_both(place: int) -> None:
    while signature_numbers(der := PAIR.sign(b"message"))[place][0]:
        pass
    assert peer_of(PAIR).verify(b"message", *signature_numbers(der))
    assert PAIR.public.verify(der, b"message")
    assert signature_der(*signature_numbers(der)) == der


def test_a_third_implementation_agrees_where_it_works() -> None:
    """gmssl strips leading zeros and fours from public keys, so it is given none of those (D4)."""
    key = key_until(lambda _, point: point.hex()[0] not in "04")
    peer = CryptSM2(private_key=key.raw.hex(), public_key=key.public.hex(), mode=1)
    assert bytes.fromhex(gmssl_sm3.sm3_hash(list(b"message"))) == sm3(b"message")
    for _ in range(3):
        assert peer.verify_with_sm3(b"".join(signature_numbers(key.sign(b"message"))).hex(), b"message")
        signature = bytes.fromhex(peer.sign_with_sm3(b"message"))
        assert key.public.verify(signature_der(signature[:32], signature[32:]), b"message")
        assert peer.decrypt(ciphertext_raw(key.public.wrap(SM4_KEY))[1:]) == SM4_KEY
        raw = peer.encrypt(SM4_KEY)
        assert key.unwrap(ciphertext_der(raw[:32], raw[32:64], raw[64:96], raw[96:])) == SM4_KEY


def long_form(der: bytes) -> bytes:
    """Write the outer length in two bytes where one would do: BER, not DER."""
    return der[:1] + b"\x81" + der[1:]


def padded_number(der: bytes) -> bytes:
    """Put a zero byte in front of the first number."""
    return der[:1] + bytes([der[1] + 1]) + der[2:3] + bytes([der[3] + 1]) + b"\0" + der[4:]


@pytest.mark.parametrize("form", [long_form, padded_number, lambda der: der + b"\0", lambda der: der[:-1]])
def test_what_is_not_der_is_no_signature_and_no_wrapped_key(
    form: Callable[[bytes], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    """GM/T 0009 asks for DER: one value, one form."""
    signature, wrapped = PAIR.sign(b"message"), PAIR.public.wrap(SM4_KEY)
    while signature[3] == 33 or wrapped[3] == 33:  # no number that needs its zero byte
        signature, wrapped = PAIR.sign(b"message"), PAIR.public.wrap(SM4_KEY)
    assert not PAIR.public.verify(form(signature), b"message")
    with pytest.raises(TamperedError):
        PAIR.unwrap(form(wrapped))


@pytest.mark.parametrize("value", [0, -1, ORDER, ORDER + 1], ids=["zero", "negative", "the order", "beyond"])
def test_a_signature_of_numbers_out_of_range_does_not_verify(
    value: int, capfd: pytest.CaptureFixture[str]
) -> None:
    r, s = (int.from_bytes(number, "big") for number in signature_numbers(PAIR.sign(b"message")))
    for pair in ([value, s], [r, value], [value, value]):
        assert not PAIR.public.verify(bytes(DerSequence(pair).encode()), b"message")


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=100))
def test_signatures_hold_in_both_implementations(message: bytes) -> None:
    key = Sm2PrivateKey.generate()
    assert peer_of(key).verify(message, *signature_numbers(key.sign(message)))
    assert key.public.verify(signature_der(*peer_of(key).sign(message)), message)


@settings(max_examples=25, deadline=None)
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
