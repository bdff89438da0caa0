"""Half-years: the periods that deliveries are settled in (R-39)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

ONE_DAY = timedelta(days=1)
MONTHS_OF_PERIOD = 6
PERIODS_OF_CONTRACT = 6


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A span of days with both ends inside."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"period ends {self.end} before it starts {self.start}")

    def __contains__(self, day: date) -> bool:
        return self.start <= day <= self.end

    @property
    def label(self) -> str:
        """Name the span for people: 2026年下半年, or its two days where it is no calendar half."""
        if half_year(self.start) != self:
            return f"{self.start:%Y-%m-%d} 至 {self.end:%Y-%m-%d}"
        return f"{self.start.year}年{'上' if self.start.month == 1 else '下'}半年"


def half_year(day: date) -> Period:
    """Return the calendar half-year a day falls in."""
    if day.month <= MONTHS_OF_PERIOD:
        return Period(date(day.year, 1, 1), date(day.year, 6, 30))
    return Period(date(day.year, 7, 1), date(day.year, 12, 31))


def contract_periods(signed_on: date, count: int = PERIODS_OF_CONTRACT) -> Iterator[Period]:
    """Cut a contract's term into its six-month settlement periods, six in all (R-2, R-39)."""
    for index in range(count):
        start = add_months(signed_on, index * MONTHS_OF_PERIOD)
        end = add_months(signed_on, (index + 1) * MONTHS_OF_PERIOD) - ONE_DAY
        yield Period(start, end)


def add_months(day: date, months: int) -> date:
    """Move a date by whole months; a day the month does not have becomes the month's last."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, _last_day(year, month + 1)))


def _last_day(year: int, month: int) -> int:
    following = date(year + month // 12, month % 12 + 1, 1)
    return (following - ONE_DAY).day
