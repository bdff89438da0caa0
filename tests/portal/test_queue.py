"""Tasks: the row is the truth; done once, kept when the worker dies, given up after five tries (D7)."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisConnectionError

from portal import queue
from portal.audit import unit_of_work
from portal.choices import TaskStatus
from portal.core.errors import InputRefusedError, PermissionRefusedError, TransitionRefusedError
from portal.models import AuditEntry, Organisation, Task, User
from portal.queue import MAX_ATTEMPTS, progress, retry_failed, run_task, schedule, sweep

pytestmark = pytest.mark.django_db(transaction=True)
HERE = "tests.portal.test_queue"
calls: list[int] = []
entered, proceed = threading.Event(), threading.Event()


def note(task: Task) -> None:
    """Write something and an event, as handlers do."""
    calls.append(task.part)
    Organisation.objects.create(kind="bank", code=f"T{task.part}", name="T", short_name="T")
    with unit_of_work(task.requested_by) as work:
        work.record("noted", part=task.part)


def refuse(task: Task) -> None:
    note(task)
    raise InputRefusedError("这不行", got="440601199001011234")


def crash(task: Task) -> None:
    note(task)
    raise RuntimeError("张三 440601199001011234")


def crash_after_commit(task: Task) -> None:
    note(task)

    def later() -> None:
        raise InputRefusedError("too late")

    transaction.on_commit(later)


def wait(task: Task) -> None:
    note(task)
    entered.set()
    assert proceed.wait(20)


@pytest.fixture(autouse=True)
def no_workers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Remember what would have been enqueued."""
    woken: list[int] = []
    monkeypatch.setattr(queue, "wake", lambda tasks: woken.extend(task.pk for task in tasks))
    calls.clear()
    entered.clear()
    proceed.clear()
    return woken


@pytest.fixture
def subject() -> Organisation:
    return Organisation.objects.create(kind="purchaser", code="HRSS", name="H", short_name="H")


@pytest.fixture
def clerk(subject: Organisation) -> User:
    return User.objects.create(username="clerk", organisation=subject)


def task_of(handler: str, subject: Organisation, actor: User | None = None) -> Task:
    return schedule(f"{HERE}.{handler}", subject, actor=actor)[0]


class TestSchedule:
    def test_once_for_each_part_and_woken_after_the_commit(
        self, subject: Organisation, no_workers: list[int]
    ) -> None:
        with transaction.atomic():
            tasks = schedule(f"{HERE}.note", subject, actor=None, parts=range(3))
            assert no_workers == []
        assert sorted(no_workers) == sorted(task.pk for task in tasks)
        schedule(f"{HERE}.note", subject, actor=None, parts=range(4))
        assert sorted(Task.objects.values_list("part", flat=True)) == [0, 1, 2, 3]

    def test_a_rolled_back_wish_wakes_nobody(self, subject: Organisation, no_workers: list[int]) -> None:
        def rolled_back() -> None:
            with transaction.atomic():
                schedule(f"{HERE}.note", subject, actor=None)
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            rolled_back()
        assert (no_workers, Task.objects.count()) == ([], 0)

    def test_done_parts_are_not_done_again(self, subject: Organisation, no_workers: list[int]) -> None:
        run_task(task_of("note", subject).pk)
        no_workers.clear()
        assert schedule(f"{HERE}.note", subject, actor=None) == []
        assert no_workers == []

    def test_an_unreachable_redis_is_only_logged(
        self, subject: Organisation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def unreachable(name: str) -> Any:
            raise RedisConnectionError("secret address")

        monkeypatch.undo()
        monkeypatch.setattr(queue.django_rq, "get_queue", unreachable)
        with caplog.at_level(logging.WARNING):
            task = task_of("note", subject)
        assert task.status == TaskStatus.QUEUED
        assert "sweeper" in caplog.text
        assert "secret" not in caplog.text


class TestRunning:
    def test_work_entry_and_done_commit_together(self, subject: Organisation, clerk: User) -> None:
        task = task_of("note", subject, clerk)
        assert run_task(task.pk) is True
        task.refresh_from_db()
        assert (task.status, task.attempts, task.error_code) == (TaskStatus.DONE, 1, "")
        assert task.finished_at is not None
        assert AuditEntry.objects.values_list("action", "actor_name").get() == ("noted", "clerk")

    def test_a_second_wake_up_does_nothing(self, subject: Organisation) -> None:
        task = task_of("note", subject)
        assert [run_task(task.pk), run_task(task.pk), run_task(999_999)] == [True, False, False]
        assert calls == [0]

    def test_a_refusal_fails_at_once_and_quotes_nobody(self, subject: Organisation) -> None:
        """R-45: what `got` says may be a person's number; row and audit keep code and message only."""
        task = task_of("refuse", subject)
        assert run_task(task.pk) is False
        task.refresh_from_db()
        assert (task.status, task.error_code, task.error_text) == (
            TaskStatus.FAILED,
            "input_refused",
            "这不行",
        )
        assert not Organisation.objects.filter(code="T0").exists()
        assert list(AuditEntry.objects.values_list("action", "result")) == [("task.failed", "failed")]

    def test_a_crash_is_tried_again_and_then_given_up(
        self, subject: Organisation, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = task_of("crash", subject)
        for attempt in range(1, MAX_ATTEMPTS):
            assert run_task(task.pk) is False
            task.refresh_from_db()
            assert (task.status, task.attempts) == (TaskStatus.QUEUED, attempt)
        run_task(task.pk)
        task.refresh_from_db()
        assert (task.status, task.error_code) == (TaskStatus.FAILED, "RuntimeError")
        assert task.error_text.startswith("RuntimeError at test_queue.py:")
        assert "440601" not in task.error_text + caplog.text
        assert "张三" not in caplog.text
        assert Organisation.objects.filter(code="T0").count() == 0
        assert AuditEntry.objects.filter(action="task.failed").count() == 1

    def test_a_task_that_kills_its_workers_is_given_up(self, subject: Organisation) -> None:
        """A killed worker leaves the attempt counted and nothing else."""
        task = task_of("note", subject)
        Task.objects.filter(pk=task.pk).update(attempts=MAX_ATTEMPTS)
        assert run_task(task.pk) is False
        task.refresh_from_db()
        assert (task.status, task.error_code, calls) == (TaskStatus.FAILED, "too_many_attempts", [])

    def test_an_error_after_the_commit_leaves_the_task_done(self, subject: Organisation) -> None:
        task = task_of("crash_after_commit", subject)
        run_task(task.pk)
        task.refresh_from_db()
        assert (task.status, task.error_code) == (TaskStatus.DONE, "")
        assert Organisation.objects.filter(code="T0").count() == 1
        assert list(AuditEntry.objects.values_list("action", flat=True)) == ["noted"]

    def test_two_workers_never_run_the_same_task(self, subject: Organisation) -> None:
        task = task_of("wait", subject)

        def work() -> None:
            run_task(task.pk)
            connections.close_all()

        first = threading.Thread(target=work)
        first.start()
        assert entered.wait(20)
        assert run_task(task.pk) is False
        Task.objects.filter(pk=task.pk).exclude(status=TaskStatus.QUEUED).exists()
        proceed.set()
        first.join()
        task.refresh_from_db()
        assert (task.status, task.attempts, calls) == (TaskStatus.DONE, 1, [0])

    def test_a_wake_up_while_another_worker_begins_costs_no_attempt(self, subject: Organisation) -> None:
        """Between counting and locking stands the worker's own lock: five wake-ups are not five tries."""
        task = task_of("note", subject)
        own, taken = connection.copy(), []
        with own.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", [queue.TASK_LOCK, task.pk])
            taken = [run_task(task.pk) for _ in range(MAX_ATTEMPTS + 1)]
            # Closing alone is not waited for: the server lets go when it notices.
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [queue.TASK_LOCK, task.pk])
        own.close()
        task.refresh_from_db()
        assert (any(taken), task.attempts, task.status) == (False, 0, TaskStatus.QUEUED)
        assert run_task(task.pk) is True


class TestSweep:
    def test_wakes_only_what_waits_too_long_and_nobody_holds(
        self, subject: Organisation, no_workers: list[int]
    ) -> None:
        tasks = schedule(f"{HERE}.note", subject, actor=None, parts=range(3))
        old = timezone.now() - timedelta(minutes=1)
        Task.objects.filter(part__in=[0, 1]).update(enqueued_at=old)
        run_task(next(task.pk for task in tasks if task.part == 1))
        no_workers.clear()
        assert sweep() == 1
        assert no_workers == [next(task.pk for task in tasks if task.part == 0)]
        assert sweep() == 0

    def test_a_running_task_is_left_alone(self, subject: Organisation) -> None:
        task = task_of("wait", subject)
        Task.objects.update(enqueued_at=timezone.now() - timedelta(minutes=1))

        def work() -> None:
            run_task(task.pk)
            connections.close_all()

        running = threading.Thread(target=work)
        running.start()
        assert entered.wait(20)
        assert sweep() == 0
        proceed.set()
        running.join()


class TestRetry:
    @pytest.fixture
    def administrator(self, subject: Organisation) -> User:
        return User.objects.create(username="admin", organisation=subject, roles=["system_administrator"])

    def test_a_failed_task_gets_another_five_tries(
        self, subject: Organisation, administrator: User, no_workers: list[int]
    ) -> None:
        task = task_of("refuse", subject)
        run_task(task.pk)
        no_workers.clear()
        fresh = retry_failed(task, actor=administrator)
        assert (fresh.status, fresh.attempts, no_workers) == (TaskStatus.QUEUED, 0, [task.pk])
        assert AuditEntry.objects.latest("position").action == "task.retried"

    def test_only_failed_ones_and_only_by_who_may(
        self, subject: Organisation, administrator: User, clerk: User
    ) -> None:
        task = task_of("note", subject)
        with pytest.raises(TransitionRefusedError):
            retry_failed(task, actor=administrator)
        with pytest.raises(PermissionRefusedError):
            retry_failed(task, actor=clerk)
        task.refresh_from_db()
        assert (task.status, AuditEntry.objects.count()) == (TaskStatus.QUEUED, 0)


def test_progress_counts_by_status(subject: Organisation) -> None:
    tasks = schedule(f"{HERE}.note", subject, actor=None, parts=range(3))
    run_task(tasks[0].pk)
    assert progress(subject) == {"done": 1, "queued": 2}
