"""The stock ledger: two people, no overdraft, append-only (R-21)."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from orders.models import Contract
from portal.choices import Role
from portal.core.errors import PermissionRefusedError, SamePersonError, TransitionRefusedError
from portal.files import keystore
from portal.models import AuditEntry, User
from production.choices import BatchStatus, LocationKind, MovementKind, RequestStatus
from production.models import Batch, StockLot, StockMovement, StockRequest
from production.personalization.blank import BlankSerialError
from production.selectors.stock import (
    BatchBlanks,
    LotBlanks,
    balance,
    batch_blanks,
    free_by_lot,
    location_balance,
    lots_in_warehouse,
    spares,
    suggested_withdrawal,
)
from production.services import planning, stock
from tests.production.world import World, audit_count, build_world
from tests.refusals import refused


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def approved(world: World, count: int = 20) -> Batch:
    batch = planning.plan_batches(world.order(count), actor=world.planner)[0]
    world.approve(batch)
    batch.refresh_from_db()
    return batch


def state() -> tuple[int, list[Any], list[Any]]:
    """Everything a refused action must leave alone."""
    return (
        audit_count(),
        list(StockMovement.objects.order_by("id").values_list()),
        list(StockRequest.objects.order_by("id").values_list()),
    )


class TestReceipt:
    def test_a_lot_is_received_into_the_warehouse(self, world: World) -> None:
        lot = world.lot(500)
        assert balance(lot, LocationKind.WAREHOUSE) == 500
        assert balance(lot, LocationKind.FLOOR) == 0
        movement = StockMovement.objects.get()
        assert (movement.kind, movement.source, movement.quantity) == (MovementKind.RECEIPT, None, 500)
        assert movement.target.kind == LocationKind.WAREHOUSE
        assert AuditEntry.objects.filter(action="stocklot.received", object_id=str(lot.pk)).count() == 1

    def test_another_suppliers_lot_is_not_named(self, world: World) -> None:
        """R-45: whoever takes in serials of another supplier's lot learns they are taken, not by whom."""
        own = world.lot(500)
        again: dict[str, Any] = {
            "number": "LOT-2", "serial_prefix": "FS26A", "first_serial": 1, "quantity": 5,
            "received_on": "2026-11-23",
        }  # fmt: skip
        with pytest.raises(stock.StockRefusedError) as caught:
            stock.receive_lot(world.contract, **again, actor=world.keeper)
        assert caught.value.where == own.number
        other = world.other_planner.organisation
        keeper = User.objects.create(username="k2", organisation=other, roles=[Role.WAREHOUSE_KEEPER])
        contract = Contract.objects.create(
            number="HT-2", lot=2, supplier=other, quantity_cap=10, budget=90, finished_price=9, face_fee=1,
            signed_on="2026-01-15", status="active",
        )  # fmt: skip
        with pytest.raises(stock.StockRefusedError) as caught:
            stock.receive_lot(contract, **again, actor=keeper)
        assert (caught.value.where, own.number in str(caught.value)) == ("", False)

    @pytest.mark.parametrize(
        ("prefix", "first", "refused"),
        [("FS26A", 450, True), ("FS26A", 501, False), ("FS26B", 450, False), ("FS26A", 1, True)],
    )
    def test_serials_never_come_twice(self, world: World, prefix: str, first: int, refused: bool) -> None:
        """R-21: each blank is known by its serial, so two lots may not share one."""
        world.lot(500)
        before = state()
        options: dict[str, Any] = {
            "number": "LOT-2", "serial_prefix": prefix, "first_serial": first, "quantity": 100,
            "received_on": "2026-11-23", "actor": world.keeper,
        }  # fmt: skip
        if not refused:
            assert stock.receive_lot(world.contract, **options).quantity == 100
            return
        with pytest.raises(stock.StockRefusedError):
            stock.receive_lot(world.contract, **options)
        assert state() == before
        assert StockLot.objects.count() == 1

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"quantity": 0}, stock.StockRefusedError),
            ({"quantity": -5}, stock.StockRefusedError),
            ({"number": "  "}, stock.StockRefusedError),
            ({"serial_prefix": "x1"}, BlankSerialError),
            ({"first_serial": 2**32}, BlankSerialError),
            ({"first_serial": 2**32 - 10}, BlankSerialError),
        ],
    )
    def test_impossible_lots_are_refused(self, world: World, change: Any, error: type[Exception]) -> None:
        options: dict[str, Any] = {
            "number": "LOT-1", "serial_prefix": "FS26A", "first_serial": 1, "quantity": 100,
            "received_on": "2026-11-23", "actor": world.keeper,
        }  # fmt: skip
        with pytest.raises(error):
            stock.receive_lot(world.contract, **{**options, **change})
        assert state() == (0, [], [])
        assert not StockLot.objects.exists()

    def test_only_keepers_receive(self, world: World) -> None:
        with pytest.raises(PermissionRefusedError):
            stock.receive_lot(
                world.contract, number="L", serial_prefix="A", first_serial=1, quantity=1,
                received_on="2026-11-23", actor=world.planner,
            )  # fmt: skip
        assert state() == (0, [], [])


class TestWithdrawal:
    def test_two_keepers_withdraw_and_the_batch_is_released(self, world: World) -> None:
        batch, lot = approved(world), world.lot(100)
        request = stock.request_withdrawal(batch, lot, 25, actor=world.keeper)
        assert batch_blanks(batch) == BatchBlanks(0, 0, 0, 0)
        decided = stock.decide_request(request, approve=True, actor=world.keeper_two)
        batch.refresh_from_db()
        assert (decided.status, decided.decided_by) == (RequestStatus.APPROVED, world.keeper_two)
        assert (balance(lot, "warehouse"), balance(lot, "floor")) == (75, 25)
        assert batch_blanks(batch) == BatchBlanks(withdrawn=25, returned=0, samples=0, used=0)
        assert free_by_lot(batch) == [LotBlanks(lot.pk, 25)]
        assert (batch.status, batch.released_at is not None) == (BatchStatus.RELEASED, True)
        assert keystore().exists(batch.key_id)

    def test_fewer_blanks_than_cards_do_not_release(self, world: World) -> None:
        batch, lot = approved(world), world.lot(100)
        world.withdraw(batch, lot, 19)
        batch.refresh_from_db()
        assert (batch.status, batch.key_id) == (BatchStatus.APPROVED, "")
        world.withdraw(batch, lot, 1)
        batch.refresh_from_db()
        assert batch.status == BatchStatus.RELEASED

    def test_the_same_person_cannot_decide(self, world: World) -> None:
        request = stock.request_withdrawal(approved(world), world.lot(100), 25, actor=world.keeper)
        with refused(SamePersonError, audited=["second_person.refused"]):
            stock.decide_request(request, approve=True, actor=world.keeper)

    def test_the_database_refuses_the_same_person_too(self, world: World) -> None:
        request = stock.request_withdrawal(approved(world), world.lot(100), 25, actor=world.keeper)
        with pytest.raises(IntegrityError, match="stock_request_two_people"), transaction.atomic():
            StockRequest.objects.filter(pk=request.pk).update(decided_by=world.keeper)
        with pytest.raises(IntegrityError, match="stock_request_decided"), transaction.atomic():
            StockRequest.objects.filter(pk=request.pk).update(status="approved")
        with pytest.raises(IntegrityError, match="movement_two_people"), transaction.atomic():
            StockMovement.objects.create(
                lot=request.lot, kind="withdrawal", quantity=1,
                requested_by=world.keeper, approved_by=world.keeper,
                target=stock.location(world.contract, LocationKind.FLOOR),
            )  # fmt: skip

    def test_refusing_moves_nothing(self, world: World) -> None:
        batch, lot = approved(world), world.lot(100)
        request = stock.request_withdrawal(batch, lot, 25, actor=world.keeper)
        decided = stock.decide_request(request, approve=False, actor=world.keeper_two)
        assert decided.status == RequestStatus.REFUSED
        assert balance(lot, "warehouse") == 100

    def test_a_decided_request_stays_decided(self, world: World) -> None:
        batch, lot = approved(world), world.lot(100)
        request = stock.request_withdrawal(batch, lot, 25, actor=world.keeper)
        stock.decide_request(request, approve=True, actor=world.keeper_two)
        before = state()
        with pytest.raises(TransitionRefusedError):
            stock.decide_request(request, approve=True, actor=world.keeper_two)
        assert state() == before

    def test_more_than_there_is_cannot_be_asked_for(self, world: World) -> None:
        batch, lot = approved(world), world.lot(24)
        before = state()
        with pytest.raises(stock.StockShortError) as refused:
            stock.request_withdrawal(batch, lot, 25, actor=world.keeper)
        assert (refused.value.expected, refused.value.got) == ("≥ 25", "24")
        assert state() == before

    def test_two_open_requests_cannot_overdraw(self, world: World) -> None:
        """The second request is refused when it is decided, and stays open for a later receipt."""
        batch, lot = approved(world), world.lot(30)
        first, second = (stock.request_withdrawal(batch, lot, 20, actor=world.keeper) for _ in range(2))
        stock.decide_request(first, approve=True, actor=world.keeper_two)
        before = state()
        with pytest.raises(stock.StockShortError):
            stock.decide_request(second, approve=True, actor=world.keeper_two)
        assert state() == before
        assert balance(lot, "warehouse") == 10

    def test_a_batch_that_is_not_approved_takes_nothing(self, world: World) -> None:
        """R-15: before the plan is approved no blank leaves the warehouse."""
        batch = planning.plan_batches(world.order(5), actor=world.planner)[0]
        lot = world.lot(100)
        before = state()
        with pytest.raises(TransitionRefusedError):
            stock.request_withdrawal(batch, lot, 5, actor=world.keeper)
        assert state() == before

    @pytest.mark.parametrize("quantity", [0, -1])
    def test_the_quantity_is_positive(self, world: World, quantity: int) -> None:
        batch, lot = approved(world), world.lot(100)
        before = state()
        with pytest.raises(stock.StockRefusedError):
            stock.request_withdrawal(batch, lot, quantity, actor=world.keeper)
        assert state() == before

    def test_people_of_another_supplier_are_refused(self, world: World) -> None:
        stranger = User.objects.create(
            username="stranger", organisation=world.other_planner.organisation, roles=[Role.WAREHOUSE_KEEPER]
        )
        batch, lot = approved(world), world.lot(100)
        request = stock.request_withdrawal(batch, lot, 5, actor=world.keeper)
        before = state()
        with pytest.raises(PermissionRefusedError):
            stock.request_withdrawal(batch, lot, 5, actor=stranger)
        with pytest.raises(PermissionRefusedError):
            stock.decide_request(request, approve=True, actor=stranger)
        assert state() == before

    @pytest.mark.parametrize(("quantity", "spare"), [(1, 5), (500, 5), (501, 6), (2000, 20), (2001, 21)])
    def test_spares(self, quantity: int, spare: int) -> None:
        assert spares(quantity) == spare

    def test_the_suggestion_shrinks_with_what_is_there(self, world: World) -> None:
        batch, lot = approved(world), world.lot(100)
        assert suggested_withdrawal(batch) == 25
        world.withdraw(batch, lot, 20)
        assert suggested_withdrawal(batch) == 5


class TestAdjustment:
    @pytest.mark.parametrize(("quantity", "left"), [(-3, 97), (4, 104)])
    def test_a_signed_quantity_with_its_reason(self, world: World, quantity: int, left: int) -> None:
        lot = world.lot(100)
        request = stock.request_adjustment(lot, quantity, reason="盘点", actor=world.keeper)
        stock.decide_request(request, approve=True, actor=world.keeper_two)
        assert balance(lot, "warehouse") == left
        movement = StockMovement.objects.get(kind="adjustment")
        assert (movement.quantity, movement.note) == (abs(quantity), "盘点")
        assert (movement.requested_by, movement.approved_by) == (world.keeper, world.keeper_two)

    @pytest.mark.parametrize(("quantity", "reason"), [(0, "盘点"), (5, " "), (-5, "")])
    def test_it_needs_quantity_and_reason(self, world: World, quantity: int, reason: str) -> None:
        lot = world.lot(100)
        before = state()
        with pytest.raises(stock.StockRefusedError):
            stock.request_adjustment(lot, quantity, reason=reason, actor=world.keeper)
        assert state() == before

    def test_it_cannot_go_below_nothing(self, world: World) -> None:
        lot = world.lot(100)
        before = state()
        with pytest.raises(stock.StockShortError):
            stock.request_adjustment(lot, -101, reason="盘点", actor=world.keeper)
        assert state() == before


class TestLedger:
    def test_movements_are_append_only(self, world: World) -> None:
        """R-21: what moved stays written, whoever asks the database."""
        world.lot(100)
        for change in (
            lambda: StockMovement.objects.update(quantity=99),
            lambda: StockMovement.objects.all().delete(),
        ):
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
                change()
        assert StockMovement.objects.get().quantity == 100

    def test_balances_by_lot_and_place(self, world: World) -> None:
        batch = approved(world)
        first, second = world.lot(100), world.lot(50, prefix="FS26B")
        world.withdraw(batch, first, 12)
        world.withdraw(batch, second, 13)
        found = {lot.pk: lot.in_warehouse for lot in lots_in_warehouse(world.contract.pk)}
        assert found == {first.pk: 88, second.pk: 37}
        assert location_balance(world.contract.pk, "warehouse") == 125
        assert location_balance(world.contract.pk, "floor") == 25
        assert free_by_lot(batch) == [LotBlanks(first.pk, 12), LotBlanks(second.pk, 13)]
