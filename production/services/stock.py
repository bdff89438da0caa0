"""The stock of blanks: received, withdrawn and adjusted in an append-only ledger, by two people (R-21)."""

from __future__ import annotations

import datetime as dt

from django.utils import timezone

from orders.models import Contract
from portal.audit import unit_of_work
from portal.core.errors import InputRefusedError, TransitionRefusedError
from portal.core.keystore import KeyPurpose
from portal.files import keystore
from portal.models import User
from portal.roles import require, require_second_person
from portal.workflow import locked, move
from production.choices import BatchStatus, LocationKind, MovementKind, RequestStatus
from production.models import Batch, StockLocation, StockLot, StockMovement, StockRequest
from production.personalization.blank import serial_text
from production.selectors.stock import balance, batch_blanks

LOCATION_NAMES = {
    LocationKind.WAREHOUSE: "白卡库",
    LocationKind.FLOOR: "车间",
    LocationKind.SPOILED: "废卡库",
    LocationKind.SAMPLES: "样卡库",
    LocationKind.DELIVERED: "已交付",
    LocationKind.DESTROYED: "已销毁卡片",
    LocationKind.COUNTER: "制卡点",
}
# A batch takes blanks from its approval until its counts are balanced.
TAKES_BLANKS = frozenset(
    {
        BatchStatus.APPROVED, BatchStatus.RELEASED, BatchStatus.PREPARING, BatchStatus.PREPARED,
        BatchStatus.RUNNING, BatchStatus.INSPECTING,
    }
)  # fmt: skip


class StockRefusedError(InputRefusedError):
    """A lot or request that contradicts the ledger."""

    code = "stock_refused"


class StockShortError(InputRefusedError):
    """More than there is at the place it is to leave."""

    code = "stock_short"


def location(contract: Contract, kind: LocationKind) -> StockLocation:
    """Return the contract's location of a kind, made when it is first needed."""
    found, _ = StockLocation.objects.get_or_create(
        contract=contract, kind=kind, defaults={"name": LOCATION_NAMES[kind]}
    )
    return found


def receive_lot(
    contract: Contract,
    *,
    number: str,
    serial_prefix: str,
    first_serial: int,
    quantity: int,
    received_on: dt.date,
    actor: User,
) -> StockLot:
    """Take a delivery of blanks with consecutive serials into the warehouse.

    Serials are a prefix (a letter, then up to five letters or digits) and ten digits; none may come twice.
    """
    require(actor, "production.receive_stock", contract)
    number, last = number.strip(), first_serial + quantity - 1
    if not number or quantity < 1:
        raise StockRefusedError("白卡批号不能为空，数量须为正", got=f"{number!r} {quantity}")
    for bound in (first_serial, last):
        serial_text(serial_prefix, bound)
    with unit_of_work(actor) as work:
        locked(contract)
        _refuse_known(contract, number, serial_prefix, first_serial, last)
        lot = StockLot.objects.create(
            contract=contract,
            number=number,
            serial_prefix=serial_prefix,
            first_serial=first_serial,
            quantity=quantity,
            received_on=received_on,
        )
        post(
            lot,
            MovementKind.RECEIPT,
            quantity,
            target=LocationKind.WAREHOUSE,
            requested_by=actor,
            note=number,
        )
        work.record("stocklot.received", lot, quantity=quantity)
    return lot


def request_withdrawal(
    batch: Batch, lot: StockLot, quantity: int, *, reason: str = "", actor: User
) -> StockRequest:
    """Ask for blanks of a lot for a batch; a second keeper decides."""
    require(actor, "production.request_stock", batch)
    require(actor, "production.request_stock", lot)
    if quantity < 1:
        raise StockRefusedError("领用数量须为正", expected="≥ 1", got=str(quantity))
    with unit_of_work(actor) as work:
        fresh = locked(batch)
        _check_taking(fresh, lot)
        _check_there(lot, LocationKind.WAREHOUSE, quantity)
        request = StockRequest.objects.create(
            kind=MovementKind.WITHDRAWAL,
            lot=lot,
            batch=fresh,
            quantity=quantity,
            reason=reason.strip(),
            requested_by=actor,
        )
        work.record("stockrequest.requested", request, kind="withdrawal", quantity=quantity, lot=lot.number)
    return request


def request_adjustment(lot: StockLot, quantity: int, *, reason: str, actor: User) -> StockRequest:
    """Ask to correct the warehouse's balance of a lot by a signed quantity, with the reason."""
    require(actor, "production.request_stock", lot)
    if quantity == 0 or not reason.strip():
        raise StockRefusedError("调整数量不能为零，且须说明事由", got=str(quantity))
    with unit_of_work(actor) as work:
        if quantity < 0:
            _check_there(lot, LocationKind.WAREHOUSE, -quantity)
        request = StockRequest.objects.create(
            kind=MovementKind.ADJUSTMENT,
            lot=lot,
            quantity=quantity,
            reason=reason.strip(),
            requested_by=actor,
        )
        work.record("stockrequest.requested", request, kind="adjustment", quantity=quantity, lot=lot.number)
    return request


def decide_request(request: StockRequest, *, approve: bool, actor: User) -> StockRequest:
    """Approve or refuse as the second person; approval posts the movement and may release the batch.

    Raises StockShortError when the lot no longer has the quantity; the request then stays open.
    """
    require(actor, "production.decide_stock", request)
    require_second_person(request.requested_by, actor, request)
    target = RequestStatus.APPROVED if approve else RequestStatus.REFUSED
    with unit_of_work(actor):
        decided = move(request, target, actor=actor, decided_by=actor, decided_at=timezone.now())
        if approve and decided.kind == MovementKind.WITHDRAWAL:
            _withdraw(decided, actor)
        elif approve:
            _adjust(decided, actor)
    return decided


def post(
    lot: StockLot,
    kind: MovementKind,
    quantity: int,
    *,
    source: LocationKind | None = None,
    target: LocationKind | None = None,
    batch: Batch | None = None,
    requested_by: User,
    approved_by: User | None = None,
    note: str = "",
) -> StockMovement:
    """Write one movement under the lot's lock; raise StockShortError when `source` has too few."""
    with unit_of_work(requested_by) as work:
        held = locked(lot)
        if source is not None:
            _check_there(held, source, quantity)
        movement = StockMovement.objects.create(
            lot=held,
            kind=kind,
            source=location(held.contract, source) if source else None,
            target=location(held.contract, target) if target else None,
            quantity=quantity,
            batch=batch,
            requested_by=requested_by,
            approved_by=approved_by,
            note=note[:200],
        )
        work.record(f"stockmovement.{kind}", movement, quantity=quantity, lot=held.number)
    return movement


def _withdraw(request: StockRequest, actor: User) -> None:
    # The batch is locked before the lot, here as in the allocation of serials: no dead lock.
    assert request.batch is not None
    batch = locked(request.batch)
    _check_taking(batch, request.lot)
    post(
        request.lot,
        MovementKind.WITHDRAWAL,
        request.quantity,
        source=LocationKind.WAREHOUSE,
        target=LocationKind.FLOOR,
        batch=batch,
        requested_by=request.requested_by,
        approved_by=actor,
        note=request.reason,
    )
    if batch.status == BatchStatus.APPROVED and batch_blanks(batch).withdrawn >= batch.quantity:
        _release(batch, actor)


def _release(batch: Batch, actor: User) -> None:
    """Hand the batch to the shop floor, with the key of all its files."""
    key_id = keystore().create(KeyPurpose.BATCH, batch.number)
    move(batch, BatchStatus.RELEASED, actor=actor, released_at=timezone.now(), key_id=key_id)


def _adjust(request: StockRequest, actor: User) -> None:
    found = request.quantity > 0
    post(
        request.lot,
        MovementKind.ADJUSTMENT,
        abs(request.quantity),
        source=None if found else LocationKind.WAREHOUSE,
        target=LocationKind.WAREHOUSE if found else None,
        requested_by=request.requested_by,
        approved_by=actor,
        note=request.reason,
    )


def _check_taking(batch: Batch, lot: StockLot) -> None:
    if batch.status not in TAKES_BLANKS:
        raise TransitionRefusedError(
            f"批次 {batch} 当前状态不能领用白卡",
            expected="、".join(str(state.label) for state in BatchStatus if state in TAKES_BLANKS),
            got=str(batch.get_status_display()),
        )
    if lot.contract_id != batch.order.contract_id:
        raise StockRefusedError(
            "白卡批不属于该批次的合同",
            where=str(lot),
            expected=str(batch.order.contract),
            got=str(lot.contract),
        )


def _check_there(lot: StockLot, kind: LocationKind, quantity: int) -> None:
    there = balance(lot, kind)
    if there < quantity:
        raise StockShortError(
            f"{LOCATION_NAMES[kind]}数量不足", where=str(lot), expected=f"≥ {quantity}", got=str(there)
        )


def _refuse_known(contract: Contract, number: str, prefix: str, first: int, last: int) -> None:
    if StockLot.objects.filter(number=number).exists():
        raise StockRefusedError("白卡批号已入库", got=number)
    known = StockLot.objects.filter(serial_prefix=prefix, first_serial__lte=last)
    for lot in known.select_related("contract"):
        if lot.first_serial + lot.quantity > first:
            # Chips are unique in the world, so another supplier's lot stops this one; it is not named.
            named = lot.contract.supplier_id == contract.supplier_id
            raise StockRefusedError(
                "序列号与已入库的白卡批重叠", where=str(lot) if named else "", got=serial_text(prefix, first)
            )


__all__ = [
    "StockRefusedError",
    "StockShortError",
    "decide_request",
    "location",
    "post",
    "receive_lot",
    "request_adjustment",
    "request_withdrawal",
]
