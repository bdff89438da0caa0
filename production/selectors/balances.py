"""Balances of a page of lots or locations, in a constant number of queries (R-21)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from django.db.models import Q, Sum

from production.models import StockLocation, StockLot, StockMovement


def lot_balances(lots: Iterable[StockLot]) -> dict[int, Counter[str]]:
    """Return, by lot, how many of it are at each kind of location."""
    moved = StockMovement.objects.filter(lot__in=[lot.pk for lot in lots])
    rows = (
        moved.values_list("lot_id", "source__kind", "target__kind").annotate(sum=Sum("quantity")).order_by()
    )
    balances: dict[int, Counter[str]] = defaultdict(Counter)
    for lot_id, source, target, quantity in rows:
        if target:
            balances[lot_id][target] += quantity
        if source:
            balances[lot_id][source] -= quantity
    return balances


def location_balances(locations: Iterable[StockLocation]) -> Counter[int]:
    """Return, by location, how many blanks or cards are there."""
    keys = {location.pk for location in locations}
    moved = StockMovement.objects.filter(Q(source__in=keys) | Q(target__in=keys))
    rows: Any = moved.values_list("source_id", "target_id").annotate(sum=Sum("quantity")).order_by()
    balances: Counter[int] = Counter()
    for source, target, quantity in rows:
        balances[target] += quantity
        balances[source] -= quantity
    return Counter({key: balances[key] for key in keys})
