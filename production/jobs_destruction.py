"""Background work of destruction."""

from __future__ import annotations

from portal.models import Task
from production.models import DestructionCertificate
from production.services.destruction_certifying import certify as sign_certificate


def certify(task: Task) -> None:
    """Sign a certificate whose destruction is through."""
    paper = DestructionCertificate.objects.get(pk=task.subject_id)
    sign_certificate(paper, actor=task.requested_by)
