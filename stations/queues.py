"""What portal and agent must agree on: a station's queue and the functions its agent runs."""

from __future__ import annotations

SELF_TEST = "stations.agent.jobs.self_test"
ISSUE = "stations.agent.jobs.issue"
RESOLVE = "stations.agent.jobs.resolve"
PRINT_AGAIN = "stations.agent.jobs.print_written"
FEED = "stations.agent.jobs.feed"
PRINT_TEST = "stations.agent.jobs.print_test"


def queue_name(code: str) -> str:
    """Return the RQ queue of a station."""
    return f"station-{code}"
