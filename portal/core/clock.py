"""The one place that asks what time it is, and how dates are written for people."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

CITY_ZONE = ZoneInfo("Asia/Shanghai")


def now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


def local(moment: datetime) -> datetime:
    """Show an aware moment on the city's clock; a naive one is a programming error."""
    if moment.tzinfo is None:
        raise ValueError("naive datetime")
    return moment.astimezone(CITY_ZONE)


def day_of(moment: datetime) -> date:
    """Return the calendar day a moment falls on in the city: deadlines count such days (R-10)."""
    return local(moment).date()


def today() -> date:
    """Return the city's calendar day, which from 16:00 UTC on is not the day in UTC."""
    return day_of(now())


def start_of_today() -> datetime:
    """Return the moment the city's day began: rows compared with it need no day of their own."""
    return datetime.combine(today(), time(), CITY_ZONE)


def format_day(day: date) -> str:
    """Write a date as 2026年9月28日."""
    return f"{day.year}年{day.month}月{day.day}日"


def format_moment(moment: datetime) -> str:
    """Write an aware moment on the city's clock as 2026年9月28日 14:05."""
    shown = local(moment)
    return f"{format_day(shown.date())} {shown:%H:%M}"
