"""Finding cards by exact serial, number or card number; numbers through blind indexes only (R-45)."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from orders.personal import card_number_index, number_index
from portal.models import User
from production.models import Card

MOST = 20


def find_cards(term: str, *, user: User) -> list[Card]:
    """Return up to MOST of the user's cards whose serial, number or card number is exactly `term`."""
    term = term.strip()
    if not term:
        return []
    same = (
        Q(serial=term.upper())
        | Q(number_index=number_index(term))
        | Q(card_number_index=card_number_index(term))
    )
    cards: QuerySet[Card] = Card.objects.visible_to(user).filter(same)
    return list(cards.select_related("batch", "bank", "carton").order_by("-id")[:MOST])
