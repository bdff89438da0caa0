"""Statements in the admin: drafted from accepted cards, given out as Excel (R-39, R-40)."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.test import Client
from openpyxl import load_workbook

from billing.models import SettlementPeriod, Statement, StatementLine
from portal.core.clock import today
from production.models import Card
from tests.portal.desk import audited, last_action, page, said, text
from tests.production.stages import Stages, build_stages

STATEMENT = "billing.statement"


@pytest.fixture
def stages(db: None, settings: Any) -> Stages:
    return build_stages(settings)


def state() -> tuple[Any, ...]:
    models = (Statement, StatementLine, SettlementPeriod)
    return (audited(), *(list(model.objects.order_by("id").values_list()) for model in models))


def draft(client: Client, stages: Stages, on: str = "") -> Any:
    values = {"contract": stages.world.contract.pk, "on": on or f"{today()}"}
    return client.post(page(STATEMENT, "draft"), values)


def test_the_clerk_drafts_and_downloads(stages: Stages) -> None:
    """R-39, R-40: what banks accepted in the half-year, by bank and kind, at the contract's price."""
    stages.signed(2)
    clerk = stages.desk("clerk")
    assert said(draft(clerk, stages)) == "包组一 HT-1 第 1 期结算单已起草"
    statement = Statement.objects.get()
    shown = text(clerk.get(page(STATEMENT, "change", statement.pk)))
    assert "¥18.00" in shown
    assert "壹拾捌元整" in shown
    assert "¥18.00" in text(clerk.get(page(STATEMENT, "changelist")))
    answer = clerk.get(page(STATEMENT, "download", statement.pk))
    sheet = load_workbook(io.BytesIO(b"".join(answer.streaming_content))).active  # type: ignore[attr-defined]
    assert "18.00" in {str(cell.value) for row in sheet.rows for cell in row}
    assert last_action() == "statement.exported"


def test_drafting_again_counts_anew(stages: Stages) -> None:
    clerk = stages.desk("clerk")
    draft(clerk, stages)
    statement = Statement.objects.get()
    assert "本期没有已签收的卡片" in text(clerk.get(page(STATEMENT, "change", statement.pk)))
    batch = stages.world.prepared(1)
    Card.objects.filter(batch=batch).update(accepted_on=today())
    answer = clerk.post(page(STATEMENT, "redraft", statement.pk))
    assert said(answer) == "结算单已按最新签收情况重新起草"
    assert StatementLine.objects.get().billed_count == 1
    assert Statement.objects.count() == 1


def test_a_day_outside_the_contract_is_refused(stages: Stages) -> None:
    """R-2, R-39: six periods and no seventh."""
    clerk, before = stages.desk("clerk"), state()
    answer = draft(clerk, stages, "2019-01-01")
    assert answer.status_code == 409
    assert said(answer).startswith("该日期不在合同的六个结算期内；位置：HT-1；应为：")
    assert state() == before


def test_a_closed_statement_is_not_drafted_again(stages: Stages) -> None:
    clerk = stages.desk("clerk")
    draft(clerk, stages)
    Statement.objects.update(status="closed")
    statement, before = Statement.objects.get(), state()
    assert said(draft(clerk, stages)) == f"结算单已结算，不能重新起草；位置：{statement}（statement_closed）"
    assert "重新起草" not in text(clerk.get(page(STATEMENT, "change", statement.pk)))
    assert state() == before


def test_the_supplier_reads_and_the_bank_does_not(stages: Stages) -> None:
    draft(stages.desk("clerk"), stages)
    statement, before = Statement.objects.get(), state()
    assert stages.desk("planner").get(page(STATEMENT, "change", statement.pk)).status_code == 200
    assert draft(stages.desk("planner"), stages).status_code == 403
    assert stages.desk("other_planner").get(page(STATEMENT, "download", statement.pk)).status_code == 404
    assert stages.desk("bank_clerk").get(page(STATEMENT, "changelist")).status_code == 403
    assert state() == before
    assert last_action() == "access.refused"
