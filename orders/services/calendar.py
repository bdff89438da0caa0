"""Keep the calendar of Chinese working days, and the deadlines that hang on it (R-10, R-11)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from django.db import connection

from orders.choices import OrderStatus
from orders.models import Order, WorkCalendarDay
from orders.selectors.calendar import work_calendar
from portal.audit import UnitOfWork, unit_of_work
from portal.core.clock import today
from portal.core.errors import InputRefusedError
from portal.core.workdays import WorkCalendar, seed_days
from portal.models import User
from portal.roles import require

__all__ = ["CalendarRefusedError", "due_date", "edit_day", "hold_calendar", "seed_calendar", "work_calendar"]

DEADLINE_WORKDAYS = 6
CALENDAR_LOCK = 0x43414C  # "CAL": edits wait for each other, so the last one sees all others
RUNNING = (OrderStatus.OPEN, OrderStatus.IN_PRODUCTION)
FIRST_YEAR = 2020
LAST_YEAR = 2060


class CalendarRefusedError(InputRefusedError):
    """A calendar day that cannot be entered."""

    code = "calendar_refused"


def due_date(matched_on: date, calendar: WorkCalendar) -> tuple[date, bool]:
    """Return the day 6 working days after matching, and whether an unpublished year may still move it.

    R-10: matched on Monday 2026-09-28, due on Monday 2026-10-12.
    """
    due_on = calendar.add_workdays(matched_on, DEADLINE_WORKDAYS)
    return due_on, calendar.spans_provisional(matched_on, due_on)


def seed_calendar(years: Iterable[int] | None = None, *, actor: User | None = None) -> int:
    """Bring the seeded days of `years` up to date and return how many rows changed.

    Default: last year to two years ahead. Days a person has edited stay as they are; repeating it
    changes nothing. Run it again when the State Council has published the next year.
    """
    actor = actor or User.objects.system()
    require(actor, "orders.edit_calendar")
    chosen = sorted(set(years)) if years is not None else [today().year + step for step in range(-1, 3)]
    if not chosen or not FIRST_YEAR <= chosen[0] <= chosen[-1] <= LAST_YEAR:
        raise CalendarRefusedError("年份超出范围", expected=f"{FIRST_YEAR}–{LAST_YEAR}", got=str(chosen)[:60])
    with unit_of_work(actor) as work:
        _lock()
        changed = sum(_seed_year(year) for year in chosen)
        if changed:
            work.record("calendar.seeded", years=chosen, changed=changed)
            _recompute(work)
    return changed


def edit_day(
    day: date, *, is_workday: bool, name: str, is_provisional: bool = False, actor: User
) -> WorkCalendarDay:
    """Say whether people work on a day, and move the deadlines of running orders with it (R-10)."""
    require(actor, "orders.edit_calendar")
    name = name.strip()
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise CalendarRefusedError("年份超出范围", expected=f"{FIRST_YEAR}–{LAST_YEAR}", got=str(day.year))
    if not name or len(name) > 60:
        raise CalendarRefusedError("请填写名称", expected="1–60 字", got=f"{len(name)} 字")
    with unit_of_work(actor) as work:
        _lock()
        before = WorkCalendarDay.objects.filter(date=day).values_list("is_workday", flat=True).first()
        values = {
            "is_workday": is_workday,
            "name": name,
            "is_provisional": is_provisional,
            "edited_by": None if actor.is_system else actor,
        }
        row, _ = WorkCalendarDay.objects.update_or_create(date=day, defaults=values)
        work.record("calendar.edited", row, before=before, after=is_workday, provisional=is_provisional)
        _recompute(work)
    return row


def hold_calendar() -> None:
    """Keep edits of the calendar out until the commit, so that no new order misses one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [CALENDAR_LOCK])


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CALENDAR_LOCK])


def _seed_year(year: int) -> int:
    """Insert, update and delete the seeded rows of one year; return how many changed."""
    rows = {row.date: row for row in WorkCalendarDay.objects.filter(date__year=year)}
    wanted = {seed.date: seed for seed in seed_days([year])}
    stale = [day for day, row in rows.items() if row.edited_by_id is None and day not in wanted]
    WorkCalendarDay.objects.filter(date__in=stale).delete()
    changed = []
    for day, seed in wanted.items():
        fresh = WorkCalendarDay(
            date=day, is_workday=seed.is_workday, name=seed.name_zh[:60], is_provisional=seed.provisional
        )
        present = rows.get(day)
        if present is None or (present.edited_by_id is None and _differs(present, fresh)):
            changed.append(fresh)
    WorkCalendarDay.objects.bulk_create(
        changed,
        update_conflicts=True,
        unique_fields=["date"],
        update_fields=["is_workday", "name", "is_provisional"],
    )
    return len(stale) + len(changed)


def _differs(present: WorkCalendarDay, fresh: WorkCalendarDay) -> bool:
    columns = ("is_workday", "name", "is_provisional")
    return any(getattr(present, column) != getattr(fresh, column) for column in columns)


def _recompute(work: UnitOfWork) -> None:
    """Move the deadlines of running orders to what the calendar says now, each with its audit entry."""
    orders = list(Order.objects.select_for_update(no_key=True).filter(status__in=RUNNING).order_by("pk"))
    if not orders:
        return
    calendar = work_calendar(*{order.matched_on for order in orders})
    for order in orders:
        due_on, provisional = due_date(order.matched_on, calendar)
        if (due_on, provisional) == (order.due_on, order.due_is_provisional):
            continue
        work.record(
            "order.due_moved", order, before=f"{order.due_on}", after=f"{due_on}", provisional=provisional
        )
        order.due_on, order.due_is_provisional = due_on, provisional
        order.save(update_fields=["due_on", "due_is_provisional"])
