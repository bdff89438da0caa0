"""What the portal may ask of an agent; nothing else is ever run (see stations/agent/worker.py)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from portal.core.errors import PortalError
from stations.agent.bench import Bench
from stations.agent.feeding import feed_batch
from stations.agent.issuing import NoPrinterError, make_card, print_again
from stations.agent.testcard import pictures
from stations.printing.following import PrintNote, print_face
from stations.printing.printer import JobState, PrinterError
from stations.queues import FEED, ISSUE, PRINT_AGAIN, PRINT_TEST, RESOLVE, SELF_TEST

logger = logging.getLogger(__name__)
MOST_MILLISECONDS = 600_000


class PrintFailedError(PrinterError):
    """The printer did not complete the test card."""

    code = "print_failed"


def self_test(bench: Bench, self_test_id: int) -> None:
    """Read the card in the reader and report the time it took, or why it could not be read."""
    _report(bench, self_test_id, bench.reader.read_milliseconds)


def print_test(bench: Bench, self_test_id: int) -> None:
    """Print the test card and report the time it took, or what the printer said."""
    _report(bench, self_test_id, lambda: _print(bench, self_test_id))


def issue(bench: Bench, issuance_id: int) -> None:
    """Make one card."""
    make_card(bench, issuance_id)


def resolve(bench: Bench, issuance_id: int) -> None:
    """Read a card again whose outcome is unknown: the same exchange, the portal asks other commands."""
    make_card(bench, issuance_id, prints=False)  # reading needs no printer; a face that has none waits


def print_written(bench: Bench, issuance_id: int) -> None:
    """Print a written card that no printer took yet."""
    print_again(bench, issuance_id)


def feed(bench: Bench, feeder_run_id: int) -> None:
    """Make a batch, card after card from the feeder."""
    feed_batch(bench, feeder_run_id)


def _report(bench: Bench, self_test_id: int, work: Callable[[], int]) -> None:
    result: dict[str, Any]
    try:
        result = {"passed": True, "read_milliseconds": min(work(), MOST_MILLISECONDS)}
    except PortalError as exc:
        result = {"passed": False, "error_code": exc.code, "error_text": str(exc)[:200]}
    bench.client.report_self_test(self_test_id, result)
    logger.info("self-test %d: %s", self_test_id, result.get("error_code") or "passed")


def _print(bench: Bench, number: int) -> int:
    if bench.printer is None:
        raise NoPrinterError("本制卡点没有打印机")
    begun = time.perf_counter()
    notes: list[PrintNote] = []
    faces = pictures(bench.sides)
    last = print_face(bench.printer, faces, f"test-{number}", notes.append, seconds=bench.print_seconds)
    if last.state != JobState.COMPLETED:
        raise PrintFailedError(
            "测试卡没有打印完", expected="completed", got=f"{last.state} {last.text}".strip()
        )
    return round((time.perf_counter() - begun) * 1000)


ALLOWED: Mapping[str, Callable[[Bench, int], None]] = {
    SELF_TEST: self_test,
    PRINT_TEST: print_test,
    ISSUE: issue,
    RESOLVE: resolve,
    PRINT_AGAIN: print_written,
    FEED: feed,
}
"""Every function an agent runs, by the name that its jobs carry."""
