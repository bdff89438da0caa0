"""The working-day calendar as it stands in the table, complete even for years nobody has entered yet."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from functools import lru_cache

from orders.models import WorkCalendarDay
from portal.core.clock import today
from portal.core.workdays import SeedDay, WorkCalendar, seed_days


def work_calendar(*days: date) -> WorkCalendar:
    """Return the calendar that covers today's year, its neighbours and the years of `days` (R-10).

    A year without a single row is filled from the published seed. A year counts as published when none
    of its rows is provisional.
    """
    entered: dict[int, list[tuple[date, bool, bool]]] = defaultdict(list)
    for day, worked, provisional in WorkCalendarDay.objects.values_list(
        "date", "is_workday", "is_provisional"
    ):
        entered[day.year].append((day, worked, provisional))
    for year in _years(days) - entered.keys():
        entered[year] = [(seed.date, seed.is_workday, seed.provisional) for seed in _seeds(year)]
    overrides = {day: worked for rows in entered.values() for day, worked, _ in rows}
    published = [year for year, rows in entered.items() if rows and not any(row[2] for row in rows)]
    return WorkCalendar(overrides, published=published)


def _years(days: tuple[date, ...]) -> set[int]:
    middle = {today().year, *(day.year for day in days)}
    return {year + step for year in middle for step in (-1, 0, 1)}


@lru_cache(maxsize=32)
def _seeds(year: int) -> tuple[SeedDay, ...]:
    return tuple(seed_days([year]))
