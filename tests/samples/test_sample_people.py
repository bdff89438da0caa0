"""Invented people: the same for the same seed, all different, and valid by the project's own rules."""

from __future__ import annotations

from collections import Counter
from datetime import date
from itertools import islice

import noto_cjk_sans_otc
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given
from hypothesis import strategies as st
from stdnum.iso7064 import mod_11_2

from portal.core.idnumbers import DocumentKind, IdNumber, parse_number
from portal.core.names import check_name
from portal.samples.banks import BANKS, DELIVERY_POINTS, SUPPLIERS
from portal.samples.names import NAME_SEPARATOR, RARE_CHARACTERS, employer
from portal.samples.numbers import CardNumbers, Spread, icao_digit
from portal.samples.people import COLUMNS, SamplePerson, people

COUNT = 6000


@pytest.fixture(scope="module")
def crowd(issue_date: date) -> list[SamplePerson]:
    return list(people(COUNT, 7, BANKS, issue_date=issue_date))


def identities(crowd: list[SamplePerson], today: date) -> list[IdNumber]:
    found = [parse_number(person.number, today=today) for person in crowd]
    return [identity for identity in found if isinstance(identity, IdNumber)]


def test_same_seed_same_people(crowd: list[SamplePerson], issue_date: date) -> None:
    assert list(people(COUNT, 7, BANKS, issue_date=issue_date)) == crowd
    other = list(people(100, 8, BANKS, issue_date=issue_date))
    assert not {p.number for p in other} & {p.number for p in crowd}


def test_people_come_one_by_one(issue_date: date) -> None:
    endless = people(10**9, 7, BANKS, issue_date=issue_date)
    assert len(list(islice(endless, 3))) == 3


def test_nobody_twice_across_packages(crowd: list[SamplePerson], issue_date: date) -> None:
    later = list(people(COUNT, 7, BANKS, issue_date=issue_date, start=COUNT))
    everyone = crowd + later
    assert len({person.number for person in everyone}) == 2 * COUNT
    assert len({person.card_number for person in everyone}) == 2 * COUNT
    assert later[0].index == COUNT


def test_every_number_is_valid(crowd: list[SamplePerson], issue_date: date) -> None:
    """R-12: checksum, dates and areas hold, and each kind of holder occurs."""
    found = identities(crowd, issue_date)
    assert len(found) == COUNT
    kinds = Counter(identity.kind for identity in found)
    assert set(kinds) == set(DocumentKind)
    assert kinds[DocumentKind.RESIDENT] > 0.9 * COUNT
    assert {p.number[:2] for p in crowd if p.document_type == "16"} == {"81", "82", "83"}


def test_columns_agree_with_the_number(crowd: list[SamplePerson], issue_date: date) -> None:
    for person, identity in zip(crowd, identities(crowd, issue_date), strict=True):
        if identity.birth_on is not None:
            assert person.birth_date == f"{identity.birth_on:%Y%m%d}"
            assert person.sex == identity.sex


def test_old_permanent_numbers_close_with_their_digit(crowd: list[SamplePerson]) -> None:
    """R-12: three letters and twelve figures."""
    old = [person.number for person in crowd if len(person.number) == 15]
    assert old
    assert all(number[-1] == icao_digit(number[:-1]) for number in old)


def test_names_fit_card_and_font(crowd: list[SamplePerson]) -> None:
    """R-17: every generated name can be printed; about 3 % hold a rare character, some a separator."""
    cmap = TTFont(noto_cjk_sans_otc.FONT_PATH, fontNumber=2)["cmap"].getBestCmap()
    text = "".join(person.name for person in crowd) + RARE_CHARACTERS
    assert {char for char in text if char != " " and ord(char) not in cmap} == set()
    assert [problem for person in crowd if (problem := check_name(person.name))] == []
    rare = sum(any(char in RARE_CHARACTERS for char in person.name) for person in crowd)
    assert 0.02 < rare / COUNT < 0.04
    assert sum(NAME_SEPARATOR in person.name for person in crowd) > COUNT // 100


def test_cards_and_dates(crowd: list[SamplePerson]) -> None:
    """R-13: kinds mostly first and finished; ten years of validity."""
    assert {(p.issue_date, p.expiry_date) for p in crowd} == {("20261123", "20361123")}
    assert all(len(p.card_number) == 9 and p.card_number[0].isalpha() for p in crowd)
    assert set(Counter(p.issue_kind for p in crowd)) == {"first", "replacement", "renewal"}
    cards = Counter(p.card_kind for p in crowd)
    assert set(cards) == {"finished", "premade", "test", "sample"}
    assert cards["finished"] > 0.97 * COUNT


def test_leap_day_expires_on_the_28th() -> None:
    person = next(people(1, 1, BANKS, issue_date=date(2028, 2, 29)))
    assert person.expiry_date == "20380228"


def test_banks_and_points(crowd: list[SamplePerson]) -> None:
    """R-5: 18 banks with two to four delivery points each, and everybody at a point of his bank."""
    assert len(BANKS) == len({bank.code for bank in BANKS}) == 18
    assert all(2 <= len(bank.points) <= 4 for bank in BANKS)
    assert len({point.name for point in DELIVERY_POINTS.values()}) == len(DELIVERY_POINTS)
    assert {person.bank_code for person in crowd} == {bank.code for bank in BANKS}
    assert all(DELIVERY_POINTS[person.branch].bank_code == person.bank_code for person in crowd)


def test_three_suppliers_with_a_roster() -> None:
    """R-1 and R-15."""
    assert [supplier.lot for supplier in SUPPLIERS] == [1, 2, 3]
    staff = [member.staff_number for supplier in SUPPLIERS for member in supplier.roster]
    assert len(staff) == len(set(staff)) == 18


def test_employers_are_distinct() -> None:
    assert len({employer(number)[1] for number in range(20_000)}) == 20_000


def test_row_has_a_cell_for_each_column(crowd: list[SamplePerson]) -> None:
    row = dict(zip(COLUMNS, crowd[0].row(5), strict=True))
    assert (row["seq"], row["AAC002"], row["AAZ500"]) == ("5", crowd[0].number, crowd[0].card_number)


@given(st.integers(2, 5000), st.integers(0, 99))
def test_spread_is_a_permutation(size: int, seed: int) -> None:
    spread = Spread.seeded(size, str(seed))
    assert sorted(map(spread.at, range(size))) == list(range(size))


@pytest.mark.parametrize("index", [-1, 10])
def test_spread_has_no_room_beyond_its_size(index: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        Spread.seeded(10, "s").at(index)


def test_check_character_matches_published_example() -> None:
    """GB 11643, annex: 11010519491231002X."""
    assert mod_11_2.calc_check_digit("11010519491231002") == "X"
    assert CardNumbers("1").at(0) != CardNumbers("2").at(0)
