"""Background tasks that people repeat."""

from __future__ import annotations

from portal import queue
from portal.models import Task, User
from portal.roles import require


def retry_task(task: Task, *, actor: User) -> Task:
    """Put a failed task back into the queue after its cause was removed."""
    require(actor, "portal.retry_task")
    return queue.retry_failed(task, actor=actor)
