"""Amounts in yuan and the half-years they are settled in."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.clock import day_of, format_day, format_moment, local, now, today
from portal.core.money import AmountRefusedError, capital_yuan, format_yuan, parse_yuan, to_fen
from portal.core.periods import Period, add_months, contract_periods, half_year

amounts = st.decimals(Decimal("-999999999999.99"), Decimal("999999999999.99"), places=2)
VALUES = {char: value for value, char in enumerate("零壹贰叁肆伍陆柒捌玖")}


def read_capital(text: str) -> Decimal:
    """Evaluate capital characters the way a person does, as an independent check."""
    negative, text = text.startswith("负"), text.removeprefix("负").removesuffix("整")
    whole, _, cents = text.rpartition("元")
    total, group, digit = 0, 0, 0
    for char in whole:
        if char in VALUES:
            digit = VALUES[char]
        elif char in "拾佰仟":
            group, digit = group + digit * 10 ** ("拾佰仟".index(char) + 1), 0
        else:
            scale = {"万": 10**4, "亿": 10**8}[char]
            total = (total + group + digit) * scale if char == "亿" else total + (group + digit) * scale
            group = digit = 0
    result = Decimal(total + group + digit)
    for char, unit in zip(cents[::2].replace("零", ""), cents[1::2], strict=False):
        result += VALUES[char] * {"角": Decimal("0.1"), "分": Decimal("0.01")}[unit]
    return -result if negative else result


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1409.50", "壹仟肆佰零玖元伍角整"),
        ("6007.14", "陆仟零柒元壹角肆分"),
        ("1680.32", "壹仟陆佰捌拾元叁角贰分"),
        ("107000.53", "壹拾万零柒仟元伍角叁分"),
        ("16409.02", "壹万陆仟肆佰零玖元零贰分"),
        ("325.04", "叁佰贰拾伍元零肆分"),
        ("13750000", "壹仟叁佰柒拾伍万元整"),
        ("8250000", "捌佰贰拾伍万元整"),
        ("5500000", "伍佰伍拾万元整"),
        ("10.00", "壹拾元整"),
        ("0", "零元整"),
        ("0.05", "伍分"),
        ("-12.3", "负壹拾贰元叁角整"),
        ("2005000000", "贰拾亿零伍佰万元整"),
        ("100000005", "壹亿零伍元整"),
    ],
)
def test_capital_amount_follows_the_published_examples(amount: str, text: str) -> None:
    """R-41: the invoice's capital amount; first six are the examples of 银发〔1997〕393号."""
    assert capital_yuan(Decimal(amount)) == text


@given(amounts.filter(lambda amount: amount % 1 == 0 or abs(amount) >= 1))
def test_capital_amount_reads_back(amount: Decimal) -> None:
    """R-41: no digit is lost between figures and capitals."""
    text = capital_yuan(amount)
    whole, _, cents = text.rpartition("元")
    assert read_capital(f"{whole}元{cents.removeprefix('零')}") == amount
    assert "零零" not in text
    assert "零元" not in text.removeprefix("零元")


def test_capital_amount_has_a_limit() -> None:
    """R-41: an amount beyond any budget is refused, not written wrongly."""
    with pytest.raises(AmountRefusedError):
        capital_yuan(10**12)


@given(amounts)
def test_written_amount_reads_back(amount: Decimal) -> None:
    """R-40: display and entry agree."""
    assert parse_yuan(format_yuan(amount)) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [("¥13,750,000.00", "13750000.00"), (" ￥10 ", "10.00"), ("0.5元", "0.50"), ("-1,000", "-1000.00")],
)
def test_amounts_people_type(text: str, amount: str) -> None:
    """R-3: price entry as people write it."""
    assert str(parse_yuan(text)) == amount


@pytest.mark.parametrize("text", ["", "1.234", "1e3", "NaN", "1,00", "十元", "1..0", "¥", "１０", "9" * 16])
def test_what_is_no_amount_is_refused(text: str) -> None:
    """R-3: no guess at a price."""
    with pytest.raises(AmountRefusedError) as refused:
        parse_yuan(text)
    assert refused.value.code == "amount_refused"


def test_rounding_is_half_up_and_floats_are_refused() -> None:
    """R-40: settlement rounds as accountants do."""
    assert to_fen(Decimal("0.125")) == Decimal("0.13")
    assert to_fen(Decimal("-0.125")) == Decimal("-0.13")
    assert format_yuan(13750000) == "¥13,750,000.00"
    assert format_yuan(Decimal(-1)) == "-¥1.00"
    with pytest.raises(TypeError):
        to_fen(0.1)  # type: ignore[arg-type]


def test_half_years() -> None:
    """R-39: the two halves of a year, ends inside."""
    assert half_year(date(2026, 6, 30)) == Period(date(2026, 1, 1), date(2026, 6, 30))
    assert half_year(date(2026, 7, 1)) == Period(date(2026, 7, 1), date(2026, 12, 31))
    assert half_year(date(2026, 11, 23)).label == "2026年下半年"
    assert date(2026, 12, 31) in half_year(date(2026, 7, 1))
    with pytest.raises(ValueError, match="before it starts"):
        Period(date(2026, 2, 1), date(2026, 1, 1))


@given(st.dates(date(2000, 1, 1), date(2090, 1, 1)))
def test_a_contract_has_six_periods_that_touch(signed_on: date) -> None:
    """R-39, R-2: six settlements fill three years without gap or overlap."""
    periods = list(contract_periods(signed_on))
    assert len(periods) == 6
    assert periods[0].start == signed_on
    gaps = [(after.start - before.end).days for before, after in pairwise(periods)]
    assert gaps == [1] * 5
    assert (periods[-1].end - add_months(signed_on, 36)).days == -1


def test_label_of_a_contract_period_and_months_without_that_day() -> None:
    """R-39: a period that is no calendar half is named by its days."""
    assert Period(date(2026, 3, 1), date(2026, 8, 31)).label == "2026-03-01 至 2026-08-31"
    assert add_months(date(2026, 8, 31), 6) == date(2027, 2, 28)
    assert add_months(date(2026, 12, 31), -1) == date(2026, 11, 30)


def test_the_citys_day_begins_at_sixteen_utc() -> None:
    """R-10: day 0 is the day on the city's calendar."""
    assert day_of(datetime(2026, 9, 27, 16, 0, tzinfo=UTC)) == date(2026, 9, 28)
    assert day_of(datetime(2026, 9, 27, 15, 59, tzinfo=UTC)) == date(2026, 9, 27)
    assert now().tzinfo is UTC
    assert today() in (day_of(now()), day_of(now()))
    with pytest.raises(ValueError, match="naive"):
        local(datetime(2026, 9, 28))


def test_dates_for_people() -> None:
    """R-48: dates as people read them."""
    assert format_day(date(2026, 9, 28)) == "2026年9月28日"
    assert format_moment(datetime(2026, 9, 28, 6, 5, tzinfo=UTC)) == "2026年9月28日 14:05"
