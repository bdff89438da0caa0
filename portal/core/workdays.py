"""Chinese working days: weekdays, less public holidays, plus the weekend days worked instead (R-10).

The State Council publishes each year's arrangement in the November before it. For a year that is not out
yet the `holidays` package silently returns the statutory days alone, so whatever is computed there is
provisional: such a year shows itself by having no make-up working day (调休) at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import holidays

ONE_DAY = timedelta(days=1)
SATURDAY = 5
MAKE_UP_DAY = "调休上班"


@dataclass(frozen=True, slots=True)
class SeedDay:
    """One day whose kind differs from, or confirms, what its weekday says."""

    date: date
    is_workday: bool
    name_zh: str
    provisional: bool


class WorkCalendar:
    """Count working days by weekday and a table of exceptions.

    `overrides` maps a date to "is worked". `published` names the years whose arrangement is known; left
    out, they are the years in which some weekend day is worked.
    """

    def __init__(self, overrides: Mapping[date, bool], *, published: Iterable[int] | None = None) -> None:
        self._overrides = dict(overrides)
        years = published_years(self._overrides) if published is None else published
        self._published = frozenset(years)

    def is_workday(self, day: date) -> bool:
        """Tell whether people work on this day."""
        return self._overrides.get(day, day.weekday() < SATURDAY)

    def add_workdays(self, start: date, count: int) -> date:
        """Return the count-th working day after `start`, which is itself day 0 whatever its kind (R-10).

        A negative count goes back in time; count 0 is `start`.
        """
        step = ONE_DAY if count >= 0 else -ONE_DAY
        day, left = start, abs(count)
        while left:
            day += step
            left -= self.is_workday(day)
        return day

    def workdays_between(self, start: date, end: date) -> int:
        """Count the working days after `start` up to and with `end`; negative when `end` is earlier.

        Backwards the days before `start` down to and with `end` count, so the result undoes `add_workdays`.
        """
        step = ONE_DAY if end >= start else -ONE_DAY
        count, day = 0, start
        while day != end:
            day += step
            count += self.is_workday(day)
        return count if end >= start else -count

    def is_provisional(self, day: date) -> bool:
        """Tell whether the day's year has no published arrangement yet, so that its kind may change."""
        return day.year not in self._published

    def spans_provisional(self, start: date, end: date) -> bool:
        """Tell whether a count between two days rests on a year that is not published yet."""
        first, last = sorted((start.year, end.year))
        return not self._published.issuperset(range(first, last + 1))


def published_years(overrides: Mapping[date, bool]) -> frozenset[int]:
    """Return the years that hold a worked weekend day, which only a published arrangement has."""
    return frozenset(day.year for day, worked in overrides.items() if worked and day.weekday() >= SATURDAY)


def seed_days(years: Iterable[int]) -> Iterator[SeedDay]:
    """Yield holidays and make-up working days of mainland China in date order, with Chinese names."""
    for year in sorted(set(years)):
        yield from _seed_year(year)


def _seed_year(year: int) -> list[SeedDay]:
    source = holidays.country_holidays("CN", years=year, language="zh_CN")
    worked = {day for day in source.weekend_workdays if day.year == year}
    days = [SeedDay(day, is_workday=True, name_zh=MAKE_UP_DAY, provisional=False) for day in worked]
    for day, name in source.items():
        days.append(SeedDay(day, is_workday=False, name_zh=name, provisional=not worked))
    return sorted(days, key=lambda seed: seed.date)
