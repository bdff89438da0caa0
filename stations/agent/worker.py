"""An RQ worker that runs the functions of one short list and trusts nothing else in a job.

Whoever can write to Redis could otherwise have any importable function run on a counter machine: as the
job itself, as its callback, or as a web hook. Jobs here are looked up in a table, never imported.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from portal.core.errors import PortalError

logger = logging.getLogger(__name__)

Functions = Mapping[str, Callable[[int], None]]


class JobRefusedError(PortalError):
    """A job that is not on the list, or not of its form: one positive number."""

    code = "job_refused"


class StationJob(Job):
    """A job whose name is a key into `functions`; it carries one number and nothing that runs by itself."""

    functions: Functions = {}

    def perform(self) -> None:
        """Run the listed function."""
        function = self.functions.get(str(self.func_name))
        if function is None or self.instance is not None or self.kwargs:
            raise JobRefusedError("不在允许之列的任务", got=str(self.func_name)[:80])
        if len(self.args) != 1 or type(self.args[0]) is not int or self.args[0] < 1:
            raise JobRefusedError("任务参数不合要求", expected="一个正整数")
        function(self.args[0])

    @property
    def success_callback(self) -> None:
        """Name none, whatever the job says."""

    @property
    def failure_callback(self) -> None:
        """Name none, whatever the job says."""

    @property
    def stopped_callback(self) -> None:
        """Name none, whatever the job says."""

    def send_webhooks(self, status: Any, *, exc_string: str | None = None) -> None:
        """Send none, whatever the job says."""


class StationWorker(SimpleWorker):
    """Serves one station's queue; `stopping` is set by the signal that ends it."""

    job_class = StationJob

    def __init__(self, queue_name: str, connection: Any, functions: Functions) -> None:
        queue = Queue(queue_name, connection=connection, serializer=JSONSerializer, job_class=StationJob)
        super().__init__([queue], connection=connection, serializer=JSONSerializer, log_job_description=False)
        self.functions = functions
        self.stopping = threading.Event()

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Give the job its table and run it."""
        assert isinstance(job, StationJob)
        job.functions = self.functions
        return bool(super().perform_job(job, queue, execution))

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Log kind and code only: a message could quote what a card holds."""
        error = exc_info[1]
        code = error.code if isinstance(error, PortalError) else type(error).__name__
        logger.error("job %s failed: %s", job.id, code)

    def check_for_suspension(self, burst: bool) -> None:
        """Stop when the signal came before this worker had its own handlers in place."""
        if self.stopping.is_set():
            raise StopRequested
        super().check_for_suspension(burst)

    def handle_warm_shutdown_request(self) -> None:
        """Remember that the stop was wanted."""
        self.stopping.set()
