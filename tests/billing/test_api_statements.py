"""Statements through the API (R-39, R-40)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from django.utils import timezone
from openpyxl import load_workbook

from billing.models import SettlementPeriod, Statement, StatementLine
from portal.choices import Role
from tests.api import ROOT, actions, client_of, code_of, ids
from tests.orders.scene import Scene, make_scene, make_user

pytestmark = pytest.mark.django_db
URL = f"{ROOT}/statements"


@pytest.fixture
def scene() -> Scene:
    return make_scene()


def make_statement(scene: Scene, lot: int, counts: tuple[int, ...] = (10, 5)) -> Statement:
    period = SettlementPeriod.objects.create(
        contract=scene.contracts[lot], number=4, starts_on=dt.date(2026, 9, 3), ends_on=dt.date(2027, 3, 2)
    )
    statement = Statement.objects.create(period=period, drafted_at=timezone.now(), drafted_by=scene.clerk)
    price = Decimal("9.80")
    for bank, count in zip(scene.banks, counts, strict=False):
        StatementLine.objects.create(
            statement=statement, bank=bank, card_kind="finished", billed_count=count, unit_price=price,
            amount=price * count,
        )  # fmt: skip
    return statement


def test_a_statement_shows_its_lines_and_total(scene: Scene) -> None:
    """R-40: cards are counted by bank and kind."""
    statement = make_statement(scene, 0)
    client = client_of(scene.clerk)
    (listed,) = client.get(URL).json()["results"]
    shown = client.get(f"{URL}/{statement.pk}").json()
    assert {**listed, "lines": shown["lines"]} == shown
    assert (shown["contract"], shown["supplier"], shown["period"]) == ("HT-1", "SUP1", 4)
    assert (shown["status"], shown["total"]) == ("draft", "147.00")
    assert [(line["bank"], line["amount"]) for line in shown["lines"]] == [
        ("BANK1", "98.00"),
        ("BANK2", "49.00"),
    ]


def test_an_empty_statement_is_worth_nothing(scene: Scene) -> None:
    make_statement(scene, 0, ())
    assert client_of(scene.clerk).get(URL).json()["results"][0]["total"] == "0.00"


def test_each_supplier_sees_its_own_and_banks_none(scene: Scene) -> None:
    own, other = make_statement(scene, 0), make_statement(scene, 1)
    client = client_of(make_user("planner", scene.suppliers[0], Role.SUPPLIER_PLANNER))
    before = actions()
    assert ids(client.get(URL)) == [own.pk]
    for path in ("", "/workbook"):
        assert code_of(client.get(f"{URL}/{other.pk}{path}"), 404) == "not_found"
    assert actions() == before
    assert code_of(client_of(scene.bank_clerks[0]).get(URL), 403) == "permission_refused"


def test_the_workbook_is_exported_and_audited(scene: Scene) -> None:
    statement = make_statement(scene, 0)
    answer = client_of(scene.clerk).get(f"{URL}/{statement.pk}/workbook")
    sheet: Any = load_workbook(BytesIO(b"".join(answer.streaming_content))).active
    assert "结算单" in str(sheet["A1"].value)
    assert actions()[-1] == "statement.exported"


def test_a_page_costs_the_same_whatever_its_length(scene: Scene, django_assert_max_num_queries: Any) -> None:
    for lot in (0, 1):
        make_statement(scene, lot)
    client = client_of(scene.clerk)
    client.get(URL)
    with django_assert_max_num_queries(2):
        client.get(URL)
