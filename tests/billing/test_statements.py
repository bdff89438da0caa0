"""Draft statements: accepted cards of a half-year, counted anew each time (R-4, R-13, R-35, R-39, R-40)."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import pytest
from openpyxl import load_workbook
from python_calamine import CalamineWorkbook

from billing.models import SettlementPeriod, Statement, StatementLine
from billing.selectors import total
from billing.services.statements import (
    COLUMNS,
    OutsideTermError,
    StatementClosedError,
    draft_statement,
    statement_workbook,
)
from orders.choices import CardKind, IssueKind
from orders.models import Contract, Order
from portal.core.errors import PermissionRefusedError
from production.models import Card
from tests.production.light import light_closed
from tests.production.world import World, build_world
from tests.refusals import actions, refused

SIGNED_ON = dt.date(2026, 1, 15)
FIRST, LAST = dt.date(2026, 7, 15), dt.date(2027, 1, 14)  # the second half-year of the term
DAY = dt.date(2026, 11, 23)


@pytest.fixture
def world(db: None) -> World:
    made = build_world()
    Contract.objects.update(signed_on=SIGNED_ON)
    made.contract.refresh_from_db()
    return made


def accepted(
    world: World, kind: str, days: list[dt.date | None], *, issue: str = IssueKind.FIRST, price: str = ""
) -> list[Card]:
    """Return good cards of a kind that the bank accepted on these days, or not."""
    batch = light_closed(world, len(days), batch=None)
    unit_price = Decimal(price) if price else world.contract.price_of(kind)
    Order.objects.filter(batches=batch).update(card_kind=kind, unit_price=unit_price)
    cards = list(Card.objects.filter(batch=batch).order_by("pk"))
    for card, day in zip(cards, days, strict=True):
        Card.objects.filter(pk=card.pk).update(card_kind=kind, issue_kind=issue, accepted_on=day)
    return cards


def lines(statement: Statement) -> list[tuple[Any, ...]]:
    found = statement.lines.order_by("card_kind", "unit_price")
    return list(found.values_list("card_kind", "billed_count", "unbilled_count", "unit_price", "amount"))


class TestCounts:
    def test_finished_and_premade_stand_apart_at_their_prices(self, world: World) -> None:
        """R-4, R-40: 9.00 a finished card, without the face fee of 1.00 a pre-made one."""
        accepted(world, CardKind.FINISHED, [DAY] * 3)
        accepted(world, CardKind.PREMADE, [DAY] * 2)
        statement = draft_statement(world.contract, on=DAY, actor=world.clerk)
        assert lines(statement) == [
            ("finished", 3, 0, Decimal("9.00"), Decimal("27.00")),
            ("premade", 2, 0, Decimal("8.00"), Decimal("16.00")),
        ]
        assert total(statement) == Decimal("43.00")
        assert (statement.period.number, statement.status) == (2, "draft")

    @pytest.mark.parametrize("kind", [CardKind.TEST, CardKind.SAMPLE])
    def test_test_and_sample_cards_are_never_billed(self, world: World, kind: str) -> None:
        """R-13."""
        accepted(world, kind, [DAY] * 2)
        statement = draft_statement(world.contract, on=DAY, actor=world.clerk)
        assert lines(statement) == [(kind, 0, 2, Decimal("0.00"), Decimal("0.00"))]

    @pytest.mark.parametrize("issue", [IssueKind.WARRANTY, IssueKind.REMAKE])
    def test_warranty_and_remakes_are_never_billed(self, world: World, issue: str) -> None:
        """R-20, R-35: shown beside the billed cards, for nothing."""
        accepted(world, CardKind.FINISHED, [DAY] * 2, issue=issue)
        accepted(world, CardKind.FINISHED, [DAY] * 3)
        statement = draft_statement(world.contract, on=DAY, actor=world.clerk)
        assert lines(statement) == [("finished", 3, 2, Decimal("9.00"), Decimal("27.00"))]

    @pytest.mark.parametrize("issue", [IssueKind.REPLACEMENT, IssueKind.RENEWAL])
    def test_replacement_and_renewal_are_billed(self, world: World, issue: str) -> None:
        """R-13."""
        accepted(world, CardKind.FINISHED, [DAY] * 2, issue=issue)
        statement = draft_statement(world.contract, on=DAY, actor=world.clerk)
        assert lines(statement) == [("finished", 2, 0, Decimal("9.00"), Decimal("18.00"))]

    def test_the_half_year_is_exact_at_both_ends(self, world: World) -> None:
        """R-39: the days before and after belong to the neighbours; what is not accepted to none."""
        one = dt.timedelta(days=1)
        accepted(world, CardKind.FINISHED, [FIRST - one, FIRST, LAST, LAST + one, None])
        for on in (FIRST, DAY, LAST):
            statement = draft_statement(world.contract, on=on, actor=world.clerk)
            assert (statement.period.number, statement.period.starts_on, statement.period.ends_on) == (
                2, FIRST, LAST,
            )  # fmt: skip
            assert lines(statement) == [("finished", 2, 0, Decimal("9.00"), Decimal("18.00"))]
        for on, number in ((FIRST - one, 1), (LAST + one, 3)):
            statement = draft_statement(world.contract, on=on, actor=world.clerk)
            assert (statement.period.number, lines(statement)[0][1]) == (number, 1)
        assert SettlementPeriod.objects.count() == 3

    def test_prices_are_those_the_orders_were_placed_at(self, world: World) -> None:
        """R-4: a line for each price."""
        accepted(world, CardKind.FINISHED, [DAY], price="8.80")
        accepted(world, CardKind.FINISHED, [DAY] * 2)
        statement = draft_statement(world.contract, on=DAY, actor=world.clerk)
        assert [line[3:] for line in lines(statement)] == [
            (Decimal("8.80"), Decimal("8.80")), (Decimal("9.00"), Decimal("18.00")),
        ]  # fmt: skip

    def test_another_suppliers_cards_are_not_counted(self, world: World) -> None:
        """R-1: a statement for each contract."""
        accepted(world, CardKind.FINISHED, [DAY] * 2)
        other = Contract.objects.create(
            number="HT-2", lot=2, supplier=world.other_planner.organisation, quantity_cap=10,
            budget=Decimal(90), finished_price=Decimal("9.00"), face_fee=Decimal(1), signed_on=SIGNED_ON,
        )  # fmt: skip
        assert lines(draft_statement(other, on=DAY, actor=world.clerk)) == []


class TestDrafting:
    def test_twice_is_the_same_statement(self, world: World) -> None:
        """R-39: counted anew, not added."""
        accepted(world, CardKind.FINISHED, [DAY] * 2)
        first = draft_statement(world.contract, on=DAY, actor=world.clerk)
        before = lines(first)
        second = draft_statement(world.contract, on=DAY, actor=world.approver)
        assert (second.pk, lines(second), StatementLine.objects.count()) == (first.pk, before, 1)
        assert second.drafted_by == world.approver
        assert actions().count("statement.drafted") == 2

    def test_today_is_the_default(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        moment = dt.datetime(2027, 1, 14, 16, 30, tzinfo=dt.UTC)  # the 15th in the city
        monkeypatch.setattr("portal.core.clock.now", lambda: moment)
        assert draft_statement(world.contract, actor=world.clerk).period.number == 3

    def test_a_closed_statement_is_not_drafted_again(self, world: World) -> None:
        """R-39: what was settled is corrected, never rewritten."""
        accepted(world, CardKind.FINISHED, [DAY] * 2)
        draft_statement(world.contract, on=DAY, actor=world.clerk)
        Statement.objects.update(status="closed")
        with refused(StatementClosedError) as caught:
            draft_statement(world.contract, on=DAY, actor=world.clerk)
        assert caught.value.code == "statement_closed"

    @pytest.mark.parametrize("day", [SIGNED_ON - dt.timedelta(days=1), dt.date(2029, 1, 15)])
    def test_days_outside_the_six_half_years(self, world: World, day: dt.date) -> None:
        """R-2, R-39."""
        with refused(OutsideTermError) as caught:
            draft_statement(world.contract, on=day, actor=world.clerk)
        assert caught.value.expected == "2026-01-15 至 2029-01-14"

    @pytest.mark.parametrize(("day", "number"), [(SIGNED_ON, 1), (dt.date(2029, 1, 14), 6)])
    def test_the_first_and_the_last_day(self, world: World, day: dt.date, number: int) -> None:
        assert draft_statement(world.contract, on=day, actor=world.clerk).period.number == number

    @pytest.mark.parametrize("name", ["operator", "planner", "keeper", "other_planner"])
    def test_suppliers_do_not_draft(self, world: World, name: str) -> None:
        with refused(PermissionRefusedError):
            draft_statement(world.contract, on=DAY, actor=getattr(world, name))


class TestWorkbook:
    def test_both_readers_see_the_lines(self, world: World) -> None:
        """R-41: what is invoiced, in words as well; taking it is an event."""
        accepted(world, CardKind.FINISHED, [DAY] * 3)
        accepted(world, CardKind.PREMADE, [DAY] * 2, issue=IssueKind.WARRANTY)
        statement = draft_statement(world.contract, on=DAY, actor=world.clerk)
        target = io.BytesIO()
        statement_workbook(statement, target, actor=world.planner)
        target.seek(0)
        rows = CalamineWorkbook.from_filelike(target).get_sheet_by_index(0).to_python()
        assert rows[0][0] == "包组一 第 2 期结算单（草稿）"
        assert rows[2][0] == "结算期：2026-07-15 至 2027-01-14"
        assert rows[3][0] == "合计：¥27.00（贰拾柒元整）"
        assert rows[5] == [column.label for column in COLUMNS]
        assert rows[6:] == [
            ["工商银行", "成品卡", "3", "0", "9.00", "27.00"],
            ["工商银行", "预制卡", "0", "2", "8.00", "0.00"],
        ]
        target.seek(0)
        sheet = load_workbook(target).active
        assert sheet is not None
        assert [[cell.value for cell in row] for row in sheet.iter_rows(min_row=7)] == rows[6:]
        assert actions()[-1] == "statement.exported"

    def test_another_supplier_does_not_take_it(self, world: World) -> None:
        statement = draft_statement(world.contract, on=DAY, actor=world.clerk)
        target = io.BytesIO()
        with refused(PermissionRefusedError):
            statement_workbook(statement, target, actor=world.other_planner)
        assert target.getvalue() == b""
