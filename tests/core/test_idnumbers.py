"""Numbers of persons (R-12): every kind, every way to be wrong."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.iso7064 import mod_11_2

from portal.core.idnumbers import (
    COUNTRIES,
    DocumentKind,
    IdNumber,
    mask_number,
    normalise_number,
    parse_number,
    without_numbers,
)
from portal.core.problems import Problem

TODAY = dt.date(2026, 11, 23)


def with_check(body: str) -> str:
    """Append the MOD 11-2 character to 17 digits."""
    return body + mod_11_2.calc_check_digit(body)


def parsed(text: str) -> IdNumber:
    found = parse_number(text, today=TODAY)
    assert isinstance(found, IdNumber), found
    return found


def code_of(text: str) -> str:
    found = parse_number(text, today=TODAY)
    assert isinstance(found, Problem), found
    assert found.field == "AAC002"
    assert found.expected
    return found.code


def test_resident_number_tells_birth_sex_and_area() -> None:
    """GB 11643; the standard's own example ends in X."""
    found = parsed("11010519491231002X")
    assert (found.kind, found.area, found.sex) == (DocumentKind.RESIDENT, "110105", "2")
    assert found.birth_on == dt.date(1949, 12, 31)


def test_odd_serial_is_male() -> None:
    assert parsed(with_check("44060419900307001")).sex == "1"


@pytest.mark.parametrize("area", ["810000", "820000", "830000"])
def test_hong_kong_macau_and_taiwan_residents_are_accepted(area: str) -> None:
    """R-12: numbers that `stdnum.cn.ric` would refuse."""
    found = parsed(with_check(f"{area}19850612004"))
    assert (found.kind, found.area, found.birth_on) == (
        DocumentKind.HMT_RESIDENT,
        area,
        dt.date(1985, 6, 12),
    )


def test_new_permanent_resident_number_starts_with_nine() -> None:
    """R-12: 9, province, country, birth date, serial, check."""
    found = parsed(with_check("94484019900307001"))
    assert (found.kind, found.area, found.sex) == (DocumentKind.PERMANENT_RESIDENT, "44", "1")
    assert found.birth_on == dt.date(1990, 3, 7)


def test_old_permanent_resident_number_has_letters_and_twelve_digits() -> None:
    """R-12."""
    found = parsed("USA440112345678")
    assert (found.kind, found.area, found.birth_on, found.sex) == (
        DocumentKind.PERMANENT_RESIDENT_OLD,
        "USA",
        None,
        None,
    )


def test_foreigners_number_is_kept_in_upper_case() -> None:
    """R-12: 18 alphanumeric characters led by the country."""
    found = parsed(" fra12ab34567000000 ")
    assert (found.kind, found.value) == (DocumentKind.FOREIGNER, "FRA12AB34567000000")


def test_full_width_and_lower_case_x_are_normalised() -> None:
    assert parsed("\u3000１１０１０５１９４９１２３１００２ｘ ").value == "11010519491231002X"
    assert normalise_number("11010519491231002x\n") == "11010519491231002X"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "number_missing"),
        ("　 ", "number_missing"),
        ("1.1E+17", "number_scientific"),
        ("4.40604E17", "number_scientific"),
        ("123", "number_length"),
        ("440604900307001", "number_format"),  # 15 digits of the first generation
        ("1101051949123100２", "number_length"),
        ("110105194912310021", "number_checksum"),
        ("X1010519491231002X", "number_format"),
        ("11010519491231002٣", "number_format"),  # an Arabic digit is no digit here
        ("4406**********1234", "number_format"),
        ("CHN12AB34567000000", "number_country"),
        ("QQQ440112345678", "number_country"),
        (with_check("99060419900307001"), "number_area"),
        (with_check("10060419900307001"), "number_area"),
        (with_check("81010119900307001"), "number_area"),
        (with_check("44060419900230001"), "number_birth"),
        (with_check("44060419001301001"), "number_birth"),
        (with_check("44060420261124001"), "number_birth"),
        (with_check("44060418900101001"), "number_birth"),
        (with_check("00000000000000000"), "number_area"),
    ],
)
def test_each_broken_rule_has_its_code(text: str, code: str) -> None:
    """R-9: the return list says what is wrong."""
    assert code_of(text) == code


def test_born_today_is_old_enough() -> None:
    assert parsed(with_check("44060420261123001")).birth_on == TODAY


def test_every_single_digit_slip_is_caught() -> None:
    """ISO 7064 MOD 11-2 detects every substitution of one character."""
    good = with_check("44060419900307001")
    for place in range(17):
        for digit in "0123456789":
            if digit != good[place]:
                assert code_of(good[:place] + digit + good[place + 1 :]) == "number_checksum"


@given(st.text(max_size=40) | st.text("0123456789X", min_size=18, max_size=18))
def test_any_text_gives_a_number_or_a_problem(text: str) -> None:
    found = parse_number(text, today=TODAY)
    if isinstance(found, IdNumber):
        assert parse_number(found.value, today=TODAY) == found
    else:
        assert found.code.startswith("number_")


def test_huge_text_is_reported_short() -> None:
    found = parse_number("9" * 100_000, today=TODAY)
    assert isinstance(found, Problem)
    assert (found.code, len(found.got) < 80) == ("number_length", True)


def test_repr_keeps_the_person_out() -> None:
    """A number must not reach a log through its repr."""
    assert repr(parsed("11010519491231002X")) == "IdNumber(kind=<DocumentKind.RESIDENT: 'resident'>)"


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("440612345678901234", "4406**********1234"),
        ("USA440112345678", "USA4*******5678"),
        ("12345", "*****"),
        ("", ""),
    ],
)
def test_mask_number(number: str, masked: str) -> None:
    assert mask_number(number) == masked


def test_countries_are_the_248_of_iso_3166_and_three_of_icao() -> None:
    assert len(COUNTRIES) == 251
    assert {"USA", "GBR", "VNM", "XXA"} <= COUNTRIES
    assert "CHN" not in COUNTRIES


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("440608199807073996.scp", "4406**********3996.scp"),
        ("44060819980707399X.scp", "4406**********399X.scp"),
        ("卡6222021234567890123号.xlsx", "卡6222***********0123号.xlsx"),
        ("accounts_440608980707399_2.csv", "accounts_4406*******7399_2.csv"),
        ("GD20261123-001.sealed", "GD20261123-001.sealed"),
        ("20261123093000.csv", "20261123093000.csv"),
        ("12345678901234567890.csv", "12345678901234567890.csv"),
        ("", ""),
    ],
)
def test_numbers_in_names_of_files_are_masked(text: str, kept: str) -> None:
    """R-45: what a sender called a file is kept and shown; a date, a time and a package's number stay."""
    assert without_numbers(text) == kept
