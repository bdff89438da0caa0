"""Contracts with what is ordered under them, for lists: one query whatever the number of contracts."""

from __future__ import annotations

from decimal import Decimal

from django.db.models import (
    DecimalField,
    ExpressionWrapper,
    F,
    IntegerField,
    OuterRef,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.functions import Coalesce

from orders.choices import OrderStatus
from orders.models import Contract, Order
from orders.selectors.contracts import BILLED_KINDS


def with_use(contracts: QuerySet[Contract]) -> QuerySet[Contract]:
    """Annotate `used_quantity` (cards) and `used_amount` (yuan) as `contract_use` counts them (R-1)."""
    placed = (
        Order.objects.filter(contract=OuterRef("pk"), card_kind__in=BILLED_KINDS)
        .exclude(status=OrderStatus.CANCELLED)
        .order_by()
        .values("contract")
    )
    price = ExpressionWrapper(F("quantity") * F("unit_price"), output_field=DecimalField())
    return contracts.annotate(
        used_quantity=Coalesce(
            Subquery(placed.annotate(total=Sum("quantity")).values("total"), output_field=IntegerField()),
            Value(0),
        ),
        used_amount=Coalesce(
            Subquery(placed.annotate(total=Sum(price)).values("total"), output_field=DecimalField()),
            Value(Decimal("0.00")),
            output_field=DecimalField(),
        ),
    )
