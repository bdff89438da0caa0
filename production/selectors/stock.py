"""What is where: sums of the stock ledger's movements (R-21)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from django.db.models import Case, Count, F, IntegerField, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Coalesce

from production.choices import LocationKind, MovementKind
from production.models import Batch, Card, StockLot, StockMovement

SPARE_SHARE = 0.01
LEAST_SPARES = 5
# What brings blanks to a batch: from the warehouse by two people, or one from a counter's own stock.
TAKEN = (MovementKind.WITHDRAWAL, MovementKind.COUNTER)


@dataclass(frozen=True, slots=True)
class BatchBlanks:
    """Blanks of one batch: withdrawn from the warehouse, given back, kept as samples, used for cards."""

    withdrawn: int
    returned: int
    samples: int
    used: int

    @property
    def free(self) -> int:
        """Return how many withdrawn blanks no card has used."""
        return self.withdrawn - self.returned - self.samples - self.used


@dataclass(frozen=True, slots=True)
class LotBlanks:
    """Free blanks that a batch withdrew from one lot."""

    lot_id: int
    free: int


def spares(quantity: int) -> int:
    """Return how many spare blanks to withdraw for a quantity: one in a hundred, at least five."""
    return max(LEAST_SPARES, ceil(quantity * SPARE_SHARE))


def suggested_withdrawal(batch: Batch) -> int:
    """Return how many blanks the batch still needs: its quantity and spares without what it has."""
    return max(0, batch.quantity + spares(batch.quantity) - batch_blanks(batch).withdrawn)


def balance(lot: StockLot, kind: str) -> int:
    """Return how many of a lot are at the contract's location of a kind."""
    moved = StockMovement.objects.filter(lot=lot)
    return _net(moved, kind)


def location_balance(contract_id: int, kind: str) -> int:
    """Return how many blanks or cards are at a contract's location of a kind, over all lots."""
    return _net(StockMovement.objects.filter(lot__contract_id=contract_id), kind)


def lots_in_warehouse(contract_id: int) -> QuerySet[StockLot]:
    """Return the contract's lots with `in_warehouse`, their sum there; oldest first."""
    lots: QuerySet[StockLot] = StockLot.objects.filter(contract_id=contract_id)
    total = Coalesce(Sum(_signed(LocationKind.WAREHOUSE, "movements__")), 0)
    return lots.annotate(in_warehouse=total).order_by("received_on", "id")


def batch_blanks(batch: Batch) -> BatchBlanks:
    """Return the batch's blanks as the ledger and the cards show them."""
    moved = StockMovement.objects.filter(batch=batch)
    sums = moved.aggregate(
        withdrawn=Coalesce(Sum("quantity", filter=Q(kind__in=TAKEN)), 0),
        returned=Coalesce(Sum("quantity", filter=Q(kind=MovementKind.RETURN)), 0),
        samples=Coalesce(Sum("quantity", filter=Q(kind=MovementKind.SAMPLE)), 0),
    )
    return BatchBlanks(**sums, used=Card.objects.filter(batch=batch).count())


def free_by_lot(batch: Batch) -> list[LotBlanks]:
    """Return the batch's free blanks lot by lot, oldest lot first; lots without any are left out."""
    kinds = [*TAKEN, MovementKind.RETURN, MovementKind.SAMPLE]
    moved = StockMovement.objects.filter(batch=batch, kind__in=kinds)
    signed = Case(When(kind__in=TAKEN, then=F("quantity")), default=-F("quantity"))
    held = moved.values_list("lot_id").annotate(sum=Sum(signed)).order_by("lot__received_on", "lot_id")
    used = dict(
        Card.objects.filter(batch=batch).values_list("lot_id").annotate(count=Count("id")).order_by("lot_id")
    )
    found = [LotBlanks(lot_id, quantity - used.get(lot_id, 0)) for lot_id, quantity in held]
    return [lot for lot in found if lot.free > 0]


def _net(moved: QuerySet[StockMovement], kind: str) -> int:
    return int(moved.aggregate(net=Coalesce(Sum(_signed(kind)), 0))["net"])


def _signed(kind: str, prefix: str = "") -> Case:
    """Count a movement into the location as plus, out of it as minus, within it as nothing."""
    came, went = Q(**{f"{prefix}target__kind": kind}), Q(**{f"{prefix}source__kind": kind})
    return Case(
        When(came & ~went, then=F(f"{prefix}quantity")),
        When(went & ~came, then=-F(f"{prefix}quantity")),
        default=Value(0),
        output_field=IntegerField(),
    )
