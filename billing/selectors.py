"""What billing counts: cards that banks accepted."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Count, DecimalField, F, Q, QuerySet, Sum

from billing.models import Adjustment, AdjustmentStatus, SettlementPeriod, Statement, StatementLine
from orders.choices import CardKind, IssueKind
from orders.models import Order
from portal.models import Organisation
from production.models import Card

AMOUNT = DecimalField(max_digits=14, decimal_places=2)
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


def approved(statement: Statement) -> QuerySet[Adjustment]:
    """Return the adjustments of a statement that two people agreed on."""
    return Adjustment.objects.filter(statement=statement, status=AdjustmentStatus.APPROVED)


def owed(statement: Statement) -> Decimal:
    """Return what is owed in yuan: the lines and every approved adjustment."""
    found = approved(statement).aggregate(amount=Sum("amount", output_field=AMOUNT))
    return total(statement) + (found["amount"] or Decimal("0.00"))


def corrected_count(statement: Statement, bank: Organisation, card_kind: str) -> int:
    """Return how many cards of a bank and kind are billed: the lines and every approved adjustment."""
    same: Any = {"bank": bank, "card_kind": card_kind}
    lines = statement.lines.filter(**same).aggregate(count=Sum("billed_count", default=0))
    changes = approved(statement).filter(**same).aggregate(count=Sum("count_change", default=0))
    return int(lines["count"] + changes["count"])


def prices(statement: Statement, card_kind: str) -> set[Decimal]:
    """Return what a card of the kind may cost: the contract's price and those its orders were placed at."""
    contract = statement.period.contract
    ordered = Order.objects.filter(contract=contract, card_kind=card_kind).values_list(
        "unit_price", flat=True
    )
    return {price for price in {contract.price_of(card_kind), *ordered.distinct()} if price > 0}


def total(statement: Statement) -> Decimal:
    """Sum a statement's lines in yuan."""
    found = StatementLine.objects.filter(statement=statement).aggregate(
        amount=Sum("amount", output_field=AMOUNT)
    )
    return found["amount"] or Decimal("0.00")
