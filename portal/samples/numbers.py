"""Numbers of invented people: valid, and unique because a permutation, not chance, maps each index."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from stdnum.iso7064 import mod_11_2

FOSHAN_AREAS: Final = ("440604", "440605", "440606", "440607", "440608")
OTHER_AREAS: Final = (
    "440103", "440111", "440783", "440881", "441202", "441881", "450103", "450302", "450881", "430102",
    "430481", "420102", "421002", "360102", "360702", "510104", "511302", "520102", "500103", "530102",
    "410102", "411502", "340102", "350102", "330102", "610102", "460105",
)  # fmt: skip
WESTERN_AREAS: Final = ("650102", "653101", "653201", "654101", "652901")
COMPATRIOT_AREAS: Final = ("810000", "820000", "830000")
# ISO 3166-1: letters for the older numbers, the three figures for the 9-numbers.
COUNTRIES: Final = (
    ("USA", "840"), ("GBR", "826"), ("JPN", "392"), ("KOR", "410"), ("DEU", "276"), ("FRA", "250"),
    ("CAN", "124"), ("AUS", "036"), ("SGP", "702"), ("MYS", "458"), ("IND", "356"), ("BRA", "076"),
)  # fmt: skip

FIRST_BIRTH: Final = date(1942, 1, 1)
LAST_BIRTH: Final = date(2017, 12, 31)
_DAYS: Final = (LAST_BIRTH - FIRST_BIRTH).days + 1
# One century only: the old number writes the year with two figures.
_FOREIGN_FIRST_BIRTH: Final = date(1950, 1, 1)
_FOREIGN_DAYS: Final = (date(1999, 12, 31) - _FOREIGN_FIRST_BIRTH).days + 1
_SERIALS: Final = 999
_CARD_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Spread:
    """A permutation of range(size) that scatters neighbours evenly."""

    size: int
    stride: int
    offset: int

    @classmethod
    def seeded(cls, size: int, seed: str) -> Spread:
        """Draw a permutation that depends on the seed only."""
        rng = random.Random(f"spread:{seed}")
        stride = int(size * _GOLDEN) - rng.randrange(max(1, size // 50))
        while math.gcd(stride, size) != 1:
            stride += 1
        return cls(size, stride, rng.randrange(size))

    def at(self, index: int) -> int:
        """Return the place of `index`; two indexes never share one, so beyond the size is a ValueError."""
        if not 0 <= index < self.size:
            raise ValueError(f"index {index} is outside 0 … {self.size - 1}")
        return (index * self.stride + self.offset) % self.size


@dataclass(frozen=True, slots=True)
class Identity:
    """What a document says; `male` follows from the number wherever the number tells it."""

    number: str
    born_on: date
    male: bool


def _male(serial: int) -> bool:
    return serial % 2 == 1


def checked(body: str) -> str:
    """Append the MOD 11-2 check character (ISO 7064) to 17 digits."""
    return body + str(mod_11_2.calc_check_digit(body))


def icao_digit(text: str) -> str:
    """Return the 7-3-1 check digit (ICAO 9303) that closes an old permanent resident number."""
    return str(sum(int(char, 36) * (7, 3, 1)[place % 3] for place, char in enumerate(text)) % 10)


class ResidentNumbers:
    """18-digit numbers of one group of areas."""

    def __init__(self, areas: tuple[str, ...], seed: str) -> None:
        self._areas = areas
        self._spread = Spread.seeded(len(areas) * _DAYS * _SERIALS, f"resident:{areas[0]}:{seed}")

    def at(self, index: int) -> Identity:
        """Return the identity of `index`."""
        rest, serial = divmod(self._spread.at(index), _SERIALS)
        day, area = divmod(rest, len(self._areas))
        born_on = FIRST_BIRTH + timedelta(days=day)
        body = f"{self._areas[area]}{born_on:%Y%m%d}{serial + 1:03d}"
        return Identity(checked(body), born_on, _male(serial + 1))


class NineNumbers:
    """Permanent resident numbers of the new kind: 9, province, country, birth date, serial, check."""

    def __init__(self, seed: str) -> None:
        self._spread = Spread.seeded(len(COUNTRIES) * _FOREIGN_DAYS * _SERIALS, f"nine:{seed}")

    def at(self, index: int) -> Identity:
        """Return the identity of `index`."""
        rest, serial = divmod(self._spread.at(index), _SERIALS)
        day, country = divmod(rest, len(COUNTRIES))
        born_on = _FOREIGN_FIRST_BIRTH + timedelta(days=day)
        body = f"944{COUNTRIES[country][1]}{born_on:%Y%m%d}{serial + 1:03d}"
        return Identity(checked(body), born_on, _male(serial + 1))


class OldPermanentNumbers:
    """Permanent resident numbers of the old kind: country letters, place of issue, YYMMDD, serial, check."""

    def __init__(self, seed: str) -> None:
        self._spread = Spread.seeded(len(COUNTRIES) * _FOREIGN_DAYS * 10, f"old:{seed}")

    def at(self, index: int) -> Identity:
        """Return the identity of `index`."""
        rest, serial = divmod(self._spread.at(index), 10)
        day, country = divmod(rest, len(COUNTRIES))
        born_on = _FOREIGN_FIRST_BIRTH + timedelta(days=day)
        body = f"{COUNTRIES[country][0]}4406{born_on:%y%m%d}{serial}"
        return Identity(body + icao_digit(body), born_on, _male(serial))


class PassportNumbers:
    """18-character numbers of foreigners without permanent residence: country, document number, reserve 0."""

    def __init__(self, seed: str) -> None:
        self._spread = Spread.seeded(len(COUNTRIES) * 10_000_000, f"passport:{seed}")
        self._births = Spread.seeded(_FOREIGN_DAYS, f"passport-birth:{seed}")

    def at(self, index: int) -> Identity:
        """Return the identity of `index`; sex and birth date stand outside the number."""
        serial, country = divmod(self._spread.at(index), len(COUNTRIES))
        born_on = _FOREIGN_FIRST_BIRTH + timedelta(days=self._births.at(index % _FOREIGN_DAYS))
        letters = COUNTRIES[country][0]
        number = f"{letters}{letters[0]}{serial:07d}".ljust(17, "0") + "0"
        return Identity(number, born_on, _male(serial))


class CardNumbers:
    """AAZ500: a letter and eight digits."""

    def __init__(self, seed: str) -> None:
        self._spread = Spread.seeded(len(_CARD_LETTERS) * 100_000_000, f"card:{seed}")

    def at(self, index: int) -> str:
        """Return the card number of `index`."""
        letter, digits = divmod(self._spread.at(index), 100_000_000)
        return f"{_CARD_LETTERS[letter]}{digits:08d}"
