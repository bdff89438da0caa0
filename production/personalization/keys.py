"""Card keys by diversification, one master key over many cards at a time (R-25).

Facts of the card, section 3: child = E(parent, factor || NOT factor), one block of SM4 or two of 3DES. Levels
from the top: province factor = 2 digits + "0000sh", city factor = 6 digits + "sx", card factor = end of ATR.
Assumption: the levels of a PSAM usage byte also say where in that chain a key's master starts.
Derivation by column is what makes it fast: creating a cipher costs fifty times the block itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from portal.core.errors import PortalError
from production.personalization.card_crypto import FACTOR_SIZE, KEY_SIZE, card_cipher
from production.personalization.profile import CardKey, CardProfile

__all__ = [
    "FACTOR_SIZE",
    "KEY_SIZE",
    "CardKeys",
    "KeyDerivationError",
    "card_factor",
    "city_factor",
    "city_key",
    "city_keys",
    "derivation_block",
    "derive_card_keys",
    "diversify",
    "province_factor",
    "split_block",
]


class KeyDerivationError(PortalError):
    """Master keys or factors that cannot give the keys of the profile; never shows key bytes."""

    code = "key_derivation"


@dataclass(frozen=True, slots=True)
class CardKeys:
    """The keys of many cards in one block: card after card, in each the keys in the order of `names`."""

    names: tuple[str, ...]
    count: int
    matrix: bytes = field(repr=False)

    @property
    def stride(self) -> int:
        """Return the bytes of one card's keys."""
        return KEY_SIZE * len(self.names)

    def block(self, card: int) -> bytes:
        """Return all keys of one card, joined."""
        if not 0 <= card < self.count:
            raise IndexError(card)
        return self.matrix[card * self.stride : (card + 1) * self.stride]

    def blocks(self) -> Iterator[bytes]:
        """Yield each card's keys, joined, in the order of the factors."""
        return (self.block(card) for card in range(self.count))

    def of(self, card: int) -> dict[str, bytes]:
        """Return one card's keys by name."""
        return split_block(self.names, self.block(card))


def split_block(names: Sequence[str], block: bytes) -> dict[str, bytes]:
    """Return a card's joined keys by name; raise KeyDerivationError when the length is another."""
    if len(block) != KEY_SIZE * len(names):
        raise KeyDerivationError(
            "密钥块长度不对", expected=f"{KEY_SIZE * len(names)} 字节", got=f"{len(block)} 字节"
        )
    return {name: block[i * KEY_SIZE : (i + 1) * KEY_SIZE] for i, name in enumerate(names)}


def province_factor(area: str) -> bytes:
    """Return the factor of the province of a 6-digit area code."""
    return f"{_area(area)[:2]}0000sh".encode()


def city_factor(area: str) -> bytes:
    """Return the factor of a city by its 6-digit area code."""
    return f"{_area(area)}sx".encode()


def card_factor(atr: bytes) -> bytes:
    """Return the factor of a card: the last 8 bytes of its ATR."""
    if len(atr) < FACTOR_SIZE + 2:
        raise KeyDerivationError(
            "复位信息过短", expected=f"至少 {FACTOR_SIZE + 2} 字节", got=f"{len(atr)} 字节"
        )
    return atr[-FACTOR_SIZE:]


def derivation_block(factor: bytes) -> bytes:
    """Return factor || NOT factor."""
    if len(factor) != FACTOR_SIZE:
        raise KeyDerivationError(
            "分散因子长度不对", expected=f"{FACTOR_SIZE} 字节", got=f"{len(factor)} 字节"
        )
    return factor + bytes(b ^ 0xFF for b in factor)


def diversify(parent: bytes, factor: bytes, algorithm: str = "sm4") -> bytes:
    """Return the child key of one level."""
    return card_cipher(algorithm).encrypt(parent, derivation_block(factor))


def city_key(master: bytes, key: CardKey, area: str, algorithm: str = "sm4") -> bytes:
    """Bring a master key down to the city: two steps for a national key, one for a province's."""
    for factor in (province_factor(area), city_factor(area))[3 - key.levels :]:
        master = diversify(master, factor, algorithm)
    return master


def city_keys(masters: Mapping[str, bytes], profile: CardProfile, area: str) -> dict[str, bytes]:
    """Bring every master of the profile, by full name, down to the city."""
    return {
        key.full_name: city_key(_named(masters, key.full_name), key, area, profile.algorithm)
        for key in profile.keys
    }


def derive_card_keys(
    city: Mapping[str, bytes], card_factors: Sequence[bytes], algorithm: str = "sm4"
) -> CardKeys:
    """Derive all keys of all cards from keys at city level, with one cipher context per key."""
    blocks = _derivation_blocks(card_factors)
    count, cipher = len(card_factors), card_cipher(algorithm)
    cells = np.empty((count, len(city), KEY_SIZE), dtype=np.uint8)
    for column, parent in enumerate(city.values()):
        cells[:, column] = np.frombuffer(cipher.encrypt(parent, blocks), dtype=np.uint8).reshape(
            count, KEY_SIZE
        )
    return CardKeys(tuple(city), count, cells.tobytes())


def _derivation_blocks(card_factors: Sequence[bytes]) -> bytes:
    joined = b"".join(card_factors)
    if any(len(factor) != FACTOR_SIZE for factor in card_factors):
        raise KeyDerivationError("分散因子长度不对", expected=f"{FACTOR_SIZE} 字节")
    if len(set(card_factors)) != len(card_factors):
        # Two chips with one factor would carry the same keys: one could stand in for the other.
        raise KeyDerivationError("两张卡的分散因子相同", expected="各不相同")
    factors = np.frombuffer(joined, dtype=np.uint8).reshape(len(card_factors), FACTOR_SIZE)
    return np.hstack((factors, ~factors)).tobytes()


def _named(masters: Mapping[str, bytes], name: str) -> bytes:
    if name not in masters:
        raise KeyDerivationError("缺少主密钥", where=name)
    return masters[name]


def _area(area: str) -> str:
    if not (len(area) == 6 and area.isascii() and area.isdigit()):
        raise KeyDerivationError("行政区划代码不对", expected="6 位数字", got=area)
    return area
