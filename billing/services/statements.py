"""Statements: what a supplier is owed for a half-year, from cards that banks accepted (R-39, R-40)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import BinaryIO

from django.utils import timezone

from billing.models import SettlementPeriod, Statement, StatementLine
from billing.selectors import Counted, approved, counted, owed, total
from orders.models import Contract
from portal.audit import unit_of_work
from portal.core.clock import today
from portal.core.errors import PortalError
from portal.core.money import capital_yuan, format_yuan
from portal.core.periods import contract_periods
from portal.core.sheets import Column, write_list
from portal.models import User
from portal.roles import require
from portal.texts import in_chinese
from portal.workflow import locked

COLUMNS = (
    Column("银行", 20),
    Column("卡种", 12),
    Column("计费张数", 12),
    Column("不计费张数", 12),
    Column("单价（元）", 12),
    Column("金额（元）", 18),
)
EXPLANATION = Column("说明", 44)


class OutsideTermError(PortalError):
    """A day that lies in none of the contract's six settlement periods (R-2, R-39)."""

    code = "outside_term"


class StatementClosedError(PortalError):
    """A closed statement is corrected by an adjustment, never drafted again."""

    code = "statement_closed"


def settlement_period(contract: Contract, day: date) -> SettlementPeriod:
    """Return the contract's settlement period that holds `day`; create it on first use."""
    spans = list(contract_periods(contract.signed_on))
    for number, span in enumerate(spans, start=1):
        if day in span:
            period, _ = SettlementPeriod.objects.get_or_create(
                contract=contract, number=number, defaults={"starts_on": span.start, "ends_on": span.end}
            )
            return period
    raise OutsideTermError(
        "该日期不在合同的六个结算期内",
        where=contract.number,
        expected=f"{spans[0].start:%Y-%m-%d} 至 {spans[-1].end:%Y-%m-%d}",
        got=f"{day:%Y-%m-%d}",
    )


def draft_statement(contract: Contract, *, actor: User, on: date | None = None) -> Statement:
    """Draft, or draft afresh, the statement of the half-year that holds `on` (default today).

    Counts are taken anew from the ledger of cards each time; drafting twice gives the same statement.
    """
    require(actor, "billing.draft_statement", contract)
    with unit_of_work(actor) as work:
        # Two drafts at once: the contract's lock lets them follow each other.
        contract = locked(contract)
        period = settlement_period(contract, on or today())
        statement, _ = Statement.objects.get_or_create(
            period=period, defaults={"drafted_at": timezone.now(), "drafted_by": actor}
        )
        if statement.status != Statement.Status.DRAFT:
            raise StatementClosedError("结算单已结算，不能重新起草", where=str(statement))
        statement.lines.all().delete()
        StatementLine.objects.bulk_create([_line(statement, row) for row in counted(period)])
        statement.drafted_at, statement.drafted_by = timezone.now(), actor
        statement.save(update_fields=["drafted_at", "drafted_by"])
        work.record("statement.drafted", statement, amount=str(total(statement)), contract=contract.number)
    return statement


def _line(statement: Statement, row: Counted) -> StatementLine:
    return StatementLine(
        statement=statement,
        bank_id=row.bank_id,
        card_kind=row.card_kind,
        billed_count=row.billed_count,
        unbilled_count=row.unbilled_count,
        unit_price=row.unit_price,
        amount=row.unit_price * row.billed_count,
    )


def statement_workbook(statement: Statement, target: Path | BinaryIO, *, actor: User) -> None:
    """Write the statement as Excel, a Chinese document; the export is audited."""
    require(actor, "billing.view_statement", statement)
    with in_chinese(), unit_of_work(actor) as work:
        work.record("statement.exported", statement)
        period = statement.period
        amount, lines = owed(statement), total(statement)
        is_adjusted = approved(statement).exists()
        parts = f"明细合计：{format_yuan(lines)}　调整合计：{format_yuan(amount - lines)}"
        name = f"{period.contract.get_lot_display()} 第 {period.number} 期结算单"
        write_list(
            target,
            title=f"{name}（{statement.get_status_display()}）",
            columns=(*COLUMNS, EXPLANATION) if is_adjusted else COLUMNS,
            rows=_adjusted_rows(statement) if is_adjusted else _rows(statement),
            header_lines=[
                f"合同：{period.contract.number}　中标人：{period.contract.supplier.name}",
                f"结算期：{period.starts_on:%Y-%m-%d} 至 {period.ends_on:%Y-%m-%d}",
                *([parts] if is_adjusted else []),
                f"合计：{format_yuan(amount)}（{capital_yuan(amount)}）",
                f"制表：{actor}　{timezone.localtime():%Y-%m-%d %H:%M}",
            ],
        )


def _rows(statement: Statement) -> Iterator[list[str]]:
    for line in statement.lines.select_related("bank").order_by("bank__code", "card_kind"):
        yield [
            line.bank.short_name,
            str(line.get_card_kind_display()),
            f"{line.billed_count:,}",
            f"{line.unbilled_count:,}",
            f"{line.unit_price:,.2f}",
            f"{line.amount:,.2f}",
        ]


def _adjusted_rows(statement: Statement) -> Iterator[list[str]]:
    """Yield the lines as they were closed, then what two people agreed to add or take off."""
    yield from ([*row, ""] for row in _rows(statement))
    people = ("requested_by", "decided_by")
    for row in approved(statement).select_related("bank", *people).order_by("decided_at", "id"):
        yield [
            row.bank.short_name,
            str(row.get_card_kind_display()),
            f"{row.count_change:+,}",
            "0",
            f"{row.unit_price:,.2f}",
            f"{row.amount:,.2f}",
            f"调整 #{row.pk}：{row.reason}（{row.requested_by}申请，{row.decided_by}复核）",
        ]
