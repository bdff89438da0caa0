"""The calendar of Chinese working days and the deadlines on it (R-10, R-11)."""

from __future__ import annotations

import datetime as dt
from importlib import import_module

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command

from orders.choices import CardKind, OrderStatus
from orders.models import Order, WorkCalendarDay
from orders.services.calendar import (
    CalendarRefusedError,
    due_date,
    edit_day,
    seed_calendar,
    work_calendar,
)
from portal.core.clock import today
from portal.core.errors import PermissionRefusedError
from portal.models import AuditEntry
from tests.orders.scene import Scene

MONDAY = dt.date(2026, 9, 28)
DUE = dt.date(2026, 10, 12)


def make_order(scene: Scene, matched_on: dt.date = MONDAY, status: str = OrderStatus.OPEN) -> Order:
    due_on, provisional = due_date(matched_on, work_calendar(matched_on))
    return Order.objects.create(
        number=f"DD-{matched_on}-{status}",
        bank=scene.banks[0],
        contract=scene.contracts[0],
        card_kind=CardKind.FINISHED,
        quantity=1,
        unit_price="9.80",
        matched_on=matched_on,
        due_on=due_on,
        due_is_provisional=provisional,
        status=status,
        created_by=scene.clerk,
    )


class TestDueDate:
    def test_matched_on_28_september_is_due_on_12_october(self, scene: Scene) -> None:
        """R-10: six working days, over the holiday, with the Saturday worked instead."""
        assert due_date(MONDAY, work_calendar(MONDAY)) == (DUE, False)

    def test_the_same_with_an_empty_table(self, scene: Scene) -> None:
        """R-10: a table nobody has filled does not turn holidays into working days."""
        WorkCalendarDay.objects.all().delete()
        assert due_date(MONDAY, work_calendar(MONDAY)) == (DUE, False)

    def test_an_unpublished_year_makes_the_deadline_provisional(self, scene: Scene) -> None:
        """R-10: only a count that reaches into the unpublished year is provisional."""
        seed_calendar(range(2025, 2029))
        assert due_date(dt.date(2028, 3, 1), work_calendar(dt.date(2028, 3, 1)))[1]
        assert not due_date(dt.date(2026, 12, 15), work_calendar())[1]
        assert due_date(dt.date(2026, 12, 30), work_calendar())[1]

    def test_confirming_every_day_publishes_a_year(self, scene: Scene) -> None:
        """R-10: the purchaser enters the State Council's arrangement by hand."""
        seed_calendar([2028])
        for day in WorkCalendarDay.objects.filter(date__year=2028):
            edit_day(day.date, is_workday=day.is_workday, name=day.name, actor=scene.approver)
        assert not due_date(dt.date(2028, 3, 1), work_calendar(dt.date(2028, 3, 1)))[1]


class TestSeed:
    def test_it_is_idempotent(self, scene: Scene) -> None:
        WorkCalendarDay.objects.all().delete()
        assert seed_calendar([2026]) == WorkCalendarDay.objects.count() > 0
        assert seed_calendar([2026]) == 0
        assert AuditEntry.objects.filter(action="calendar.seeded").count() == 1

    def test_the_migration_seeds_this_year_and_the_next(self, scene: Scene) -> None:
        """Called again here: another test's flush may have emptied what it wrote."""
        WorkCalendarDay.objects.all().delete()
        import_module("orders.migrations.0003_seed_calendar").seed(apps, None)
        years = set(WorkCalendarDay.objects.values_list("date__year", flat=True))
        assert {today().year, today().year + 1} <= years

    def test_it_keeps_what_people_edited_and_drops_what_is_no_longer_published(self, scene: Scene) -> None:
        seed_calendar([2026])
        edited = edit_day(dt.date(2026, 11, 25), is_workday=False, name="台风停工", actor=scene.approver)
        WorkCalendarDay.objects.create(date=dt.date(2026, 11, 26), is_workday=False, name="旧")
        assert seed_calendar([2026]) == 1
        assert WorkCalendarDay.objects.get(pk=edited.pk).name == "台风停工"
        assert not WorkCalendarDay.objects.filter(date=dt.date(2026, 11, 26)).exists()

    @pytest.mark.parametrize("years", [[], [1999], [2026, 2099]])
    def test_years_out_of_range_are_refused(self, scene: Scene, years: list[int]) -> None:
        before = list(WorkCalendarDay.objects.values())
        with pytest.raises(CalendarRefusedError):
            seed_calendar(years)
        assert list(WorkCalendarDay.objects.values()) == before

    def test_the_command(self, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        WorkCalendarDay.objects.all().delete()
        call_command("seed_calendar", "2026")
        count = WorkCalendarDay.objects.count()
        assert capsys.readouterr().out == f"工作日历已更新：{count} 天有变化\n"
        with pytest.raises(CommandError, match="calendar_refused"):
            call_command("seed_calendar", "1900")


class TestEditDay:
    def test_running_orders_move_and_finished_ones_do_not(self, scene: Scene) -> None:
        """R-10: a typhoon day inside the count moves the deadline by one working day, audited."""
        seed_calendar([2026])
        running = make_order(scene, status=OrderStatus.IN_PRODUCTION)
        done = make_order(scene, status=OrderStatus.COMPLETED)
        edit_day(dt.date(2026, 9, 29), is_workday=False, name="台风停工", actor=scene.approver)
        running.refresh_from_db()
        done.refresh_from_db()
        assert (running.due_on, done.due_on) == (dt.date(2026, 10, 13), DUE)
        moved = AuditEntry.objects.filter(action="order.due_moved")
        assert [(entry.object_id, entry.details["after"]) for entry in moved] == [
            (str(running.pk), "2026-10-13")
        ]

    def test_a_day_outside_the_count_moves_nothing(self, scene: Scene) -> None:
        seed_calendar([2026])
        order = make_order(scene)
        edit_day(dt.date(2026, 11, 27), is_workday=False, name="停电", actor=scene.approver)
        order.refresh_from_db()
        assert order.due_on == DUE
        assert not AuditEntry.objects.filter(action="order.due_moved").exists()

    def test_only_the_approver_edits(self, scene: Scene) -> None:
        """R-10: neither clerk nor bank moves a deadline."""
        before = list(WorkCalendarDay.objects.values())
        for actor in (scene.clerk, scene.bank_clerks[0]):
            with pytest.raises(PermissionRefusedError):
                edit_day(dt.date(2026, 9, 29), is_workday=False, name="x", actor=actor)
        assert list(WorkCalendarDay.objects.values()) == before
        assert not AuditEntry.objects.filter(action="calendar.edited").exists()

    @pytest.mark.parametrize(("year", "name"), [(2026, " "), (2026, "长" * 61), (1999, "旧")])
    def test_a_day_needs_a_name_and_a_sensible_year(self, scene: Scene, year: int, name: str) -> None:
        with pytest.raises(CalendarRefusedError):
            edit_day(dt.date(year, 9, 29), is_workday=False, name=name, actor=scene.approver)
        assert not AuditEntry.objects.filter(action="calendar.edited").exists()
