"""Every state machine of the portal: the forbidden half of its table is refused without a trace (D11)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.utils import timezone

from billing.models import Adjustment, SettlementPeriod, Statement
from orders.models import AccountFile, CardholderRecord, Contract, Order, Package
from portal.core.errors import TransitionRefusedError
from portal.models import AuditEntry, KeyImport, RoleRequest
from portal.workflow import check_move, move
from production.models import (
    Batch,
    Card,
    CardDestruction,
    Delivery,
    DestructionRequest,
    MachineFile,
    StockRequest,
    UnknownDecision,
    WorkPlan,
)
from production.services import cards, planning, preparation, stock
from quality.models import Hold
from stations.models import BlankRequest, EmergencyCase, FeederRun, Issuance, Station, StationBlank
from tests.production.world import World, build_world

MACHINES = sorted(
    (model for model in apps.get_models() if hasattr(model, "TRANSITIONS")), key=lambda model: model.__name__
)
DAY = dt.date(2026, 7, 1)
# The database wants a second person of each of their decided rows.
DECIDED_BY_SOMEBODY = (Adjustment, CardDestruction, DestructionRequest, StockRequest, UnknownDecision)


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def _batch(world: World) -> Batch:
    return planning.plan_batches(world.order(2), actor=world.planner)[0]


def _withdrawal(world: World) -> StockRequest:
    batch = _batch(world)
    world.approve(batch)
    return stock.request_withdrawal(batch, world.lot(10), 5, actor=world.keeper)


def _record(world: World) -> CardholderRecord:
    found: CardholderRecord = world.order(1).records.get()
    return found


def _account_file(world: World) -> AccountFile:
    return AccountFile.objects.create(
        bank=world.bank, file_name="a.csv", digest=b"1" * 32, size=1, key_id="k", stored_name="a",
        uploaded_by=world.clerk,
    )  # fmt: skip


def _run(world: World) -> MachineFile:
    batch = preparation.prepare_batch(world.released(1), actor=world.operator)
    return MachineFile.objects.get(batch=batch)


def _decision(world: World) -> UnknownDecision:
    card = Card.objects.get(machine_file=_run(world))
    Card.objects.filter(pk=card.pk).update(outcome="unknown")
    return cards.request_unknown_decision(card, outcome="good", evidence="读卡", actor=world.operator)


def _destruction(world: World) -> DestructionRequest:
    return DestructionRequest.objects.create(package=world.package, reason="停办", requested_by=world.clerk)


def _delivery(world: World) -> Delivery:
    return Delivery.objects.create(
        number="D-1", batch=_batch(world), delivery_point=world.points[0], card_count=1
    )


def _hold(world: World) -> Hold:
    return Hold.objects.create(batch=_batch(world), reason="超标", placed_by=world.quality)


def _statement(world: World) -> Statement:
    period = SettlementPeriod.objects.create(
        contract=world.contract, number=1, starts_on=DAY, ends_on=dt.date(2026, 12, 31)
    )
    return Statement.objects.create(period=period, drafted_at=timezone.now(), drafted_by=world.clerk)


def _adjustment(world: World) -> Adjustment:
    return Adjustment.objects.create(
        statement=_statement(world), bank=world.bank, card_kind="finished", count_change=-1, unit_price=9,
        amount=-9, reason="多计", requested_by=world.approver,
    )  # fmt: skip


def _card_destruction(world: World) -> CardDestruction:
    return CardDestruction.objects.create(
        number="XH-1", contract=world.contract, method="shredded", place="佛山", serials=["S1"], card_count=1,
        requested_by=world.keeper,
    )  # fmt: skip


def _role_request(world: World) -> RoleRequest:
    return RoleRequest.objects.create(
        user=world.keeper, organisation=world.keeper.organisation, roles=[], requested_by=world.clerk
    )


def _key_import(world: World) -> KeyImport:
    return KeyImport.objects.create(
        name="SSSE-IRK", version=1, check_value="A1B2C3", first_by=world.clerk, second_by=world.keeper,
        expires_at=timezone.now(),
    )  # fmt: skip


# One row of each machine, complete enough to stand in each of its states.
def _station(world: World) -> Station:
    return Station.objects.create(code="s-1", name="一号台", place="佛山", operator=world.bank)


def _issuance(world: World) -> Issuance:
    batch = world.prepared(1)
    card = batch.cards.get()
    return Issuance.objects.create(station=_station(world), batch=batch, card=card, operator=world.operator)


def _feeder_run(world: World) -> FeederRun:
    run, now = _run(world), timezone.now()
    return FeederRun.objects.create(
        station=_station(world), batch=run.batch, machine_file=run, operator=world.operator,
        continued_at=now, heard_at=now,
    )  # fmt: skip


def _blank(world: World) -> StationBlank:
    lot = world.lot(5, prefix="SM26A")
    return StationBlank.objects.create(station=_station(world), lot=lot, serial="SM26A0000000001")


def _blank_request(world: World) -> BlankRequest:
    lot = world.lot(5, prefix="SM26A")
    return BlankRequest.objects.create(
        station=_station(world), lot=lot, quantity=1, requested_by=world.operator
    )


def _case(world: World) -> EmergencyCase:
    return EmergencyCase.objects.create(
        station=_station(world),
        bank=world.bank,
        number_index=bytes(32),
        reason="急用",
        requested_by=world.operator,
    )


ROWS: dict[type[models.Model], Callable[[World], models.Model]] = {
    AccountFile: _account_file,
    Adjustment: _adjustment,
    Batch: _batch,
    BlankRequest: _blank_request,
    CardDestruction: _card_destruction,
    CardholderRecord: _record,
    Contract: lambda world: world.contract,
    Delivery: _delivery,
    DestructionRequest: _destruction,
    EmergencyCase: _case,
    FeederRun: _feeder_run,
    Hold: _hold,
    Issuance: _issuance,
    KeyImport: _key_import,
    MachineFile: _run,
    Order: lambda world: world.order(1),
    Package: lambda world: world.package,
    RoleRequest: _role_request,
    Statement: _statement,
    StationBlank: _blank,
    StockRequest: _withdrawal,
    UnknownDecision: _decision,
    WorkPlan: lambda world: world.propose(_batch(world)),
}


def states(model: Any) -> list[str]:
    return [str(value) for value in model.Status.values]


def stored(row: models.Model) -> dict[str, Any]:
    found: dict[str, Any] = type(row)._base_manager.filter(pk=row.pk).values().get()
    return found


def bring(row: models.Model, state: str, world: World) -> None:
    """Put the row into a state behind the back of the machine and of the triggers that keep what is final."""
    values: dict[str, Any] = {"status": state}
    if isinstance(row, DECIDED_BY_SOMEBODY):
        values["decided_by"] = None if state == "requested" else world.quality
    if isinstance(row, DestructionRequest):
        values["decided_at"] = None if state == "requested" else timezone.now()
    if isinstance(row, CardDestruction):
        values["destroyed_on"] = DAY if state == "approved" else None
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        type(row)._base_manager.filter(pk=row.pk).update(**values)
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")
    row.refresh_from_db()


def test_every_machine_is_tested_here() -> None:
    """A new model with a TRANSITIONS table must bring its row."""
    assert set(MACHINES) == set(ROWS)


@pytest.mark.parametrize("model", MACHINES, ids=lambda model: model.__name__)
def test_the_table_names_known_states_only(model: Any) -> None:
    named = {*model.TRANSITIONS, *(target for targets in model.TRANSITIONS.values() for target in targets)}
    assert named <= set(model.Status)
    assert all(source not in targets for source, targets in model.TRANSITIONS.items())


@pytest.mark.parametrize("model", MACHINES, ids=lambda model: model.__name__)
def test_every_state_is_reached_from_the_first(model: Any) -> None:
    """A state nobody can reach is a gap in the table."""
    first = model._meta.get_field("status").default
    starts = {first} if first is not models.NOT_PROVIDED else {"returned", "accepted"}
    reached, waiting = set(starts), list(starts)
    while waiting:
        for target in model.TRANSITIONS.get(waiting.pop(), ()):
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    assert reached == set(states(model))


@pytest.mark.parametrize("model", MACHINES, ids=lambda model: model.__name__)
def test_what_the_table_does_not_list_is_refused(model: Any, world: World) -> None:
    """product(states, states) minus the table: refused, nothing changed, nothing audited."""
    row = ROWS[model](world)
    for source, target in product(states(model), states(model)):
        bring(row, source, world)
        if target in model.TRANSITIONS.get(source, frozenset()):
            check_move(row, target)
            continue
        before, audited = stored(row), AuditEntry.objects.count()
        with pytest.raises(TransitionRefusedError) as refused:
            move(row, target, actor=world.clerk)
        assert refused.value.got == row.get_status_display()  # type: ignore[attr-defined]
        assert stored(row) == before, (source, target)
        assert AuditEntry.objects.count() == audited, (source, target)


def test_a_listed_move_is_written_and_audited_once(world: World) -> None:
    batch = _batch(world)
    audited = AuditEntry.objects.count()
    moved = move(batch, Batch.Status.CANCELLED, actor=world.planner)
    assert (moved.status, stored(batch)["status"]) == ("cancelled", "cancelled")
    entry = AuditEntry.objects.latest("position")
    assert AuditEntry.objects.count() == audited + 1
    assert (entry.action, entry.details) == ("batch.cancelled", {"before": "planned", "after": "cancelled"})
