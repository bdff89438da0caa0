"""The agent's worker runs what is on its list and nothing else (architecture §5)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from rq import Queue
from rq.job import Callback
from rq.serializers import JSONSerializer

from stations.agent.jobs import ALLOWED
from stations.agent.worker import StationWorker
from stations.queues import SELF_TEST, queue_name

called: list[int] = []


def forbidden(*given: Any) -> None:
    """Stand for any function an attacker would like to have run; RQ could import it."""
    called.append(1)


class TestWorker:
    @pytest.fixture
    def queue(self, redis_server: Any) -> Queue:
        called.clear()
        return Queue(queue_name("demo-1"), connection=redis_server, serializer=JSONSerializer)

    def work(self, queue: Queue) -> list[int]:
        seen: list[int] = []
        functions = dict.fromkeys(ALLOWED, seen.append)
        StationWorker(queue.name, queue.connection, functions).work(burst=True, logging_level="CRITICAL")
        return seen

    def test_a_listed_job_runs(self, queue: Queue) -> None:
        queue.enqueue(SELF_TEST, 7)
        assert self.work(queue) == [7]

    @pytest.mark.parametrize(
        ("name", "given", "named"),
        [
            (f"{__name__}.forbidden", (1,), {}),
            ("os.system", ("true",), {}),
            (SELF_TEST, (), {}),
            (SELF_TEST, (1, 2), {}),
            (SELF_TEST, ("1",), {}),
            (SELF_TEST, (True,), {}),
            (SELF_TEST, (0,), {}),
            (SELF_TEST, (1,), {"more": 1}),
        ],
    )
    def test_every_other_job_fails_without_being_run(
        self, queue: Queue, name: str, given: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        """Whoever writes to Redis must not choose what a counter machine runs."""
        queue.enqueue(name, args=given, kwargs=named)
        queue.enqueue(SELF_TEST, 7)
        assert self.work(queue) == [7]
        assert queue.failed_job_registry.count == 1
        assert called == []

    def test_callbacks_of_a_job_are_not_run_either(self, queue: Queue) -> None:
        callback = Callback(f"{__name__}.forbidden")
        queue.enqueue(SELF_TEST, 7, on_success=callback, on_failure=callback)
        queue.enqueue("os.system", "true", on_success=callback, on_failure=callback)
        assert self.work(queue) == [7]
        assert called == []

    def test_a_stop_that_was_asked_for_before_the_start_is_kept(self, queue: Queue) -> None:
        queue.enqueue(SELF_TEST, 7)
        worker = StationWorker(queue.name, queue.connection, {SELF_TEST: called.append})
        worker.stopping.set()
        worker.work(logging_level="CRITICAL")
        assert called == []

    def test_a_failing_function_is_logged_without_its_message(
        self, queue: Queue, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(_number: int) -> None:
            raise RuntimeError("440600190001010005")

        queue.enqueue(SELF_TEST, 7)
        worker = StationWorker(queue.name, queue.connection, {SELF_TEST: partial(broken)})
        worker.work(burst=True, logging_level="CRITICAL")
        assert [
            record.getMessage().partition("failed: ")[2]
            for record in caplog.records
            if "failed" in record.msg
        ] == ["RuntimeError"]
