"""Key derivation against published and independent vectors, by column, without ever showing a key (R-25)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portal.core.crypto import sm4_blocks
from production.personalization.keys import (
    CardKeys,
    KeyDerivationError,
    card_factor,
    city_factor,
    city_key,
    city_keys,
    derive_card_keys,
    diversify,
    province_factor,
    split_block,
)
from production.personalization.profile import CardKey, load_profile

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "keys.json").read_text())
PROFILE = load_profile("sssc-3.0-sm4")
FACTORS = [bytes([n]) * 8 for n in range(1, 6)]


def parents(count: int) -> dict[str, bytes]:
    return {f"K{n}": bytes([0xA0 + n]) * 16 for n in range(count)}


def test_block_cipher_follows_the_standard() -> None:
    """GB/T 32907, A.1."""
    block = VECTORS["block"]
    key, plain = bytes.fromhex(block["key"]), bytes.fromhex(block["plain"])
    assert sm4_blocks(key, plain).hex().upper() == block["cipher"]


@pytest.mark.parametrize("vector", VECTORS["chains"], ids=lambda v: f"{v['title']}-{v['card_factor']}")
def test_chain_from_master_to_card(vector: dict[str, Any]) -> None:
    """R-25: province, city and card level, against another implementation of SM4."""
    key = CardKey("SSSE", "K", 0, vector["levels"] << 5 | 8, 0)
    at_city = city_key(bytes.fromhex(vector["master"]), key, vector["area"])
    assert at_city.hex().upper() == vector["city_key"]
    factor = bytes.fromhex(vector["card_factor"])
    assert diversify(at_city, factor).hex().upper() == vector["card_key"]
    assert derive_card_keys({"K": at_city}, [factor]).of(0)["K"].hex().upper() == vector["card_key"]


def test_factors_by_area_and_reset() -> None:
    assert province_factor("440600") == b"440000sh"
    assert city_factor("440600") == b"440600sx"
    assert card_factor(bytes.fromhex("3B6D000000815433861122334455667788")) == bytes.fromhex(
        "1122334455667788"
    )


def test_columns_equal_the_keys_derived_one_by_one() -> None:
    """R-25: the fast order of work changes no key, and each card has its own."""
    masters = parents(4)
    keys = derive_card_keys(masters, FACTORS)
    for card, factor in enumerate(FACTORS):
        assert keys.of(card) == {name: diversify(parent, factor) for name, parent in masters.items()}
    assert len(set(keys.blocks())) == len(FACTORS)
    assert b"".join(keys.blocks()) == keys.matrix
    assert split_block(keys.names, keys.block(2)) == keys.of(2)


def test_whole_profile_is_brought_to_the_city() -> None:
    masters = {key.full_name: bytes([n]) * 16 for n, key in enumerate(PROFILE.keys)}
    at_city = city_keys(masters, PROFILE, "440600")
    assert list(at_city) == [key.full_name for key in PROFILE.keys]
    unchanged = {name for name, value in at_city.items() if value == masters[name]}
    assert unchanged == {key.full_name for key in PROFILE.keys if key.levels == 1}
    assert city_keys(masters, PROFILE, "440100")["SSSE/IRK"] != at_city["SSSE/IRK"]


def test_no_cards_give_no_keys() -> None:
    keys = derive_card_keys(parents(2), [])
    assert (keys.count, keys.matrix, list(keys.blocks())) == (0, b"", [])


def test_keys_are_not_in_the_repr() -> None:
    """R-25: nobody finds a key in a log."""
    keys = derive_card_keys({"K": bytes(16)}, [bytes(8)])
    assert repr(keys) == "CardKeys(names=('K',), count=1)"


def test_two_cards_with_one_factor_are_refused() -> None:
    """R-25: they would carry the same keys, one a clone of the other."""
    with pytest.raises(KeyDerivationError, match="分散因子相同"):
        derive_card_keys(parents(1), [bytes(8), bytes(8)])


@pytest.mark.parametrize("factors", [[bytes(7)], [bytes(9)], [bytes(8), b""], [bytes(4), bytes(12)]])
def test_wrong_factor_length_is_refused(factors: list[bytes]) -> None:
    with pytest.raises(KeyDerivationError, match="分散因子长度不对"):
        derive_card_keys(parents(1), factors)


def test_missing_master_is_named() -> None:
    with pytest.raises(KeyDerivationError) as caught:
        city_keys({}, PROFILE, "440600")
    assert (caught.value.where, caught.value.code) == ("SSSE/IRK", "key_derivation")


@pytest.mark.parametrize("area", ["4406", "4406000", "44060x", "４４０６００"])
def test_wrong_area_is_refused(area: str) -> None:
    with pytest.raises(KeyDerivationError, match="行政区划代码"):
        province_factor(area)


def test_short_reset_and_short_factor_are_refused() -> None:
    with pytest.raises(KeyDerivationError, match="复位信息过短"):
        card_factor(bytes(9))
    with pytest.raises(KeyDerivationError, match="分散因子长度不对"):
        diversify(bytes(16), bytes(7))


def test_block_of_another_length_is_refused() -> None:
    with pytest.raises(KeyDerivationError, match="密钥块长度不对"):
        split_block(("A", "B"), bytes(16))
    keys = CardKeys(("A",), 1, bytes(16))
    for card in (-1, 1):
        with pytest.raises(IndexError):
            keys.block(card)
