"""Where the time of a card went: what the agent measured, kept beside the tender's limits (R-24)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from production.personalization.scripts import Phase
from stations.choices import StepKind
from stations.models import Issuance
from stations.services.memory import Memory


@dataclass(frozen=True, slots=True)
class AgentTimes:
    """What an agent says of a card so far, in microseconds by its own clock.

    `reader`: card, reader and transport, power-up included; `waited`: `round_trips` messages to the portal,
    of which the portal says that `portal` were its own; the rest of `total` is the agent's.
    """

    total: int
    reader: int
    waited: int
    portal: int
    round_trips: int

    def columns(self) -> dict[str, int]:
        """Return the issuance's columns."""
        return {
            "total_milliseconds": self.total // 1000,
            "reader_milliseconds": self.reader // 1000,
            "waited_milliseconds": self.waited // 1000,
            "portal_milliseconds": self.portal // 1000,
            "round_trips": self.round_trips,
        }


def count_commands(memory: Memory, microseconds: Sequence[int]) -> None:
    """Add what a script's commands took, those that read apart from all others."""
    for phase, spent in zip(memory.phases, microseconds, strict=False):
        if phase == Phase.READ:
            memory.read_microseconds += spent
        else:
            memory.write_microseconds += spent


def keep_times(issuance: Issuance, memory: Memory, times: AgentTimes | None) -> None:
    """Keep the times of a card that was written, or tried to; reading an unknown one again leaves them."""
    if memory.purpose == "resolve":
        return
    columns: dict[str, Any] = {
        "write_milliseconds": memory.write_microseconds // 1000,
        "read_milliseconds": memory.read_microseconds // 1000,
        **(times.columns() if times else _by_own_clock(issuance, memory)),
    }
    Issuance.objects.filter(pk=issuance.pk).update(**columns)


def _by_own_clock(issuance: Issuance, memory: Memory) -> dict[str, int]:
    """Return what the portal itself can tell of an agent that keeps no times."""
    reader = (memory.write_microseconds + memory.read_microseconds) // 1000
    begun = issuance.steps.filter(kind=StepKind.IDENTIFY).order_by("-id").first()
    if begun is None:
        return {"reader_milliseconds": reader}
    total = round((timezone.now() - begun.started_at).total_seconds() * 1000)
    return {"reader_milliseconds": reader, "total_milliseconds": total}
