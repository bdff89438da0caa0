"""Every page of production, quality, billing and stations: who sees it, and in how many queries."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import Adjustment, SettlementPeriod, Statement, StatementLine
from orders.choices import CardKind, IssueKind
from portal.choices import OrganisationKind, Role
from portal.core.clock import today
from portal.models import Organisation
from portal.roles import PERMISSIONS
from production.models import (
    Batch,
    BatchItem,
    Card,
    CardDestruction,
    Carton,
    Delivery,
    DestructionCertificate,
    MachineFile,
    Receipt,
    ReturnFile,
    RosterMember,
    StockLocation,
    StockLot,
    StockMovement,
    StockRequest,
    UnknownDecision,
    WorkPlan,
)
from quality.models import Defect, DefectCode, Hold, Inspection
from stations.models import Station
from tests.portal.desk import make_person, page, sign_in, text
from tests.production.world import World, build_world

PAGES = (
    "production.batch production.workplan production.rostermember production.machinefile production.card "
    "production.unknowndecision production.stocklot production.stocklocation production.stockmovement "
    "production.stockrequest production.carddestruction production.delivery production.carton "
    "production.receipt production.returnfile "
    "production.destructioncertificate quality.defect quality.defectcode quality.inspection quality.hold "
    "billing.settlementperiod billing.statement billing.statementline billing.adjustment "
    "stations.station"
).split()
# Lists with tests of their own: tests/production/test_masks.py, test_destruction_alarms.py.
ELSEWHERE = {"production.destructionalarm", "production.destructionrequest"}
HOMES = {
    "purchaser": OrganisationKind.PURCHASER, "supplier": OrganisationKind.SUPPLIER,
    "warehouse": OrganisationKind.SUPPLIER, "bank": OrganisationKind.BANK,
}  # fmt: skip


@dataclass
class Crowd:
    """Rows of every model, as many as told, without the work that leads to them."""

    world: World
    made: int = 0

    def grow(self, count: int) -> None:
        """Add `count` rows to every list."""
        for _ in range(count):
            self.made += 1
            self._batch(self.made)

    def _batch(self, number: int) -> None:
        world, now, day = self.world, timezone.now(), today()
        order = world.order(1)
        batch = Batch.objects.create(
            number=f"{order.number}-{number}", order=order, quantity=1, card_kind=CardKind.FINISHED,
            sort_order="employer", carton_size=200, due_on=order.due_on, created_by=world.planner,
            held_reason="划痕" if number % 2 else "",
        )  # fmt: skip
        record = order.records.get()
        item = BatchItem.objects.create(
            batch=batch, sequence=1, record=record, delivery_point=world.points[0], status="good"
        )
        plan = WorkPlan.objects.create(
            batch=batch, place="佛山", starts_at=now, ends_at=now + dt.timedelta(hours=1),
            leader=world.roster[0], proposed_by=world.planner,
        )  # fmt: skip
        plan.people.set(world.roster)
        lot = StockLot.objects.create(
            contract=world.contract, number=f"L{number}", serial_prefix="FS", first_serial=number * 10,
            quantity=10, received_on=day,
        )  # fmt: skip
        place, _ = StockLocation.objects.get_or_create(
            contract=world.contract, kind="warehouse", defaults={"name": "白卡库"}
        )
        StockMovement.objects.create(
            lot=lot, kind="receipt", target=place, quantity=10, requested_by=world.keeper, batch=batch
        )
        StockRequest.objects.create(
            kind="withdrawal", lot=lot, batch=batch, quantity=1, requested_by=world.keeper
        )
        CardDestruction.objects.create(
            number=f"XH{number}", contract=world.contract, method="shredded", place="佛山",
            serials=[f"FS{number:010d}"], card_count=1, requested_by=world.keeper,
        )  # fmt: skip
        RosterMember.objects.create(contract=world.contract, name=f"人{number}", position="操作")
        self._cards(number, batch, item, lot)

    def _cards(self, number: int, batch: Batch, item: BatchItem, lot: StockLot) -> None:
        world, run = self.world, MachineFile.objects.create(batch=batch, pass_number=1, part=1, card_count=1)
        delivery = Delivery.objects.create(
            number=f"{batch.number}-A", batch=batch, delivery_point=world.points[0], card_count=1
        )
        carton = Carton.objects.create(delivery=delivery, number=f"{delivery.number}-001", card_count=1)
        Receipt.objects.create(carton=carton, result="confirmed", counted=1, signed_by=world.clerk)
        card = Card.objects.create(
            serial=f"FS{number:010d}", lot=lot, batch=batch, item=item, machine_file=run, outcome="good",
            bank=world.bank, card_kind=CardKind.FINISHED, issue_kind=IssueKind.FIRST, carton=carton,
            carton_position=1, number_index=bytes(32), card_number_index=bytes(32), card_identifier="",
            atr="",
        )  # fmt: skip
        UnknownDecision.objects.create(card=card, outcome="good", evidence="样", requested_by=world.operator)
        ReturnFile.objects.create(
            batch=batch, stored_name="x", card_count=1, failed_count=0, digest=bytes(32)
        )
        DestructionCertificate.objects.create(number=f"XH-{number}", batch=batch, content={}, signature=b"x")
        code, _ = DefectCode.objects.get_or_create(
            code=f"c{number}", defaults={"name": "划痕", "kind": "bad_card", "liability": "supplier"}
        )
        Defect.objects.create(card=card, code=code, kind="bad_card", liability="supplier", found_at="body")
        Inspection.objects.create(
            batch=batch, pass_number=1, read_count=1, good_count=1, wrong_count=0, bad_count=0,
            unknown_count=0, result="passed",
        )  # fmt: skip
        Hold.objects.create(batch=batch, reason="划痕", placed_by=world.quality)
        Station.objects.create(code=f"s{number}", name="点", place="佛山", operator=world.contract.supplier)
        self._statement(number)

    def _statement(self, number: int) -> None:
        # Six periods a contract: further ones belong to other contracts of the supplier.
        contract = self.world.contract
        if number > 6:
            contract.pk, contract.number, contract.status = None, f"HT-{number}", "closed"
            contract._state.adding = True
            contract.save()
            contract = type(contract).objects.get(pk=contract.pk)
            self.world.contract.refresh_from_db()
        period = SettlementPeriod.objects.create(
            contract=contract, number=1 if number > 6 else number, starts_on=today(),
            ends_on=today() + dt.timedelta(days=180),
        )  # fmt: skip
        statement = Statement.objects.create(
            period=period, drafted_at=timezone.now(), drafted_by=self.world.clerk
        )
        StatementLine.objects.create(
            statement=statement, bank=self.world.bank, card_kind=CardKind.FINISHED, billed_count=1,
            unit_price="9.00", amount="9.00",
        )  # fmt: skip
        Adjustment.objects.create(
            statement=statement, bank=self.world.bank, card_kind=CardKind.FINISHED, count_change=-1,
            unit_price="9.00", amount="-9.00", reason="多计", requested_by=self.world.clerk,
        )  # fmt: skip


@pytest.fixture
def crowd(db: None) -> Crowd:
    return Crowd(build_world())


def person_of(role: str, world: World) -> Client:
    kind = HOMES.get(role.split("_", maxsplit=1)[0], OrganisationKind.PURCHASER)
    home = {
        OrganisationKind.SUPPLIER: world.contract.supplier,
        OrganisationKind.BANK: world.bank,
        OrganisationKind.PURCHASER: Organisation.objects.get(kind=OrganisationKind.PURCHASER),
    }[kind]
    return sign_in(make_person(role, home, f"m-{role}"))


def queries(client: Client, address: str) -> int:
    client.get(address)  # what a process reads once is read
    with CaptureQueriesContext(
        connection,
    ) as seen:
        assert client.get(address).status_code == 200
    return len(seen)


def test_every_model_has_its_page() -> None:
    """Positions of a batch are shown on the batch; every other model has a list."""
    apps_of = {name.split(".")[0] for name in PAGES} - {"stations"}
    named = {model._meta.label_lower for app in apps_of for model in apps.get_app_config(app).get_models()}
    assert named - set(PAGES) == {"production.batchitem", *ELSEWHERE}


@pytest.mark.parametrize("role", [str(role) for role in Role])
def test_a_role_sees_the_pages_of_its_permissions_and_no_others(crowd: Crowd, role: str) -> None:
    """R-46, architecture §3: the table of roles decides about every list and every detail page."""
    crowd.grow(1)
    client = person_of(role, crowd.world)
    for name in PAGES:
        app, model = name.split(".")
        allowed = f"{app}.view_{model}" in PERMISSIONS[role]
        assert client.get(page(name, "changelist")).status_code == (200 if allowed else 403), name
        row = apps.get_model(name).objects.order_by("pk")[0]
        assert client.get(page(name, "change", row.pk)).status_code == (200 if allowed else 403), name
        if name != "stations.station":
            assert client.get(page(name, "add")).status_code == 403
        assert client.get(page(name, "delete", row.pk)).status_code == 403


def test_lists_take_the_same_queries_for_5_and_for_50_rows(crowd: Crowd) -> None:
    """P6: no list asks the database once a row."""
    clients: list[Client] = [sign_in(crowd.world.approver), sign_in(crowd.world.planner)]

    def ask() -> dict[tuple[int, str], int]:
        return {
            (place, name): queries(client, page(name, "changelist"))
            for place, client in enumerate(clients)
            for name in PAGES
        }

    crowd.grow(5)
    few = ask()
    crowd.grow(45)
    assert ask() == few
    assert max(few.values()) <= 12


def test_filters_are_fixed_choices_and_exact_texts(crowd: Crowd) -> None:
    crowd.grow(2)
    client = sign_in(crowd.world.approver)
    asked = {
        "production.batch": {"status__exact": "planned", "bank": crowd.world.bank.code, "number": "X"},
        "production.card": {"outcome__exact": "good", "serial": "FS0000000001"},
        "production.stockmovement": {"kind__exact": "receipt", "lot": "L1"},
        "production.delivery": {"status__exact": "packed"},
        "quality.defect": {"kind__exact": "bad_card", "batch": "X"},
        "billing.statement": {"status__exact": "draft"},
        "billing.statementline": {"contract": "HT-1"},
    }
    for name, query in asked.items():
        assert client.get(page(name, "changelist"), query).status_code == 200, name
    shown = text(client.get(page("production.card", "changelist"), {"serial": "FS0000000001"}))
    assert "FS0000000001" in shown
    assert "FS0000000002" not in shown


def test_no_list_offers_a_sealed_or_indexed_column_by_address(crowd: Crowd) -> None:
    """R-45: nobody probes blind indexes through the address bar."""
    crowd.grow(1)
    client = sign_in(crowd.world.approver)
    answer = client.get(page("production.card", "changelist"), {"number_index__startswith": "a"})
    assert answer.status_code == 400
