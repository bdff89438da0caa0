"""The running agent: heartbeats in a thread, jobs in the main one, an end in order."""

from __future__ import annotations

import logging
import signal
import threading
from functools import partial
from types import FrameType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from portal.core.errors import PortalError
from stations.agent.bench import Bench
from stations.agent.client import CredentialRefusedError, PortalClient
from stations.agent.feeding import feed_batch
from stations.agent.issuing import tell_of_the_past
from stations.agent.jobs import ALLOWED
from stations.agent.options import Options
from stations.agent.worker import StationWorker
from stations.printing.sides import checked_sides
from stations.queues import queue_name

logger = logging.getLogger(__name__)
REFUSED = 3
PAUSE_SECONDS = 3.0


class Agent:
    """One station at work."""

    def __init__(self, options: Options, bench: Bench, client: PortalClient) -> None:
        """`client` carries the heartbeats, beside the bench's own."""
        self._options = options
        self._bench = bench
        self._client = client
        self._stopping = bench.stopping
        self._trouble = ""
        self._lacking = ""

    def run(self) -> int:
        """Work until SIGTERM or SIGINT; return 0, or 3 when the portal refuses the credential at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            return self._serve_until_told()
        finally:
            self._close()  # the reader's process too: it lets no signal end it

    def _serve_until_told(self) -> int:
        if not self._introduce():
            return REFUSED
        beats = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        beats.start()
        self._tell_of_the_past()
        self._work()
        self._stopping.set()
        beats.join(PAUSE_SECONDS)
        logger.info("station %s stopped", self._options.code)
        return 0

    def _close(self) -> None:
        for part in (self._client, self._bench.client, self._bench.reader, self._bench.journal):
            part.close()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()

    def _introduce(self) -> bool:
        """Wait for the portal's first answer; a wrong credential is no matter of waiting."""
        while not self._stopping.is_set():
            try:
                self._heartbeat()
            except CredentialRefusedError as exc:
                logger.error("%s", exc)  # noqa: TRY400 - the message says it all
                return False
            except PortalError as exc:
                self._note(exc)
                self._stopping.wait(PAUSE_SECONDS)
            else:
                logger.info("station %s reports to %s", self._options.code, self._options.portal)
                return True
        return True

    def _tell_of_the_past(self) -> None:
        """Tell of a killed agent's issuance and go on with its batch; a portal that is away hears later."""
        if self._stopping.is_set():
            return  # told to stop before the portal ever answered: it is not waited for once more
        try:
            tell_of_the_past(self._bench)
            if run := self._bench.client.current_run():
                feed_batch(self._bench, run)
        except PortalError as exc:
            self._note(exc)

    def _heartbeat(self) -> None:
        report = self._bench.report()
        answer = self._client.heartbeat(report)
        if "sides" in answer:
            self._bench.sides = checked_sides(answer["sides"])
        self._warn(report)

    def _warn(self, report: dict[str, Any]) -> None:
        """Say once what a job would find missing, and again when it changed."""
        printer = self._bench.printer_trouble(report["printer"], report["printer_state"])
        told = "；".join(filter(None, (self._bench.reader.trouble, printer)))
        if told != self._lacking:
            logger.warning("station is not complete: %s", told) if told else logger.info(
                "station is complete"
            )
        self._lacking = told

    def _beat(self) -> None:
        while not self._stopping.wait(self._options.heartbeat_seconds):
            try:
                self._heartbeat()
            except PortalError as exc:
                self._note(exc)
            else:
                self._note(None)

    def _note(self, problem: PortalError | None) -> None:
        """Log trouble when it begins and when it ends, not at every beat between."""
        code = problem.code if problem else ""
        if problem is not None and code != self._trouble:
            logger.warning("%s", problem)
        if not code and self._trouble:
            logger.warning("portal answers again")
        self._trouble = code

    def _work(self) -> None:
        """Serve the queue; a Redis that goes away is waited for."""
        while not self._stopping.is_set():
            try:
                with Redis.from_url(self._options.redis_url) as connection:
                    self._serve(connection)
            except RedisError as exc:
                logger.warning("queue cannot be reached (%s)", type(exc).__name__)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            self._stopping.wait(PAUSE_SECONDS)

    def _serve(self, connection: Any) -> None:
        functions = {name: partial(function, self._bench) for name, function in ALLOWED.items()}
        worker = StationWorker(queue_name(self._options.code), connection, functions)
        worker.stopping = self._stopping
        worker.work(logging_level="WARNING")
