"""The examples of virtual-card.md against the card's code and against other makers' DES and SM4 (R-25)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from Cryptodome.Cipher import DES, DES3
from gmssl import sm4
from hypothesis import given
from hypothesis import strategies as st

from stations.virtual.card import PUBLIC_TEST_KEY, VirtualCard, blank_memory
from stations.virtual.cipher import Algorithm, authenticate, diversify, mac, seal, unseal
from stations.virtual.payment import issuer_keys, retail_mac
from stations.virtual.tlv import groupings, record, template
from tests.card.terminal import SSSE, Terminal, key_of

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "virtual-card.json").read_text("utf-8")
)
NAMES = {"3des": Algorithm.TRIPLE_DES, "sm4": Algorithm.SM4}
H = bytes.fromhex


def cases(section: str) -> list[Any]:
    return [
        pytest.param(algorithm, case, id=f"{name}-{case.get('what', case.get('level'))}")
        for name, algorithm in NAMES.items()
        for case in VECTORS[name][section]
    ]


def other_encrypt(algorithm: Algorithm, key: bytes, blocks: bytes, start: bytes | None = None) -> bytes:
    """Encrypt with a library the card does not use: in ECB, or in CBC from a start."""
    if algorithm is Algorithm.SM4:
        cipher = sm4.CryptSM4(padding_mode=-1)
        cipher.set_key(key, sm4.SM4_ENCRYPT)
        if start is None:
            return bytes(cipher.crypt_ecb(blocks))
        chained = [start]  # by hand: the library's CBC pads whether told to or not
        for at in range(0, len(blocks), 16):
            mixed = bytes(a ^ b for a, b in zip(chained[-1], blocks[at : at + 16], strict=True))
            chained.append(bytes(cipher.crypt_ecb(mixed)))
        return b"".join(chained[1:])
    kind: Any = DES if len(key) == 8 else DES3
    made = kind.new(key, kind.MODE_ECB) if start is None else kind.new(key, kind.MODE_CBC, iv=start)
    return bytes(made.encrypt(blocks))


def fold(block: bytes, size: int) -> bytes:
    """XOR the parts of a block."""
    folded = bytes(size)
    for at in range(0, len(block), size):
        folded = bytes(a ^ b for a, b in zip(folded, block[at : at + size], strict=True))
    return folded


@pytest.mark.parametrize(("algorithm", "case"), cases("derivation"))
def test_derivation(algorithm: Algorithm, case: dict[str, str]) -> None:
    """card.md §3: factor and its opposite, one level at a time."""
    parent, factor = H(case["parent"]), H(case["factor"])
    assert diversify(algorithm, parent, factor) == H(case["child"])
    opposite = bytes(255 - byte for byte in factor)
    assert other_encrypt(algorithm, parent, factor + opposite) == H(case["child"])


@pytest.mark.parametrize(("algorithm", "case"), cases("secured"))
def test_secured_commands(algorithm: Algorithm, case: dict[str, str]) -> None:
    message, start, key = H(case["message"]), H(case["iv"]), H(case["key"])
    made = mac(algorithm, key, start, message)
    assert (made.value.hex().upper(), made.chain.hex().upper()) == (case["mac"], case["next"])
    padded = message + b"\x80"
    padded += bytes(-len(padded) % algorithm.block)
    last = other_encrypt(algorithm, key, padded, start)[-algorithm.block :]
    short = fold(last, 4) if algorithm is Algorithm.SM4 else last[:4]
    assert (last, short) == (H(case["next"]), H(case["mac"]))
    assert case["command"] == case["message"] + case["mac"]


@pytest.mark.parametrize(("algorithm", "case"), cases("authentication"))
def test_authentication(algorithm: Algorithm, case: dict[str, str]) -> None:
    key, factor, data = H(case["key"]), H(case["factor"]), H(case["data"])
    made = authenticate(algorithm, key, factor, data)
    assert (made.cryptogram, made.chain) == (H(case["cryptogram"]), H(case["next"]))
    filler = H("8000000000000000") if algorithm is Algorithm.SM4 else b""
    process_key = other_encrypt(algorithm, key, factor + filler)
    block = other_encrypt(algorithm, process_key, data + filler)
    assert (block, fold(block, 8)) == (H(case["next"]), H(case["cryptogram"]))


@pytest.mark.parametrize(("algorithm", "case"), cases("sealed"))
def test_sealed_data(algorithm: Algorithm, case: dict[str, str]) -> None:
    key, plain, sealed = H(case["key"]), H(case["plain"]), H(case["sealed"])
    assert seal(algorithm, key, plain) == sealed
    assert unseal(algorithm, key, sealed) == plain
    message = bytes((len(plain),)) + plain
    if len(message) % algorithm.block:
        message += b"\x80"
        message += bytes(-len(message) % algorithm.block)
    assert other_encrypt(algorithm, key, message) == sealed


@pytest.mark.parametrize("name", NAMES)
def test_the_card_itself_takes_the_worked_script(name: str) -> None:
    """From one challenge: WRITE KEY, UPDATE RECORD, EXTERNAL AUTHENTICATE, byte for byte."""
    profile = "sssc-3.0-sm4" if name == "sm4" else "sssc-2.0-3des"
    memory = blank_memory(H("0000000A00000007"), profile, PUBLIC_TEST_KEY, PUBLIC_TEST_KEY)
    terminal = Terminal(VirtualCard(memory, randomness=lambda size: bytes(range(1, size + 1))), NAMES[name])
    terminal.select("SSSE")
    assert terminal.challenge() == H("0102030405060708")
    for case in VECTORS[name]["secured"][:2]:
        assert terminal.sw(case["command"]) == "9000"
    authentication = VECTORS[name]["authentication"][0]
    assert terminal.sw("0082000410" + authentication["cryptogram"] + authentication["data"]) == "9000"
    assert memory.files["SSSE/EF06"][-4] == b"1"


def test_payment_keys_cryptograms_and_macs() -> None:
    """EMV CPS 1.1 with another DES: key derivation, both cryptograms, the chained C-MAC."""
    case = VECTORS["cps"]
    tail = H(case["key_data"])[-6:]
    made = [
        other_encrypt(
            Algorithm.TRIPLE_DES, H(case["kmc"]), tail + b"\xf0" + bytes((n,)) + tail + b"\x0f" + bytes((n,))
        )
        for n in (1, 2, 3)
    ]
    assert made == [H(case[name]) for name in ("kenc", "kmac", "kdek")]
    assert tuple(made) == issuer_keys(H(case["kmc"]), H(case["key_data"]))
    for kind, key, session in (
        ("0182", "kenc", "sku_enc"),
        ("0101", "kmac", "sku_mac"),
        ("0181", "kdek", "sku_dek"),
    ):
        block = H(kind) + H(case["counter"]) + bytes(12)
        assert other_encrypt(Algorithm.TRIPLE_DES, H(case[key]), block, bytes(8)) == H(case[session])
    host, card, counter = H(case["host_challenge"]), H(case["card_challenge"]), H(case["counter"])
    for parts, name in (
        (host + counter + card, "card_cryptogram"),
        (counter + card + host, "host_cryptogram"),
    ):
        padded = parts + H("8000000000000000")
        last = other_encrypt(Algorithm.TRIPLE_DES, H(case["sku_enc"]), padded, bytes(8))[-8:]
        assert last == H(case[name])
    first, second = H(case["external_authenticate"]), H(case["store_data"])
    assert retail_mac(H(case["sku_mac"]), bytes(8), first[:-8]) == first[-8:]
    assert retail_mac(H(case["sku_mac"]), first[-8:], second[:-8]) == second[-8:]
    assert other_retail_mac(H(case["sku_mac"]), first[-8:], second[:-8]) == second[-8:]


def other_retail_mac(key: bytes, start: bytes, message: bytes) -> bytes:
    """ISO 9797-1 algorithm 3: DES in CBC, then D with the right and E with the left half."""
    padded = message + b"\x80"
    padded += bytes(-len(padded) % 8)
    last = DES.new(key[:8], DES.MODE_CBC, iv=start).encrypt(padded)[-8:]
    turned = DES.new(key[8:], DES.MODE_ECB).decrypt(last)
    return bytes(DES.new(key[:8], DES.MODE_ECB).encrypt(turned))


@pytest.mark.parametrize("case", VECTORS["tlv"], ids=str)
def test_tlv(case: dict[str, Any]) -> None:
    if "record" in case:
        tag, value = case["record"]
        assert record(int(tag, 16), H(value)) == H(case["bytes"])
    elif "template" in case:
        tag, parts = case["template"]
        assert template(tag, *map(H, parts)) == H(case["bytes"])
    else:
        found = [(f"{group:04X}", content.hex().upper()) for group, content in groupings(H(case["bytes"]))]
        assert [list(item) for item in found] == case["groupings"]


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=300)), max_size=6))
def test_groupings_read_back(groups: list[tuple[int, bytes]]) -> None:
    message = b"".join(
        group.to_bytes(2)
        + (bytes((len(content),)) if len(content) < 255 else b"\xff" + len(content).to_bytes(2))
        + content
        for group, content in groups
    )
    assert list(groupings(message)) == groups
    if message:
        with pytest.raises(ValueError, match=r"cut|without length"):
            list(groupings(message + b"\x01\x02"))


@given(st.sampled_from(Algorithm), st.binary(max_size=60))
def test_what_is_sealed_opens_and_what_is_changed_does_not(algorithm: Algorithm, plain: bytes) -> None:
    key = key_of("any")
    sealed = seal(algorithm, key, plain)
    assert unseal(algorithm, key, sealed) == plain
    assert unseal(algorithm, key, sealed[:-1]) is None
    assert unseal(algorithm, key_of("other"), sealed) != plain


def test_the_document_shows_these_examples() -> None:
    """Whoever writes scripts reads the document: its hexadecimal is that of the vectors."""
    text = (Path(__file__).parents[2] / "docs" / "developers" / "virtual-card.md").read_text("utf-8")
    shown = [case["command"] for name in NAMES for case in VECTORS[name]["secured"][:3]]
    shown += [step["child"] for name in NAMES for step in VECTORS[name]["derivation"]]
    shown += [case["cryptogram"] for name in NAMES for case in VECTORS[name]["authentication"]]
    assert [value for value in shown if value not in text] == []
    assert SSSE in text
