"""Background work of destruction."""

from __future__ import annotations

from portal.models import Task
from production.models import Batch
from production.services import destruction


def certify(task: Task) -> None:
    """Issue the certificate of a destroyed batch."""
    destruction.certify(Batch.objects.get(pk=task.subject_id), actor=task.requested_by)
