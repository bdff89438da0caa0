"""Closing statements and correcting what is closed: by an adjustment of two people only (R-39, R-44)."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction
from openpyxl import load_workbook

from billing.models import Adjustment, SettlementPeriod, Statement, StatementLine
from billing.selectors import owed
from billing.services.closing import (
    AdjustmentRefusedError,
    PeriodOpenError,
    StatementOpenError,
    StatementStaleError,
    close_statement,
    decide_adjustment,
    request_adjustment,
)
from billing.services.statements import StatementClosedError, draft_statement, statement_workbook
from orders.choices import CardKind
from orders.models import Contract
from portal.choices import Role
from portal.core.errors import PermissionRefusedError, SamePersonError, TransitionRefusedError
from portal.models import User
from production.models import Card
from tests.api import ROOT, actions, client_of, code_of, ids
from tests.portal.desk import page, said, sign_in, text
from tests.production.light import light_closed
from tests.production.world import World, build_world
from tests.refusals import refused

SIGNED_ON, DAY = dt.date(2026, 1, 15), dt.date(2026, 6, 1)  # a day of the first half-year, which has ended
PRICE = Decimal("9.00")


@pytest.fixture
def world(db: None) -> World:
    made = build_world()
    Contract.objects.update(signed_on=SIGNED_ON)
    made.contract.refresh_from_db()
    return made


@pytest.fixture
def second(world: World) -> User:
    """Return another approver."""
    return User.objects.create(
        username="approver2", organisation=world.approver.organisation, roles=[Role.PURCHASER_APPROVER]
    )


def accepted(world: World, count: int) -> None:
    batch = light_closed(world, count)
    Card.objects.filter(batch=batch).update(accepted_on=DAY)


def drafted(world: World, count: int = 3) -> Statement:
    accepted(world, count)
    return draft_statement(world.contract, on=DAY, actor=world.clerk)


def closed(world: World, count: int = 3) -> Statement:
    return close_statement(drafted(world, count), actor=world.approver)


def ask(statement: Statement, world: World, change: int = -1, **changes: Any) -> Adjustment:
    values = {
        "bank": world.bank, "card_kind": CardKind.FINISHED, "count_change": change, "unit_price": PRICE,
        "reason": "重复计费", "actor": world.approver,
    }  # fmt: skip
    return request_adjustment(statement, **{**values, **changes})


class TestClosing:
    def test_an_ended_period_is_settled(self, world: World) -> None:
        """R-39: who and when; the lines stay as they were drafted."""
        statement = closed(world)
        assert (statement.status, statement.closed_by) == ("closed", world.approver)
        assert owed(statement) == Decimal("27.00")
        assert actions()[-1] == "statement.closed"
        with refused(StatementClosedError):
            draft_statement(world.contract, on=DAY, actor=world.clerk)
        with refused(TransitionRefusedError):
            close_statement(statement, actor=world.approver)

    def test_an_open_period_is_not(self, world: World) -> None:
        statement = draft_statement(world.contract, on=dt.date(2026, 11, 1), actor=world.clerk)
        with refused(PeriodOpenError):
            close_statement(statement, actor=world.approver)

    def test_nothing_accepted_since_is_left_out(self, world: World) -> None:
        """R-39: 100 % of what was produced; a stale draft is drafted again first."""
        statement = drafted(world)
        accepted(world, 1)
        with refused(StatementStaleError):
            close_statement(statement, actor=world.approver)
        draft_statement(world.contract, on=DAY, actor=world.clerk)
        assert owed(close_statement(statement, actor=world.approver)) == Decimal("36.00")

    def test_the_approver_closes(self, world: World) -> None:
        statement = drafted(world)
        for actor in (world.clerk, world.planner):
            with refused(PermissionRefusedError):
                close_statement(statement, actor=actor)

    def test_the_database_keeps_what_is_closed(self, world: World) -> None:
        """R-39: neither a line nor the statement changes, comes or goes, whoever asks the database."""
        statement = closed(world)
        line = statement.lines.get()
        attempts = (
            lambda: StatementLine.objects.update(billed_count=4, amount=36),
            line.delete,
            lambda: StatementLine.objects.create(
                statement=statement,
                bank=world.bank,
                card_kind="premade",
                billed_count=1,
                unit_price=8,
                amount=8,
            ),
            lambda: Statement.objects.update(status="draft"),
            lambda: Statement.objects.update(closed_by=world.clerk),
        )
        for attempt in attempts:
            with pytest.raises(DatabaseError), transaction.atomic():
                attempt()
        assert owed(statement) == Decimal("27.00")

    def test_drafts_are_still_drafted(self, world: World) -> None:
        closed(world)
        other = draft_statement(world.contract, on=dt.date(2026, 11, 1), actor=world.clerk)
        assert SettlementPeriod.objects.count() == 2
        assert draft_statement(world.contract, on=dt.date(2026, 11, 1), actor=world.clerk) == other


class TestAdjustment:
    def test_two_people_correct_what_is_owed(self, world: World, second: User) -> None:
        statement = closed(world)
        adjustment = ask(statement, world)
        assert owed(statement) == Decimal("27.00")
        decide_adjustment(adjustment, approve=True, actor=second)
        adjustment.refresh_from_db()
        assert (adjustment.amount, adjustment.decided_by) == (Decimal("-9.00"), second)
        assert owed(statement) == Decimal("18.00")
        assert statement.lines.get().billed_count == 3
        assert actions()[-2:] == ["adjustment.requested", "adjustment.approved"]

    def test_a_refused_one_counts_for_nothing(self, world: World, second: User) -> None:
        statement = closed(world)
        decide_adjustment(ask(statement, world), approve=False, actor=second)
        assert owed(statement) == Decimal("27.00")

    def test_one_person_is_not_two(self, world: World) -> None:
        adjustment = ask(closed(world), world)
        for approve in (True, False):
            with refused(SamePersonError, audited=["second_person.refused"]):
                decide_adjustment(adjustment, approve=approve, actor=world.approver)
        with pytest.raises(IntegrityError, match="adjustment_two_people"), transaction.atomic():
            Adjustment.objects.update(status="approved", decided_by=world.approver)

    def test_a_draft_is_not_adjusted(self, world: World) -> None:
        statement = drafted(world)
        with refused(StatementOpenError):
            ask(statement, world)

    @pytest.mark.parametrize(
        "changes",
        [
            {"count_change": 0}, {"reason": "  "}, {"unit_price": Decimal("9.50")}, {"count_change": -4},
            {"card_kind": CardKind.TEST}, {"card_kind": CardKind.PREMADE}, {"unit_price": Decimal("-9.00")},
        ],
    )  # fmt: skip
    def test_what_contradicts_the_statement_is_refused(self, world: World, changes: dict[str, Any]) -> None:
        """R-4, R-13: a price of the contract, never below zero cards, never a test card."""
        statement = closed(world)
        with refused(AdjustmentRefusedError):
            ask(statement, world, **changes)

    def test_not_a_bank(self, world: World) -> None:
        statement = closed(world)
        with refused(AdjustmentRefusedError):
            ask(statement, world, bank=world.contract.supplier)

    def test_two_requests_do_not_go_below_zero_together(self, world: World, second: User) -> None:
        statement = closed(world)
        first, other = ask(statement, world, -2), ask(statement, world, -2)
        decide_adjustment(first, approve=True, actor=second)
        with refused(AdjustmentRefusedError):
            decide_adjustment(other, approve=True, actor=second)

    def test_never_above_the_budget(self, world: World, second: User) -> None:
        """R-44."""
        statement = closed(world)
        Contract.objects.filter(pk=world.contract.pk).update(budget=Decimal("45.00"))
        within, above = ask(statement, world, 2), ask(statement, world, 1)
        decide_adjustment(within, approve=True, actor=second)
        with refused(AdjustmentRefusedError):
            decide_adjustment(above, approve=True, actor=second)
        assert owed(statement) == Decimal("45.00")

    def test_the_database_keeps_what_is_decided(self, world: World, second: User) -> None:
        adjustment = decide_adjustment(ask(closed(world), world), approve=True, actor=second)
        for attempt in (lambda: Adjustment.objects.update(reason="x"), adjustment.delete):
            with pytest.raises(DatabaseError), transaction.atomic():
                attempt()

    def test_the_supplier_reads_only(self, world: World, second: User) -> None:
        statement = closed(world)
        with refused(PermissionRefusedError):
            ask(statement, world, actor=world.planner)
        adjustment = ask(statement, world)
        for actor in (world.planner, world.clerk):
            with refused(PermissionRefusedError):
                decide_adjustment(adjustment, approve=True, actor=actor)


def test_the_workbook_shows_lines_and_adjustments(world: World, second: User) -> None:
    """R-41: what is to be invoiced is the sum of both, each adjustment with its reason and its two people."""
    statement = closed(world)
    adjustment = decide_adjustment(ask(statement, world), approve=True, actor=second)
    target = io.BytesIO()
    statement_workbook(statement, target, actor=world.planner)
    rows = [[cell.value for cell in row] for row in load_workbook(target).active.rows]  # type: ignore[union-attr]
    assert "明细合计：¥27.00　调整合计：-¥9.00" in [row[0] for row in rows]
    assert "合计：¥18.00（壹拾捌元整）" in [row[0] for row in rows]
    assert rows[-1] == [
        "工商银行", "成品卡", "-1", "0", "9.00", "-9.00",
        f"调整 #{adjustment.pk}：重复计费（approver申请，approver2复核）",
    ]  # fmt: skip


def test_in_the_admin(world: World, second: User) -> None:
    """R-39: closed and corrected by buttons; the one who asked is not offered the decision."""
    statement = drafted(world)
    approver, other = sign_in(world.approver), sign_in(second)
    address = page("billing.statement", "change", statement.pk)
    assert said(approver.post(page("billing.statement", "close", statement.pk))) == "已结算，明细不再变动"
    values = {
        "bank": world.bank.pk, "card_kind": "finished", "count_change": "-1", "unit_price": "9.00",
        "reason": "重复计费",
    }  # fmt: skip
    asked = approver.post(page("billing.statement", "adjust", statement.pk), values)
    assert said(asked) == "已提出调整，须由另一人复核"
    adjustment = Adjustment.objects.get()
    own = page("billing.adjustment", "change", adjustment.pk)
    assert "/approve" not in text(approver.get(own))
    assert "/approve" in text(other.get(own))
    assert said(other.post(page("billing.adjustment", "approve", adjustment.pk))) == "已同意，调整计入结算单"
    shown = text(approver.get(address))
    assert "¥18.00" in shown
    assert "壹拾捌元整" in shown
    assert "重复计费" in shown


def test_in_the_api(world: World, second: User) -> None:
    statement = drafted(world)
    approver, other, planner = client_of(world.approver), client_of(second), client_of(world.planner)
    where = f"{ROOT}/statements/{statement.pk}"
    assert code_of(planner.post(f"{where}/close"), 403) == "permission_refused"
    assert approver.post(f"{where}/close").json()["status"] == "closed"
    values = {
        "bank": world.bank.code, "card_kind": "finished", "count_change": -1, "unit_price": "9.00",
        "reason": "重复计费",
    }  # fmt: skip
    assert code_of(planner.post(f"{where}/adjustments", values, format="json"), 403) == "permission_refused"
    asked = approver.post(f"{where}/adjustments", values, format="json")
    assert (asked.status_code, asked.json()["amount"]) == (201, "-9.00")
    adjustment = f"{ROOT}/adjustments/{asked.json()['id']}"
    assert ids(planner.get(f"{ROOT}/adjustments")) == [asked.json()["id"]]
    assert code_of(approver.post(f"{adjustment}/approve"), 422) == "same_person"
    assert other.post(f"{adjustment}/approve").json()["decided_by"] == "approver2"
    shown = planner.get(where).json()
    assert (shown["total"], shown["adjusted"]) == ("27.00", "-9.00")
