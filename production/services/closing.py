"""Closing a batch: counts entered blind must equal the ledger, or the closing is refused (R-20, R-21)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from django.db.models import Count, Q, Sum
from django.utils import timezone

from portal.audit import record_alone, unit_of_work
from portal.core.errors import PortalError, TransitionRefusedError
from portal.models import User
from portal.roles import require
from portal.workflow import check_move, locked, move
from production.choices import BatchStatus, LocationKind, MovementKind, Outcome
from production.models import Batch, Card, StockLot, StockMovement
from production.selectors.stock import TAKEN, free_by_lot
from production.services.delivery import complete_order
from production.services.preparation import take_from
from production.services.stock import StockRefusedError, StockShortError, post

# Blanks are on the floor from the release on; once the counts are balanced nothing moves any more.
SAMPLED_IN = (
    BatchStatus.RELEASED, BatchStatus.PREPARING, BatchStatus.PREPARED, BatchStatus.RUNNING,
    BatchStatus.INSPECTING, BatchStatus.INSPECTED,
)  # fmt: skip
COUNT_LABELS = {"good": "良品", "rejected": "废品", "samples": "留样", "returned": "退库"}


class CountsDifferError(PortalError):
    """Blind counts that are not the ledger's; names which, never the ledger's own figures."""

    code = "counts_differ"


@dataclass(frozen=True, slots=True)
class Counts:
    """Cards and blanks of one batch: withdrawn = good + rejected + samples + returned."""

    good: int
    rejected: int
    samples: int
    returned: int

    @property
    def total(self) -> int:
        """Return the sum of all four."""
        return self.good + self.rejected + self.samples + self.returned


def ledger_counts(batch: Batch) -> dict[int, Counts]:
    """Return the ledger's counts of a batch by stock lot; blanks that became no card are returned."""
    moved = StockMovement.objects.filter(batch=batch).values("lot_id")
    sums = moved.annotate(
        withdrawn=Sum("quantity", filter=Q(kind__in=TAKEN), default=0),
        samples=Sum("quantity", filter=Q(kind=MovementKind.SAMPLE), default=0),
    )
    used = Card.objects.filter(batch=batch).values("lot_id")
    cards = {
        row["lot_id"]: (row["good"], row["rejected"], row["used"])
        for row in used.annotate(
            used=Count("id"),
            good=Count("id", filter=Q(outcome=Outcome.GOOD)),
            rejected=Count("id", filter=Q(outcome=Outcome.REJECTED)),
        )
    }
    counts = {}
    for row in sums.order_by("lot_id"):
        good, rejected, spent = cards.get(row["lot_id"], (0, 0, 0))
        left = row["withdrawn"] - row["samples"] - spent
        counts[row["lot_id"]] = Counts(good, rejected, row["samples"], left)
    return counts


def totals(by_lot: dict[int, Counts]) -> Counts:
    """Add the counts of all lots."""
    names = ("good", "rejected", "samples", "returned")
    return Counts(*(sum(getattr(counts, name) for counts in by_lot.values()) for name in names))


def take_samples(batch: Batch, lot: StockLot, quantity: int, *, actor: User) -> StockMovement:
    """Keep withdrawn blanks of a lot as samples; their serials are spent, no card is made of them (R-13).

    Raises StockShortError, without the ledger's figure, when the batch has fewer free blanks of the lot.
    """
    require(actor, "production.close_batch", batch)
    if quantity < 1:
        raise StockRefusedError("留样数量须为正", expected="≥ 1", got=str(quantity))
    with unit_of_work(actor):
        fresh = locked(batch)
        if fresh.status not in SAMPLED_IN:
            raise TransitionRefusedError(
                f"批次 {fresh} 当前状态不能留样",
                expected="、".join(str(state.label) for state in SAMPLED_IN),
                got=str(fresh.get_status_display()),
            )
        if quantity > sum(held.free for held in free_by_lot(fresh) if held.lot_id == lot.pk):
            raise StockShortError("该批次没有这么多未使用的白卡", where=str(lot), got=str(quantity))
        serials = [serial for _, serial in take_from(lot.pk, quantity)]
        return post(
            lot,
            MovementKind.SAMPLE,
            quantity,
            source=LocationKind.FLOOR,
            target=LocationKind.SAMPLES,
            batch=fresh,
            requested_by=actor,
            note=f"{serials[0]}–{serials[-1]}",
        )


def close_batch(batch: Batch, *, good: int, rejected: int, samples: int, returned: int, actor: User) -> Batch:
    """Close the batch when the blind counts equal the ledger; post what became of every blank.

    Raises CountsDifferError, audited, with nothing else changed.
    """
    require(actor, "production.close_batch", batch)
    entered = Counts(good, rejected, samples, returned)
    try:
        return _close(batch, entered, actor)
    except CountsDifferError as exc:
        record_alone(
            "batch.counts_differ", actor=actor, subject=batch, fields=exc.where, entered=asdict(entered)
        )
        raise


def _close(batch: Batch, entered: Counts, actor: User) -> Batch:
    with unit_of_work(actor):
        fresh = locked(batch)
        check_move(fresh, BatchStatus.CLOSED)
        by_lot = ledger_counts(fresh)
        _compare(entered, totals(by_lot))
        for lot_id, counts in by_lot.items():
            _post(fresh, lot_id, counts, actor)
        now = timezone.now()
        details = {"counts": asdict(entered)}
        closed = move(fresh, BatchStatus.CLOSED, actor=actor, closed_at=now, details=details)
        return closed if entered.good else _without_delivery(closed, actor)


def _without_delivery(batch: Batch, actor: User) -> Batch:
    """Pass a batch by the bank that has no card for it: return file and destruction are still due (R-22)."""
    now = timezone.now()
    signed = move(batch, BatchStatus.SIGNED, actor=actor, signed_at=now, details={"cards": 0})
    complete_order(signed.order, actor, now)
    return signed


def _compare(entered: Counts, ledger: Counts) -> None:
    differing = [
        label for name, label in COUNT_LABELS.items() if getattr(entered, name) != getattr(ledger, name)
    ]
    if differing:
        raise CountsDifferError("清点数与系统账不符，请重新清点", where="、".join(differing))


def _post(batch: Batch, lot_id: int, counts: Counts, actor: User) -> None:
    lot = StockLot.objects.select_related("contract").get(pk=lot_id)
    moves = (
        (MovementKind.GOOD, LocationKind.DELIVERED, counts.good),
        (MovementKind.SPOILAGE, LocationKind.SPOILED, counts.rejected),
        (MovementKind.RETURN, LocationKind.WAREHOUSE, counts.returned),
    )
    for kind, target, quantity in moves:
        if quantity:
            post(
                lot, kind, quantity, source=LocationKind.FLOOR, target=target, batch=batch, requested_by=actor
            )
