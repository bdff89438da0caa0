"""What people see of packages and their records."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Sum

from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, Package
from orders.personal import number_index
from portal.models import User
from portal.scoping import ScopedQuerySet


@dataclass(frozen=True, slots=True)
class Validation:
    """How far a package's check is: records in all, checked so far, and what came of them."""

    records: int
    checked: int
    accepted: int
    returned: int

    @property
    def percent(self) -> int:
        """Return the share that is checked, whole percents rounded down."""
        return self.checked * 100 // self.records if self.records else 0


def validation_of(package: Package) -> Validation:
    """Count what is checked, from the chunks still waiting and the records written."""
    total = package.record_count or 0
    waiting = package.chunks.aggregate(rows=Sum("row_count"))["rows"] or 0
    newest = package.records.exclude(status=RecordStatus.SUPERSEDED)
    returned = newest.filter(status=RecordStatus.RETURNED).count()
    accepted = newest.count() - returned
    return Validation(total, total - waiting if package.validated_at is None else total, accepted, returned)


def problem_counts(package: Package) -> list[tuple[str, int]]:
    """Count the returned records by problem code, most frequent first."""
    counts: dict[str, int] = {}
    rows = package.records.filter(status=RecordStatus.RETURNED).values_list("problem_codes")
    for codes, count in rows.annotate(count=Count("id")).order_by():
        for code in codes:
            counts[code] = counts.get(code, 0) + count
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def records_of_number(number: str, user: User) -> ScopedQuerySet[CardholderRecord]:
    """Find a person's records by exact number through its blind index, as far as the user may see them."""
    found: ScopedQuerySet[CardholderRecord] = CardholderRecord.objects.visible_to(user).filter(
        number_index=number_index(number)
    )
    return found


def waiting_packages() -> int:
    """Count packages that are not checked yet."""
    return Package.objects.filter(status__in=[PackageStatus.RECEIVED, PackageStatus.VALIDATING]).count()
