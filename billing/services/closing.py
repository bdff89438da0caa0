"""Closing statements, and correcting what is closed: only by an adjustment of two people (R-39, R-44)."""

from __future__ import annotations

from decimal import Decimal

from django.utils import timezone

from billing.models import Adjustment, AdjustmentStatus, Statement, StatementStatus
from billing.selectors import corrected_count, counted, owed, prices
from orders.models import Contract
from portal.audit import unit_of_work
from portal.choices import OrganisationKind
from portal.core.clock import today
from portal.core.errors import InputRefusedError, PortalError
from portal.core.money import format_yuan, to_fen
from portal.models import Organisation, User
from portal.roles import require, require_second_person
from portal.workflow import check_move, locked, move


class PeriodOpenError(PortalError):
    """A period that has not ended: cards may still be accepted in it."""

    code = "period_open"


class StatementStaleError(PortalError):
    """A draft whose lines are no longer what banks accepted."""

    code = "statement_stale"


class StatementOpenError(PortalError):
    """A draft is drafted again, not adjusted."""

    code = "statement_open"


class AdjustmentRefusedError(InputRefusedError):
    """A correction that contradicts the statement, its contract or its prices."""

    code = "adjustment_refused"


def close_statement(statement: Statement, *, actor: User) -> Statement:
    """Settle an ended half-year; from then on its lines never change.

    Raises StatementStaleError when cards were accepted since the draft, so that none is left out.
    """
    require(actor, "billing.close_statement", statement)
    with unit_of_work(actor):
        # The contract's lock keeps a draft of the same period out until the commit.
        contract = _locked_contract(statement)
        fresh = locked(statement)
        check_move(fresh, StatementStatus.CLOSED)
        if fresh.period.ends_on >= today():
            raise PeriodOpenError(
                "结算期尚未结束，不能结算",
                where=str(fresh),
                expected=f"{fresh.period.ends_on:%Y-%m-%d} 之后",
                got=f"{today():%Y-%m-%d}",
            )
        _refuse_stale(fresh)
        details = {"amount": str(owed(fresh)), "contract": contract.number}
        return move(
            fresh,
            StatementStatus.CLOSED,
            actor=actor,
            details=details,
            closed_at=timezone.now(),
            closed_by=actor,
        )


def request_adjustment(
    statement: Statement,
    *,
    bank: Organisation,
    card_kind: str,
    count_change: int,
    unit_price: Decimal,
    reason: str,
    actor: User,
) -> Adjustment:
    """Ask to correct a closed statement by so many cards of a bank and kind, more or fewer."""
    require(actor, "billing.request_adjustment", statement)
    if bank.kind != OrganisationKind.BANK:
        raise AdjustmentRefusedError("不是合作银行", where=str(bank))
    if count_change == 0 or not reason.strip():
        raise AdjustmentRefusedError("张数增减不能为零，且须说明事由", got=str(count_change))
    price = to_fen(unit_price)
    with unit_of_work(actor) as work:
        _locked_contract(statement)
        fresh = locked(statement)
        if fresh.status != StatementStatus.CLOSED:
            raise StatementOpenError("结算单尚未结算，请重新起草", where=str(fresh))
        _check_price(fresh, card_kind, price)
        _check_count(fresh, bank, card_kind, count_change)
        adjustment = Adjustment.objects.create(
            statement=fresh,
            bank=bank,
            card_kind=card_kind,
            count_change=count_change,
            unit_price=price,
            amount=price * count_change,
            reason=reason.strip()[:200],
            requested_by=actor,
        )
        work.record(
            "adjustment.requested",
            adjustment,
            cards=count_change,
            amount=str(adjustment.amount),
            bank=bank.code,
        )
    return adjustment


def decide_adjustment(adjustment: Adjustment, *, approve: bool, actor: User) -> Adjustment:
    """Approve or refuse as the second person; an approved adjustment counts from now on."""
    require(actor, "billing.decide_adjustment", adjustment)
    require_second_person(adjustment.requested_by, actor, adjustment)
    target = AdjustmentStatus.APPROVED if approve else AdjustmentStatus.REFUSED
    with unit_of_work(actor):
        contract = _locked_contract(adjustment.statement)
        if approve:
            _check_count(adjustment.statement, adjustment.bank, adjustment.card_kind, adjustment.count_change)
            _check_budget(contract, adjustment.amount)
        return move(
            adjustment,
            target,
            actor=actor,
            details={"cards": adjustment.count_change, "amount": str(adjustment.amount)},
            decided_by=actor,
            decided_at=timezone.now(),
        )


def _locked_contract(statement: Statement) -> Contract:
    return locked(statement.period.contract)


def _refuse_stale(statement: Statement) -> None:
    lines = {
        (line.bank_id, line.card_kind, line.unit_price): (line.billed_count, line.unbilled_count)
        for line in statement.lines.all()
    }
    now = {
        (row.bank_id, row.card_kind, row.unit_price): (row.billed_count, row.unbilled_count)
        for row in counted(statement.period)
    }
    if lines != now:
        raise StatementStaleError("起草后又有签收，请重新起草后再结算", where=str(statement))


def _check_price(statement: Statement, card_kind: str, price: Decimal) -> None:
    known = prices(statement, card_kind)
    if price not in known:
        raise AdjustmentRefusedError(
            "单价不是该合同该卡种的单价",
            where=card_kind[:20],
            expected="、".join(map(format_yuan, sorted(known))) or "成品卡或预制卡",
            got=format_yuan(price),
        )


def _check_count(statement: Statement, bank: Organisation, card_kind: str, change: int) -> None:
    held = corrected_count(statement, bank, card_kind)
    if held + change < 0:
        raise AdjustmentRefusedError(
            "减少的张数超过已结算的张数", where=str(bank), expected=f"≥ {-held}", got=str(change)
        )


def _check_budget(contract: Contract, amount: Decimal) -> None:
    """Refuse what would bring the contract's settled sum above its budget (R-44)."""
    settled = sum((owed(statement) for statement in _statements(contract)), Decimal(0))
    if amount > 0 and settled + amount > contract.budget:
        raise AdjustmentRefusedError(
            "调整后超过合同预算", where=contract.number, expected=f"≤ {format_yuan(contract.budget)}",
            got=format_yuan(settled + amount),
        )  # fmt: skip


def _statements(contract: Contract) -> list[Statement]:
    return list(Statement.objects.filter(period__contract=contract, status=StatementStatus.CLOSED))
