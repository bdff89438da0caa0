"""Invented people of any quantity, one after the other, the same again for the same seed (R-12, R-13)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from portal.samples.banks import BankSpec
from portal.samples.names import employer, han_name, latin_name, minority_name
from portal.samples.numbers import (
    COMPATRIOT_AREAS,
    FOSHAN_AREAS,
    OTHER_AREAS,
    WESTERN_AREAS,
    CardNumbers,
    Identity,
    NineNumbers,
    OldPermanentNumbers,
    PassportNumbers,
    ResidentNumbers,
)

COLUMNS: Final = (
    "seq", "AAC002", "AAC003", "AAC004", "AAC005", "AAC006", "AAC058", "AAB301", "AAE008", "branch",
    "employer_code", "employer_name", "issue_kind", "card_kind", "AAZ500", "issue_date", "expiry_date",
)  # fmt: skip

VALID_YEARS: Final = 10
PEOPLE_PER_EMPLOYER: Final = 40


class DocumentType(StrEnum):
    """AAC058, the document behind AAC002 (the code list is an assumption)."""

    RESIDENT = "01"
    PERMANENT_RESIDENT = "07"
    PASSPORT = "08"
    WORK_PERMIT = "11"
    COMPATRIOT = "16"


MALE, FEMALE = "1", "2"  # GB/T 2261.1
HAN, UYGHUR, KAZAKH, OTHER_ETHNICITY = "01", "05", "17", "97"  # GB/T 3304


@dataclass(frozen=True, slots=True)
class SamplePerson:
    """One invented record; dates are YYYYMMDD, `index` is its place in the whole invented world."""

    index: int
    number: str
    name: str
    sex: str
    ethnicity: str
    birth_date: str
    document_type: str
    area: str
    bank_code: str
    branch: str
    employer_code: str
    employer_name: str
    issue_kind: str
    card_kind: str
    card_number: str
    issue_date: str
    expiry_date: str

    def row(self, seq: int) -> list[str]:
        """Return the cells in the order of COLUMNS."""
        return [
            str(seq), self.number, self.name, self.sex, self.ethnicity, self.birth_date, self.document_type,
            self.area, self.bank_code, self.branch, self.employer_code, self.employer_name, self.issue_kind,
            self.card_kind, self.card_number, self.issue_date, self.expiry_date,
        ]  # fmt: skip


class _Registry:
    """All number spaces of one seed, and what share of people comes from which."""

    def __init__(self, seed: int) -> None:
        text = str(seed)
        self._foshan = ResidentNumbers(FOSHAN_AREAS, text)
        self._other = ResidentNumbers(OTHER_AREAS, text)
        self._western = ResidentNumbers(WESTERN_AREAS, text)
        self._compatriots = ResidentNumbers(COMPATRIOT_AREAS, text)
        self._nine = NineNumbers(text)
        self._old = OldPermanentNumbers(text)
        self._passport = PassportNumbers(text)
        self.cards = CardNumbers(text)

    def draw(self, index: int, rng: random.Random) -> tuple[Identity, str, str, str]:
        """Return identity, name, ethnicity and document type of the person at `index`."""
        lot = rng.random()
        if lot < 0.95:
            identity = (self._foshan if lot < 0.65 else self._other).at(index)
            return identity, han_name(rng, male=identity.male), _ethnicity(rng), DocumentType.RESIDENT
        if lot < 0.97:
            identity = self._western.at(index)
            ethnicity = rng.choice((UYGHUR, UYGHUR, KAZAKH))
            return identity, minority_name(rng, male=identity.male), ethnicity, DocumentType.RESIDENT
        if lot < 0.985:
            identity = self._compatriots.at(index)
            return identity, han_name(rng, male=identity.male), HAN, DocumentType.COMPATRIOT
        return self._foreigner(index, lot, rng)

    def _foreigner(self, index: int, lot: float, rng: random.Random) -> tuple[Identity, str, str, str]:
        if lot < 0.990:
            identity, document = self._nine.at(index), DocumentType.PERMANENT_RESIDENT
        elif lot < 0.993:
            identity, document = self._old.at(index), DocumentType.PERMANENT_RESIDENT
        else:
            identity = self._passport.at(index)
            document = DocumentType.WORK_PERMIT if lot < 0.997 else DocumentType.PASSPORT
        return identity, latin_name(rng, male=identity.male), OTHER_ETHNICITY, document


def _ethnicity(rng: random.Random) -> str:
    """Draw a code of GB/T 3304; Han nine times in ten."""
    return HAN if rng.random() < 0.9 else rng.choice(("03", "06", "08", "11", "12", "13", "14", "15"))


def _issue_kind(rng: random.Random) -> str:
    return rng.choices(("first", "replacement", "renewal"), (86, 9, 5))[0]


def _card_kind(rng: random.Random) -> str:
    return rng.choices(("finished", "premade", "test", "sample"), (991, 6, 2, 1))[0]


def _ten_years_on(day: date) -> date:
    """Return the day ten years later; 29 February becomes the 28th."""
    try:
        return day.replace(year=day.year + VALID_YEARS)
    except ValueError:
        return day.replace(year=day.year + VALID_YEARS, day=28)


def people(
    count: int, seed: int, banks: Sequence[BankSpec], *, issue_date: date, start: int = 0
) -> Iterator[SamplePerson]:
    """Yield `count` people whose numbers and card numbers no other index of the same seed has.

    `start` is the first index: a second package of the same world goes on where the first one ended.
    """
    registry = _Registry(seed)
    rng = random.Random(f"people:{seed}:{start}")
    weights = [max(1, 12 - position // 2) for position in range(len(banks))]
    employers = max(3, count // PEOPLE_PER_EMPLOYER)
    issued, expires = f"{issue_date:%Y%m%d}", f"{_ten_years_on(issue_date):%Y%m%d}"
    for index in range(start, start + count):
        identity, name, ethnicity, document = registry.draw(index, rng)
        bank = rng.choices(banks, weights)[0]
        employer_code, employer_name = employer(rng.randrange(employers))
        yield SamplePerson(
            index=index,
            number=identity.number,
            name=name,
            sex=MALE if identity.male else FEMALE,
            ethnicity=ethnicity,
            birth_date=f"{identity.born_on:%Y%m%d}",
            document_type=document,
            area=rng.choice(FOSHAN_AREAS),
            bank_code=bank.code,
            branch=rng.choice(bank.points),
            employer_code=employer_code,
            employer_name=employer_name,
            issue_kind=_issue_kind(rng),
            card_kind=_card_kind(rng),
            card_number=registry.cards.at(index),
            issue_date=issued,
            expiry_date=expires,
        )
