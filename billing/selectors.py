"""What billing counts: cards that banks accepted."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Count, DecimalField, F, Q, QuerySet, Sum

from billing.models import SettlementPeriod, Statement, StatementLine
from orders.choices import CardKind, IssueKind
from production.models import Card

# test and sample cards; R-35: warranty replacements; R-20: the supplier's own remakes.
NEVER_BILLED = Q(card_kind__in=[CardKind.TEST, CardKind.SAMPLE]) | Q(
    issue_kind__in=[IssueKind.WARRANTY, IssueKind.REMAKE]
)


@dataclass(frozen=True, slots=True)
class Counted:
    """Accepted cards of one bank, kind and order price in a period."""

    bank_id: int
    card_kind: str
    unit_price: Decimal
    billed_count: int
    unbilled_count: int


def accepted_cards(period: SettlementPeriod) -> QuerySet[Card]:
    """Return the cards that banks accepted in the period from this contract's supplier (R-39)."""
    return Card.objects.filter(
        batch__order__contract_id=period.contract_id,
        accepted_on__gte=period.starts_on,
        accepted_on__lte=period.ends_on,
    )


def counted(period: SettlementPeriod) -> list[Counted]:
    """Count accepted cards by bank, kind and the price their order was placed at."""
    rows: Any = (
        accepted_cards(period)
        .values("bank_id", "card_kind", unit_price=F("batch__order__unit_price"))
        .annotate(billed=Count("id", filter=~NEVER_BILLED), unbilled=Count("id", filter=NEVER_BILLED))
        .order_by("bank__code", "card_kind", "unit_price")
    )
    return [
        Counted(row["bank_id"], row["card_kind"], row["unit_price"], row["billed"], row["unbilled"])
        for row in rows
    ]


def total(statement: Statement) -> Decimal:
    """Sum a statement's lines in yuan."""
    found = StatementLine.objects.filter(statement=statement).aggregate(
        amount=Sum("amount", output_field=DecimalField(max_digits=14, decimal_places=2))
    )
    return found["amount"] or Decimal("0.00")
