"""Background work of sealing anew; the handler runs inside its task's transaction (D7)."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from orders.models import Package
from orders.services import rekeying
from portal.models import Task


def rekey_part(task: Task) -> None:
    """Seal one part of a package's rows anew."""
    package = Package.objects.get(pk=task.subject_id)
    rekeying.rekey_part(package, task.part)
    transaction.on_commit(partial(rekeying.finish_rekey, package, actor=task.requested_by), robust=True)
