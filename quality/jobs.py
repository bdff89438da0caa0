"""Background work of quality: read-backs, and bringing inspected batches on."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from portal.models import Task, User
from production.choices import BatchStatus
from production.models import Batch, MachineFile
from quality.services.inspection import conclude_pass, inspect_run


def inspect_cards(task: Task) -> None:
    """Read back the cards of one run."""
    run = MachineFile.objects.select_related("batch__order__contract").get(pk=task.subject_id)
    inspect_run(run, actor=task.requested_by or User.objects.system())
    transaction.on_commit(partial(conclude_pass, run.batch_id), robust=True)


def advance_all() -> int:
    """Conclude every pass whose runs are all read back; for the scheduler."""
    waiting = Batch.objects.filter(status=BatchStatus.INSPECTING).order_by("id").values_list("id", flat=True)
    return sum(conclude_pass(batch_id) is not None for batch_id in waiting)
