"""Packing: cards sorted as the bank wants, in numbered cartons, one delivery a point (R-19, R-23)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from orders.choices import SortOrder
from orders.models import DeliveryPoint
from orders.personal import KEY_COLUMNS, RowKey
from portal.audit import unit_of_work
from portal.bulk import update_from
from portal.core.errors import PortalError
from portal.models import User
from portal.queue import schedule
from portal.roles import require
from portal.workflow import check_move, locked, move
from production.choices import BatchStatus, Outcome
from production.models import Batch, Card, Carton, Delivery

WRITE_LIST = "production.jobs_delivery.write_list"


class BatchHeldError(PortalError):
    """A held batch neither packs nor ships until its hold is released (R-26)."""

    code = "batch_held"


@dataclass(frozen=True, slots=True, order=True)
class Placed:
    """A good card and the key it is sorted by."""

    key: tuple[str, ...] = field(repr=False)
    sequence: int
    card_id: int = field(compare=False)


class NothingToPackError(PortalError):
    """A batch without a single good card."""

    code = "nothing_to_pack"


def refuse_held(batch: Batch) -> None:
    """Refuse a batch under hold."""
    if batch.held_reason:
        raise BatchHeldError("批次已冻结，不能装箱或发货", where=batch.number, got=batch.held_reason)


def pack_batch(batch: Batch, *, actor: User) -> Batch:
    """Sort the good cards, put them into cartons and let the delivery lists be written."""
    require(actor, "production.pack_batch", batch)
    with unit_of_work(actor):
        fresh = locked(batch)
        refuse_held(fresh)
        check_move(fresh, BatchStatus.PACKED)
        placed = _sorted_cards(fresh)
        if not placed:
            raise NothingToPackError("批次没有良品卡，无可装箱", where=fresh.number)
        for point, cards in placed.items():
            delivery = _pack_point(fresh, point, cards)
            schedule(WRITE_LIST, delivery, actor=actor)
        details = {"deliveries": len(placed), "cards": sum(map(len, placed.values()))}
        return move(fresh, BatchStatus.PACKED, actor=actor, details=details)


def _sorted_cards(batch: Batch) -> dict[DeliveryPoint, list[Placed]]:
    """Return the good cards of each point in order; plain columns, for instances would cost most of it."""
    sort_key = _SORT_KEYS[SortOrder(batch.sort_order)]
    placed: dict[int, list[Placed]] = {}
    cards = Card.objects.filter(batch=batch, outcome=Outcome.GOOD).values_list(*_COLUMNS)
    for card_id, sequence, point_id, employer, sealed, *key in cards.iterator(chunk_size=1000):
        found = Placed(sort_key(employer, sealed, RowKey(*key)), sequence, card_id)
        placed.setdefault(point_id, []).append(found)
    for cards_of_point in placed.values():
        cards_of_point.sort()
    points = DeliveryPoint.objects.filter(pk__in=placed)
    return {point: placed[point.pk] for point in sorted(points, key=attrgetter("code"))}


def _by_employer(employer: str, sealed: bytes, key: RowKey) -> tuple[str, ...]:
    # Cards without an employer come last, not first.
    return (employer or "\uffff", *_by_number(employer, sealed, key))


def _by_number(_employer: str, sealed: bytes, key: RowKey) -> tuple[str, ...]:
    assert key.id is not None, "an undelivered card has its record"
    return (key.open("number", sealed),)


def _as_received(_employer: str, _sealed: bytes, _key: RowKey) -> tuple[str, ...]:
    return ()


_COLUMNS = (
    "pk", "item__sequence", "item__delivery_point_id",
    *(f"item__record__{column}" for column in ("employer_code", "number_sealed", *KEY_COLUMNS)),
)  # fmt: skip
_SORT_KEYS: Mapping[SortOrder, Callable[[str, bytes, RowKey], tuple[str, ...]]] = {
    SortOrder.EMPLOYER: _by_employer,
    SortOrder.NUMBER: _by_number,
    SortOrder.RECEIVED: _as_received,
}


def _pack_point(batch: Batch, point: DeliveryPoint, cards: Sequence[Placed]) -> Delivery:
    delivery = Delivery.objects.create(
        number=f"{batch.number}-{point.code}", batch=batch, delivery_point=point, card_count=len(cards)
    )
    rows: list[tuple[int, int, int]] = []
    contents = list(_chunks(cards, batch.carton_size))
    width = max(3, len(str(len(contents))))  # numbers of one width sort as they were packed
    for place, content in enumerate(contents, start=1):
        carton = Carton.objects.create(
            delivery=delivery, number=f"{delivery.number}-{place:0{width}d}", card_count=len(content)
        )
        rows += [(card.card_id, carton.pk, position) for position, card in enumerate(content, start=1)]
    update_from(Card, ["id"], ["carton", "carton_position"], rows)
    return delivery


def _chunks(cards: Sequence[Placed], size: int) -> Iterator[Sequence[Placed]]:
    for start in range(0, len(cards), size):
        yield cards[start : start + size]
