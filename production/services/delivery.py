"""Delivery: dispatch, the list a bank downloads, its word on each carton and its signature (R-23)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from orders.choices import OrderStatus
from orders.models import Order
from portal.audit import unit_of_work
from portal.core.clock import today
from portal.core.errors import ConflictError, PortalError
from portal.core.periods import add_months
from portal.files import read_sealed
from portal.models import User
from portal.roles import require
from portal.workflow import check_move, locked, move
from production.choices import BatchStatus, DeliveryStatus, ReceiptResult
from production.models import Batch, Card, Carton, Delivery, Receipt
from production.services.packing import refuse_held

WARRANTY_MONTHS = 24  # two years from delivery
BLOCK = 64 * 1024


class ListNotReadyError(PortalError):
    """A delivery list that is still being written, or was destroyed with its batch."""

    code = "list_not_ready"


class CountRefusedError(PortalError):
    """A carton's count that does not fit its content and the named positions."""

    code = "count_refused"


class CartonsOpenError(PortalError):
    """A delivery is signed only when every carton has the bank's word."""

    code = "cartons_open"


def dispatch_batch(batch: Batch, *, actor: User) -> Batch:
    """Send the packed cartons off; every delivery list must stand."""
    require(actor, "production.dispatch_batch", batch)
    with unit_of_work(actor):
        fresh = locked(batch)
        refuse_held(fresh)
        check_move(fresh, BatchStatus.DISPATCHED)
        waiting = fresh.deliveries.filter(list_name="").count()
        if waiting:
            raise ListNotReadyError("交接清单尚未生成完毕", where=fresh.number, got=f"还有 {waiting} 份")
        now = timezone.now()
        for delivery in fresh.deliveries.order_by("pk"):
            move(delivery, DeliveryStatus.DISPATCHED, actor=actor, dispatched_at=now)
        Card.objects.filter(carton__delivery__batch=fresh).update(delivered_on=today())
        return move(fresh, BatchStatus.DISPATCHED, actor=actor, dispatched_at=now)


def download_list(delivery: Delivery, *, actor: User) -> tuple[str, Iterator[bytes]]:
    """Return the file name and content of the delivery list (Excel); reading it is an event."""
    require(actor, "production.download_list", delivery)
    delivery = Delivery.objects.select_related("batch").get(pk=delivery.pk)
    if not delivery.list_name or delivery.batch.status == BatchStatus.DESTROYED:
        raise ListNotReadyError("交接清单不可下载：尚未生成或数据已销毁", where=delivery.number)
    with unit_of_work(actor) as work:
        work.record("delivery.list_downloaded", delivery, cards=delivery.card_count)
    return f"{delivery.number}.xlsx", _blocks(delivery.list_name, delivery.batch.key_id)


def _blocks(name: str, key_id: str) -> Iterator[bytes]:
    with read_sealed(name, key_id) as reader:
        while block := reader.read(BLOCK):
            yield block


def confirm_carton(
    carton: Carton, *, counted: int, actor: User, missing_positions: Sequence[int] = (), note: str = ""
) -> Receipt:
    """Take the bank's word on one carton: as listed, or which positions are missing or damaged."""
    require(actor, "production.sign_delivery", carton)
    with unit_of_work(actor) as work:
        delivery = locked(carton.delivery)
        check_move(delivery, DeliveryStatus.SIGNED)
        missing = sorted(set(missing_positions))
        _check_count(carton, counted, missing, note)
        try:
            with transaction.atomic():
                receipt = Receipt.objects.create(
                    carton=carton,
                    result=ReceiptResult.DIFFERENT if missing else ReceiptResult.CONFIRMED,
                    counted=counted,
                    missing_positions=missing,
                    note=note.strip()[:200],
                    signed_by=actor,
                )
        except IntegrityError as exc:
            raise ConflictError("该箱已点收", where=carton.number) from exc
        work.record("carton.received", carton, counted=counted, missing=missing)
    return receipt


def _check_count(carton: Carton, counted: int, missing: Sequence[int], note: str) -> None:
    strange = [position for position in missing if not 1 <= position <= carton.card_count]
    if strange:
        raise CountRefusedError(
            "箱内没有这个位置", where=carton.number, expected=f"1–{carton.card_count}", got=str(strange[0])
        )
    if counted != carton.card_count - len(missing):
        raise CountRefusedError(
            "实点张数与清单不符：请逐一填写缺少或损坏的箱内位置",
            where=carton.number,
            expected=str(carton.card_count - len(missing)),
            got=str(counted),
        )
    if missing and not note.strip():
        raise CountRefusedError("有差异时必须填写说明", where=carton.number)


def sign_delivery(delivery: Delivery, *, actor: User) -> Delivery:
    """Sign for a delivery: its cards are accepted, the warranty starts, and the last one signs the batch."""
    require(actor, "production.sign_delivery", delivery)
    with unit_of_work(actor):
        # The batch first: two last deliveries signed at once must see each other.
        batch = locked(delivery.batch)
        fresh = locked(delivery)
        check_move(fresh, DeliveryStatus.SIGNED)
        waiting = fresh.cartons.filter(receipt__isnull=True).count()
        if waiting:
            raise CartonsOpenError("还有未点收的箱", where=fresh.number, got=f"{waiting} 箱")
        accepted = _accept_cards(fresh)
        now = timezone.now()
        fresh = move(
            fresh,
            DeliveryStatus.SIGNED,
            actor=actor,
            signed_at=now,
            signed_by=actor,
            details={"accepted": accepted, "listed": fresh.card_count},
        )
        if not batch.deliveries.exclude(status=DeliveryStatus.SIGNED).exists():
            move(batch, BatchStatus.SIGNED, actor=actor, signed_at=now)
            complete_order(batch.order, actor, now)
    return fresh


def _accept_cards(delivery: Delivery) -> int:
    day = today()
    accepted = 0
    for carton in delivery.cartons.select_related("receipt"):
        cards = Card.objects.filter(carton=carton).exclude(
            carton_position__in=carton.receipt.missing_positions
        )
        accepted += cards.update(accepted_on=day, warranty_until=add_months(day, WARRANTY_MONTHS))
    return accepted


def complete_order(order: Order, actor: User, now: datetime) -> None:
    """Complete an order whose last batch is signed for."""
    done = (BatchStatus.SIGNED, BatchStatus.DESTROYED, BatchStatus.CANCELLED)
    order = locked(order)
    if order.status == OrderStatus.IN_PRODUCTION and not order.batches.exclude(status__in=done).exists():
        move(order, OrderStatus.COMPLETED, actor=actor, completed_at=now)
