"""Background work of production: writing machine files, the virtual line, and bringing batches on."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from portal.models import Task, User
from production.models import Batch, MachineFile
from production.selectors.batches import WORKING
from production.services.destruction_certifying import advance_certificates
from production.services.machine_files import write_run
from production.services.planning import sync_deadlines
from production.services.running import advance_batch, play_run


def prepare_run(task: Task) -> None:
    """Write the machine file of one run."""
    run = _run(task)
    write_run(run, actor=task.requested_by or User.objects.system())
    transaction.on_commit(partial(advance_batch, run.batch_id), robust=True)


def make_run(task: Task) -> None:
    """Let the virtual line make one run."""
    run = _run(task)
    play_run(run, actor=task.requested_by or User.objects.system())
    transaction.on_commit(partial(advance_batch, run.batch_id), robust=True)


def advance_all() -> int:
    """Bring on every batch whose runs are through, and take over moved due dates; for the scheduler."""
    waiting = Batch.objects.filter(status__in=WORKING).order_by("id").values_list("id", flat=True)
    advanced = sum(advance_batch(batch_id) is not None for batch_id in waiting)
    return advanced + sync_deadlines() + advance_certificates()


def _run(task: Task) -> MachineFile:
    return MachineFile.objects.select_related("batch__order__contract").get(pk=task.subject_id)
