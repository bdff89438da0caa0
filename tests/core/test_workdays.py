"""Chinese working days: the deadline of R-10 and what the seed says about published and unpublished years."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.workdays import SeedDay, WorkCalendar, published_years, seed_days

SEED_2026 = {seed.date: seed.is_workday for seed in seed_days([2026])}
CALENDAR = WorkCalendar(SEED_2026)
days = st.dates(date(2025, 6, 1), date(2027, 6, 30))


def test_deadline_over_national_day() -> None:
    """R-10: matched Monday 2026-09-28, six working days later is Monday 2026-10-12."""
    assert CALENDAR.add_workdays(date(2026, 9, 28), 6) == date(2026, 10, 12)


def test_the_days_counted_include_the_make_up_saturday() -> None:
    """R-10: 1–7 October are off, Saturday the 10th is worked instead."""
    counted = [date(2026, 9, 28) + timedelta(n) for n in range(1, 15)]
    assert [day.isoformat()[5:] for day in counted if CALENDAR.is_workday(day)] == [
        "09-29", "09-30", "10-08", "10-09", "10-10", "10-12",
    ]  # fmt: skip


def test_a_start_on_a_day_off_is_still_day_zero() -> None:
    """R-10: matching that completes on a Sunday gives the six following working days."""
    assert CALENDAR.add_workdays(date(2026, 11, 22), 6) == date(2026, 11, 30)


def test_seed_of_2026_holds_the_published_arrangement() -> None:
    """R-10: make-up days of the State Council's notice for 2026."""
    worked = [seed.date for seed in seed_days([2026]) if seed.is_workday]
    assert worked == [
        date(2026, 1, 4), date(2026, 2, 14), date(2026, 2, 28), date(2026, 5, 9),
        date(2026, 9, 20), date(2026, 10, 10),
    ]  # fmt: skip
    assert SeedDay(date(2026, 10, 1), False, "国庆节", False) in list(seed_days([2026]))


def test_every_year_since_2008_is_recognised_as_published() -> None:
    """R-10: the sign of a published year, at least one make-up day, held in each known year."""
    provisional = {seed.date.year for seed in seed_days(range(2008, 2027)) if seed.provisional}
    assert provisional == set()


def test_a_year_without_arrangement_is_provisional() -> None:
    """R-10: statutory days alone are marked, so that a deadline in that year can be shown as a forecast."""
    seeds = list(seed_days([2090]))
    assert seeds
    assert all(seed.provisional and not seed.is_workday for seed in seeds)
    calendar = WorkCalendar({seed.date: seed.is_workday for seed in seed_days([2026, 2090])})
    assert not calendar.is_provisional(date(2026, 12, 31))
    assert calendar.is_provisional(date(2090, 1, 4))
    assert calendar.spans_provisional(date(2026, 12, 31), date(2027, 1, 4))
    assert not calendar.spans_provisional(date(2026, 12, 31), date(2026, 1, 4))


def test_published_years_can_be_said_by_the_people_who_edit_the_table() -> None:
    """R-10: an edited calendar may declare a year settled."""
    assert not WorkCalendar({}, published=[2027]).is_provisional(date(2027, 3, 1))
    edited = {date(2027, 2, 20): True, date(2028, 2, 21): True, date(2029, 2, 17): False}
    assert published_years(edited) == {2027}


def test_an_edited_day_wins_over_the_weekday() -> None:
    """R-10: the table is editable, for a typhoon day as for a worked Sunday."""
    edited = WorkCalendar({date(2026, 11, 25): False, date(2026, 11, 29): True})
    assert edited.add_workdays(date(2026, 11, 24), 3) == date(2026, 11, 29)


def test_seed_years_come_once_and_in_order() -> None:
    """R-10: seeding twice the same year adds no second row."""
    dates = [seed.date for seed in seed_days([2026, 2025, 2026])]
    assert dates == sorted(set(dates))


@given(days, st.integers(-60, 60))
def test_counting_undoes_adding(start: date, count: int) -> None:
    """R-10: days left are counted by the rule that set the deadline."""
    end = CALENDAR.add_workdays(start, count)
    assert CALENDAR.workdays_between(start, end) == count
    assert count == 0 or CALENDAR.is_workday(end)


@given(days, days, st.integers(0, 40))
def test_later_start_never_means_earlier_deadline(first: date, second: date, count: int) -> None:
    """R-10: monotone in the start."""
    early, late = sorted((first, second))
    assert CALENDAR.add_workdays(early, count) <= CALENDAR.add_workdays(late, count)


@given(days, days)
def test_count_is_monotone_and_bounded_by_calendar_days(start: date, end: date) -> None:
    """R-10: never more working days than days."""
    count = CALENDAR.workdays_between(start, end)
    assert abs(count) <= abs((end - start).days)
    assert CALENDAR.workdays_between(start, end + timedelta(1)) - count in (0, 1)


@pytest.mark.parametrize("weekday", range(7))
def test_without_overrides_monday_to_friday_are_worked(weekday: int) -> None:
    """R-10: the weekday decides where the table is silent."""
    assert WorkCalendar({}).is_workday(date(2026, 11, 23) + timedelta(weekday)) is (weekday < 5)
