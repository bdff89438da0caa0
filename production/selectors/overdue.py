"""Personal data that is still there past its limit (R-22)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Min
from django.utils import timezone

from orders.choices import RecordStatus
from orders.models import CardholderRecord
from portal.models import PendingRemoval
from production.choices import AlarmKind, BatchStatus
from production.models import Batch, DestructionCertificate


@dataclass(frozen=True, slots=True)
class Overdue:
    """One batch, certificate or package whose data should be gone since `due_at`."""

    kind: AlarmKind
    subject: str
    count: int
    due_at: datetime
    batch_id: int | None = None
    package_id: int | None = None


def overdue(now: datetime | None = None) -> list[Overdue]:
    """Return everything that is overdue, oldest kind by kind; empty when all is well."""
    moment = now or timezone.now()
    limit = timedelta(hours=settings.DESTRUCTION_LIMIT_HOURS)
    found = [_batches, _certificates, _removals]
    late = [each for kind in found for each in kind(moment - limit)]
    return [*late, *_packages(moment)]


def destruction_light(batch: Batch, now: datetime | None = None) -> str:
    """Return "amber" for a batch that is due, "red" for one past its limit, "" for any other."""
    if batch.status != BatchStatus.SIGNED or batch.signed_at is None:
        return ""
    limit = timedelta(hours=settings.DESTRUCTION_LIMIT_HOURS)
    return "red" if batch.signed_at < (now or timezone.now()) - limit else "amber"


def _batches(before: datetime) -> Iterator[Overdue]:
    late = Batch.objects.filter(status=BatchStatus.SIGNED, signed_at__lt=before).order_by("signed_at")
    for batch in late:
        assert batch.signed_at is not None
        yield Overdue(AlarmKind.BATCH, batch.number, batch.quantity, batch.signed_at, batch_id=batch.pk)


def _certificates(before: datetime) -> Iterator[Overdue]:
    late = DestructionCertificate.objects.filter(signature=b"", issued_at__lt=before).order_by("issued_at")
    for paper in late:
        count = paper.content.get("record_count", 0)
        yield Overdue(AlarmKind.CERTIFICATE, paper.number, count, paper.issued_at, batch_id=paper.batch_id)


def _removals(before: datetime) -> Iterator[Overdue]:
    late = PendingRemoval.objects.filter(requested_at__lt=before)
    facts = late.aggregate(count=Count("id"), since=Min("requested_at"))
    if facts["count"]:
        yield Overdue(AlarmKind.REMOVAL, "待清除的密钥与文件", facts["count"], facts["since"])


def _packages(now: datetime) -> Iterator[Overdue]:
    """Yield packages with records that found no account, correction or order within the retention period."""
    kept = timedelta(days=settings.RECORD_RETENTION_DAYS)
    waiting = CardholderRecord.objects.exclude(status=RecordStatus.ORDERED).filter(
        created_at__lt=now - kept, batch_item__isnull=True
    )
    late = waiting.values("package_id", "package__number").annotate(
        count=Count("id"), since=Min("created_at")
    )
    for row in late.order_by("package_id"):
        yield Overdue(
            AlarmKind.PACKAGE,
            row["package__number"],
            row["count"],
            row["since"] + kept,
            package_id=row["package_id"],
        )
