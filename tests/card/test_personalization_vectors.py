"""Vectors of personalization in JSON, each held against a second implementation (R-25)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from production.personalization.card_crypto import card_cipher
from production.personalization.keys import diversify
from production.personalization.payment import PaymentCardError, PaymentData, PaymentSession
from production.personalization.tlv import Kind, decode_records, decode_value, encode_record, encode_value
from tests.card.second_cipher import Second

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "personalization.json").read_text(encoding="utf-8")
)
H = bytes.fromhex
each = pytest.mark.parametrize("algorithm", ["sm4", "3des"])


@pytest.mark.parametrize("case", VECTORS["records"], ids=lambda case: case["record"][:2])
def test_records(case: dict[str, Any]) -> None:
    kind = Kind(case["kind"])
    record = encode_record(case["tag"], encode_value(kind, case["text"], case["length"]))
    assert record == H(case["record"])
    ((tag, value),) = decode_records(record)
    assert (tag, decode_value(kind, value)) == (case["tag"], case["text"])


@each
def test_derivation(algorithm: str) -> None:
    """Card facts, §3: province, city, card."""
    for case in VECTORS[algorithm]["derivation"]:
        parent, factor = H(case["parent"]), H(case["factor"])
        assert diversify(parent, factor, algorithm) == H(case["child"])
        assert card_cipher(algorithm).child(parent, factor) == H(case["child"])
        assert Second(algorithm).child(parent, factor) == H(case["child"])


@each
def test_macs(algorithm: str) -> None:
    """Every length around a block, and the value from which the next MAC starts."""
    key, start = H(VECTORS[algorithm]["key"]), H(VECTORS[algorithm]["start"])
    ours, second = card_cipher(algorithm), Second(algorithm)
    for case in VECTORS[algorithm]["mac"]:
        expected = (H(case["mac"]), H(case["chain"]))
        assert ours.mac(key, start, H(case["message"])) == expected
        assert second.mac(key, start, H(case["message"])) == expected


@each
def test_key_blocks_and_pins(algorithm: str) -> None:
    key = H(VECTORS[algorithm]["key"])
    for case in VECTORS[algorithm]["sealed"]:
        assert card_cipher(algorithm).sealed(key, H(case["content"])) == H(case["sealed"])
        assert Second(algorithm).seal(key, H(case["content"])) == H(case["sealed"])


@each
def test_cryptograms(algorithm: str) -> None:
    key, ours = H(VECTORS[algorithm]["key"]), card_cipher(algorithm)
    for case in VECTORS[algorithm]["authentication"]:
        factor, content = H(case["factor"]), H(case["content"])
        block = ours.authentication_block(key, factor, content)
        assert (ours.folded(block), block) == (H(case["cryptogram"]), H(case["chain"]))
        assert Second(algorithm).authenticate(key, factor, content) == (ours.folded(block), block)


def test_worked_examples_of_the_cards_document() -> None:
    """docs/developers/virtual-card.md §10: WRITE KEY, then UPDATE RECORD, from one challenge."""
    transport, challenge = bytes(range(0x40, 0x50)), H("0102030405060708")
    examples = {
        "3des": (
            "0D16D662AF4E0A06D4E65928DBDE652C",
            "84D401041CB4FE8B8484B548B1C16F9E651EA4BE47CE3B8A52870FF5C69CC18A68",
            "84DC0A30070A0131572145BB",
        ),
        "sm4": (
            "1634EB8C2006D8107D4F087D81327518",
            "84D40104244C1A9560FFD875428061934F3EE82739FCADF903C3C03A2DA06A567076081F0651F74CA2",
            "84DC0A30070A013127A35FF3",
        ),
    }
    for algorithm, (key, write_key, update) in examples.items():
        cipher = card_cipher(algorithm)
        sealed = cipher.sealed(transport, bytes((0x28, cipher.code, 1, 0x0F)) + H(key))
        message = H("84D40104") + bytes((len(sealed) + 4,)) + sealed
        mac, chain = cipher.mac(transport, cipher.start(challenge), message)
        assert message + mac == H(write_key)
        assert H(update)[:-4] + cipher.mac(H(key), chain, H(update)[:-4])[0] == H(update)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["sm4", "3des"]), st.binary(min_size=16, max_size=16), st.binary(max_size=90))
def test_any_mac_agrees_with_the_second_implementation(algorithm: str, key: bytes, message: bytes) -> None:
    if algorithm == "3des" and key[:8] == key[8:]:
        return  # pycryptodomex refuses what is single DES
    start = bytes(range(16))[: card_cipher(algorithm).block]
    try:
        expected = Second(algorithm).mac(key, start, message)
    except ValueError:  # pycryptodomex refuses keys that degenerate by their parity bits
        return
    assert card_cipher(algorithm).mac(key, start, message) == expected


def test_a_payment_session() -> None:
    """EMV CPS 1.1: cryptograms both ways, chained C-MACs, keys under the data key."""
    case = VECTORS["payment"]
    data = PaymentData(H("A000000333010101"), H(case["kmc"]), {})
    session = PaymentSession.opened(data, H(case["host"]), H(case["answer"]))
    assert session.host_cryptogram == H(case["host_cryptogram"])
    for command in case["commands"]:
        assert session.sealed(H(command["head"]), H(command["content"])) == H(command["command"])
    assert session.encrypted(H(case["secret"])) == H(case["encrypted"])
    assert session.encrypted(b"12345") != session.encrypted(b"12345\x00")
    assert case["kmc"][:8].lower() not in repr(session) + repr(data)


@pytest.mark.parametrize("at", [4, 9, 12, 14, 20, 27])
def test_a_card_that_answers_another_byte_opens_no_session(at: int) -> None:
    case = VECTORS["payment"]
    answer = bytearray(H(case["answer"]))
    answer[at] ^= 0x01
    data = PaymentData(H("A000000333010101"), H(case["kmc"]), {})
    with pytest.raises(PaymentCardError, match="不符"):
        PaymentSession.opened(data, H(case["host"]), bytes(answer))
    with pytest.raises(PaymentCardError, match="长度"):
        PaymentSession.opened(data, H(case["host"]), H(case["answer"])[:-1])
