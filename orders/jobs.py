"""Background work of the orders app; each handler runs inside the transaction of its task."""

from __future__ import annotations

from django.core.cache import cache

from orders import jobs_accounts
from orders.models import Package
from orders.services import intake, rekeying, upkeep
from portal.models import Task

STRAYS_EVERY = 600  # seconds


def open_package(task: Task) -> None:
    """Look into the package that was received."""
    intake.open_package(Package.objects.get(pk=task.subject_id), actor=task.requested_by)


def check_chunk(task: Task) -> None:
    """Check one chunk of a package's rows."""
    intake.check_chunk(Package.objects.get(pk=task.subject_id), task.part)


def advance_all() -> None:
    """Move on every package and account file whose last part is done; clear what killed intakes left."""
    upkeep.advance_packages()
    upkeep.clear_refused()
    rekeying.advance_rekeys()
    if cache.add("orders.clear_strays", 1, STRAYS_EVERY):
        upkeep.clear_strays()
    jobs_accounts.advance()
