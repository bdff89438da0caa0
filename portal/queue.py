"""Background work: a Task row is the truth, an RQ job carries its key and wakes a worker (D7).

A worker holds the task row's lock while it works and commits the work together with `done`. A killed
worker loses its connection, PostgreSQL rolls back and frees the lock, and the sweeper wakes another
worker: nothing is lost and nothing is done twice. The lock is the lease, so there is no time-out to tune.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import django_rq
from django.db import DatabaseError, connection, models, transaction
from django.db.models import Count, F
from django.utils import timezone
from django.utils.module_loading import import_string
from redis.exceptions import RedisError

from portal.audit import record_alone, unit_of_work
from portal.choices import TaskStatus
from portal.core.errors import PortalError, TransitionRefusedError
from portal.models import Task, User
from portal.roles import require

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
STALE_AFTER = timedelta(seconds=20)
RUN_TASK = "portal.queue.run_task"
TASK_LOCK = 0x5441534B  # "TASK"

Handler = Callable[[Task], None]


def schedule(
    handler: str,
    subject: models.Model,
    *,
    actor: User | None,
    parts: Iterable[int] = (0,),
    queue: str = "default",
) -> list[Task]:
    """Write one task for each part of the work on `subject` and wake workers after the commit.

    Args:
        handler: dotted path of a function that takes the Task; it runs inside the task's transaction.
        parts: numbers of the chunks; (handler, subject, part) is unique, so a second call adds nothing.

    """
    now = timezone.now()
    label = subject._meta.label_lower
    rows = [
        Task(
            handler=handler,
            subject_type=label,
            subject_id=subject.pk,
            part=part,
            queue=queue,
            requested_by=actor,
            enqueued_at=now,
        )
        for part in parts
    ]
    with transaction.atomic():
        Task.objects.bulk_create(rows, ignore_conflicts=True)
        found = Task.objects.filter(
            handler=handler, subject_type=label, subject_id=subject.pk, part__in=[row.part for row in rows]
        )
        tasks = list(found.filter(status=TaskStatus.QUEUED))
        transaction.on_commit(lambda: wake(tasks))
    return tasks


def wake(tasks: Iterable[Task]) -> None:
    """Enqueue an RQ job for each task; an unreachable Redis is only logged, the sweeper tries again."""
    by_queue: dict[str, list[Task]] = {}
    for task in tasks:
        by_queue.setdefault(task.queue, []).append(task)
    for name, waiting in by_queue.items():
        try:
            queue = django_rq.get_queue(name)
            queue.enqueue_many(
                [queue.prepare_data(RUN_TASK, args=(task.pk,), timeout=1800) for task in waiting]
            )
        except (RedisError, OSError) as exc:
            logger.warning(
                "queue %s cannot be reached (%s); the sweeper will wake the tasks", name, type(exc).__name__
            )


def run_task(task_id: int) -> bool:
    """Run one task if it still waits and nobody else runs it; say whether it was run."""
    with _only_here(task_id) as alone:
        return alone and _run_counted(task_id)


@contextmanager
def _only_here(task_id: int) -> Iterator[bool]:
    """Say whether no other worker is at this task, so that a second wake-up costs it no attempt."""
    key = [TASK_LOCK, task_id % 2**31]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", key)
        alone = bool(cursor.fetchone()[0])
    try:
        yield alone
    finally:
        # A lost connection has given the lock up already.
        with suppress(DatabaseError), connection.cursor() as cursor:
            if alone:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", key)


def _run_counted(task_id: int) -> bool:
    # Counted in its own transaction, so that a task which kills its worker does not come back for ever.
    counted = Task.objects.filter(pk=task_id, status=TaskStatus.QUEUED, attempts__lt=MAX_ATTEMPTS)
    try:
        with transaction.atomic():
            if (
                not Task.objects.select_for_update(skip_locked=True)
                .filter(pk=task_id, status="queued")
                .exists()
            ):
                return False
            if not counted.update(attempts=F("attempts") + 1, started_at=timezone.now()):
                _fail(task_id, "too_many_attempts", "")
                return False
        return _run_locked(task_id)
    except PortalError as exc:
        # The message alone: `got` may hold what a row said of a person.
        _fail(task_id, exc.code, exc.message[:500])
    except Exception as exc:  # noqa: BLE001 - whatever a handler raises, its task is kept and counted
        _retry_or_fail(task_id, exc)
        # The message of an unexpected error may quote personal data; its kind and place may be logged.
        logger.error("task %s failed: %s", task_id, _place(exc))  # noqa: TRY400
    return False


def _run_locked(task_id: int) -> bool:
    with transaction.atomic():
        task = (
            Task.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("requested_by__organisation")
            .filter(pk=task_id, status=TaskStatus.QUEUED)
            .first()
        )
        if task is None:
            return False
        handler: Handler = import_string(task.handler)
        with unit_of_work(task.requested_by):
            handler(task)
        Task.objects.filter(pk=task_id).update(
            status=TaskStatus.DONE, finished_at=timezone.now(), error_code="", error_text=""
        )
    return True


def _fail(task_id: int, code: str, text: str) -> None:
    task = Task.objects.select_related("requested_by").get(pk=task_id)
    # A task that is done stays done: the error came from what runs after its commit.
    failed = Task.objects.filter(pk=task_id, status=TaskStatus.QUEUED).update(
        status=TaskStatus.FAILED, error_code=code, error_text=text, finished_at=timezone.now()
    )
    if not failed:
        return
    record_alone("task.failed", actor=task.requested_by, subject=task, result="failed", code=code)


def _retry_or_fail(task_id: int, exc: Exception) -> None:
    waiting = Task.objects.filter(pk=task_id, status=TaskStatus.QUEUED)
    waiting.update(error_code=type(exc).__name__[:64], error_text=_place(exc)[:500])
    if waiting.filter(attempts__gte=MAX_ATTEMPTS).exists():
        _fail(task_id, type(exc).__name__[:64], _place(exc))


def _place(exc: BaseException) -> str:
    """Name an error's type and innermost place, never its message."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace else "?"
    return f"{type(exc).__name__} at {where}"


def sweep(stale_after: timedelta = STALE_AFTER) -> int:
    """Wake tasks that have waited too long and that no worker holds; return how many."""
    now = timezone.now()
    with transaction.atomic():
        stale = list(
            Task.objects.select_for_update(skip_locked=True)
            .filter(status=TaskStatus.QUEUED, enqueued_at__lt=now - stale_after)
            .order_by("enqueued_at")[:1000]
        )
        Task.objects.filter(pk__in=[task.pk for task in stale]).update(enqueued_at=now)
        transaction.on_commit(lambda: wake(stale))
    return len(stale)


def retry_failed(task: Task, *, actor: User) -> Task:
    """Put a failed task back into the queue after its cause was removed."""
    require(actor, "portal.retry_task")
    with unit_of_work(actor) as work:
        fresh = Task.objects.select_for_update().get(pk=task.pk)
        if fresh.status != TaskStatus.FAILED:
            raise TransitionRefusedError(
                "只有失败的任务可以重试",
                expected=str(TaskStatus.FAILED.label),
                got=str(fresh.get_status_display()),
            )
        fresh.status, fresh.attempts, fresh.enqueued_at = TaskStatus.QUEUED, 0, timezone.now()
        fresh.save(update_fields=["status", "attempts", "enqueued_at"])
        work.record("task.retried", fresh)
        transaction.on_commit(lambda: wake([fresh]))
    return fresh


def progress(subject: models.Model) -> dict[str, int]:
    """Count the subject's tasks by status."""
    rows: Any = (
        Task.objects.filter(subject_type=subject._meta.label_lower, subject_id=subject.pk)
        .values_list("status")
        .annotate(count=Count("id"))
        .order_by("status")
    )
    return dict(rows)
