"""What a run of the demo came to: the counts that must balance."""

from __future__ import annotations

from django.db.models import Sum

from orders.choices import RecordStatus
from orders.models import CardholderRecord, Order, Package
from portal.management.demo.steps import Demo
from production.choices import MovementKind
from production.models import Card, StockMovement

BALANCES = (
    ("in", ("accepted", "returned"), "接收 = 接受 + 退回"),
    ("accepted", ("ordered_new", "waiting"), "接受 = 下单 + 未下单"),
    ("withdrawn", ("good", "rejected", "samples", "blanks_returned"), "领用 = 良品 + 废品 + 留样 + 退库"),
    ("good", ("signed",), "良品 = 签收"),
)


def counts(demo: Demo) -> dict[str, int]:
    """Count this run's records, blanks and cards, each from its own ledger."""
    assert demo.package is not None
    package = Package.objects.get(pk=demo.package.pk)
    waiting = CardholderRecord.objects.filter(
        package=package, status__in=[RecordStatus.ACCEPTED, RecordStatus.MATCHED]
    )
    withdrawn = StockMovement.objects.filter(batch__in=demo.batch_ids, kind=MovementKind.WITHDRAWAL)
    ordered = Order.objects.filter(pk__in=demo.order_ids).aggregate(n=Sum("quantity", default=0))["n"]
    return {
        "in": package.record_count or 0,
        "accepted": package.accepted_count or 0,
        "returned": package.returned_count or 0,
        "waiting": waiting.count(),
        "ordered": ordered,
        "ordered_new": ordered - demo.counts.get("left_before", 0),
        "withdrawn": withdrawn.aggregate(n=Sum("quantity", default=0))["n"],
        "signed": Card.objects.filter(batch__in=demo.batch_ids, accepted_on__isnull=False).count(),
        **demo.counts,
    }
