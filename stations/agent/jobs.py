"""What the portal may ask of an agent; nothing else is ever run (see stations/agent/worker.py)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portal.core.errors import PortalError
from production.personalization.profile import CardProfile
from stations.agent.client import PortalClient
from stations.agent.reading import read_card
from stations.queues import SELF_TEST
from stations.transport.base import Transport

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bench:
    """What jobs work with."""

    transport: Transport
    client: PortalClient
    profile: CardProfile


def self_test(bench: Bench, self_test_id: int) -> None:
    """Read the card in the reader and report the time it took, or why it could not be read."""
    result: dict[str, Any]
    try:
        reading = read_card(bench.transport, bench.profile)
    except PortalError as exc:
        result = {"passed": False, "error_code": exc.code, "error_text": str(exc)[:200]}
    else:
        result = {"passed": True, "read_milliseconds": reading.milliseconds}
    bench.client.report_self_test(self_test_id, result)
    logger.info("self-test %d: %s", self_test_id, result.get("error_code") or "passed")


ALLOWED: Mapping[str, Callable[[Bench, int], None]] = {SELF_TEST: self_test}
"""Every function an agent runs, by the name that its jobs carry."""
