"""What the scheduler does for packages, in case the worker that should have done it was killed."""

from __future__ import annotations

from datetime import timedelta

from django.core.files.storage import default_storage
from django.utils import timezone

from orders.choices import PackageStatus
from orders.models import Package
from orders.services.intake import advance_package
from orders.services.packages import PAYLOAD, discard_payload
from portal import files

STRAY_AFTER = timedelta(hours=6)


def advance_packages() -> int:
    """Close the validation of packages that have no chunk left; return how many."""
    ready = Package.objects.filter(status=PackageStatus.VALIDATING, chunks__isnull=True)
    return sum(advance_package(package).status == PackageStatus.VALIDATED for package in ready)


def clear_refused() -> int:
    """Destroy keys and files of refused packages that still have them; return how many (R-22)."""
    left = list(Package.objects.filter(status=PackageStatus.REFUSED).exclude(stored_name=""))
    for package in left:
        discard_payload(package)
    return len(left)


def clear_strays(older_than: timedelta = STRAY_AFTER) -> int:
    """Remove files of intakes that were killed before their row stood; return how many.

    The keys of such a file, without it, protect nothing.
    """
    limit = timezone.now() - older_than
    strays = [name for name in _payloads_without_row() if default_storage.get_modified_time(name) < limit]
    for name in strays:
        files.remove(name)
    return len(strays) + files.clear_spool(limit)


def _payloads_without_row() -> list[str]:
    if not default_storage.exists("packages"):
        return []
    folders = {int(name) for name in default_storage.listdir("packages")[0] if name.isdecimal()}
    known = set(Package.objects.filter(pk__in=folders).values_list("pk", flat=True))
    names = [f"packages/{pk}/{PAYLOAD}" for pk in sorted(folders - known)]
    return [name for name in names if default_storage.exists(name)]
