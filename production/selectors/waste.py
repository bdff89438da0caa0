"""Rejected cards that wait in the spoiled store for their destruction (R-21)."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import QuerySet

from production.choices import BatchStatus, Outcome, RequestStatus
from production.models import Card, CardDestruction

# Closing posts a batch's rejected cards to the spoiled store; before that they still count on the floor.
COUNTED_IN = (
    BatchStatus.CLOSED, BatchStatus.PACKED, BatchStatus.DISPATCHED, BatchStatus.SIGNED, BatchStatus.DESTROYED,
)  # fmt: skip


def spoiled_cards(contract_id: int) -> QuerySet[Card]:
    """Return the contract's rejected cards that are counted into the spoiled store and not yet destroyed."""
    return Card.objects.filter(
        batch__order__contract_id=contract_id,
        batch__status__in=COUNTED_IN,
        outcome=Outcome.REJECTED,
        destruction__isnull=True,
    )


def requested_serials(contract_id: int, serials: Sequence[str] | None = None) -> set[str]:
    """Return the serials that stand in open requests of the contract, of the given ones only if given."""
    waiting = CardDestruction.objects.filter(contract_id=contract_id, status=RequestStatus.REQUESTED)
    if serials is not None:
        waiting = waiting.filter(serials__overlap=list(serials))
    return {serial for row in waiting.values_list("serials", flat=True) for serial in row}
