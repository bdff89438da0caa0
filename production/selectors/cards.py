"""Cards by what is to be done with them."""

from __future__ import annotations

from django.db.models import QuerySet

from production.choices import Outcome
from production.line.made import REASON_LABELS
from production.models import Batch, Card, MachineFile


def cards_to_inspect(run: MachineFile) -> QuerySet[Card]:
    """Return the run's cards that wait for their inspection, with record and package, in order."""
    made: QuerySet[Card] = Card.objects.filter(machine_file=run, outcome=Outcome.MADE)
    return made.select_related("item__record__package").order_by("item__sequence")


def unknown_cards(batch: Batch) -> QuerySet[Card]:
    """Return the cards whose outcome somebody must find out (D8)."""
    cards: QuerySet[Card] = Card.objects.filter(batch=batch, outcome=Outcome.UNKNOWN)
    return cards.select_related("item", "machine_file").order_by("item__sequence")


def reason_label(reason: str) -> str:
    """Return a reason as people read it."""
    return REASON_LABELS.get(reason, reason)
