"""Where a card's time goes, by the agent's clock: in the reader, waiting for the portal, in the agent (R-24).

PC/SC tells nothing of what happens behind it, so the reader's time is card, reader and transport together.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Waited:
    """What an agent has waited for the portal so far: round trips, how long, and the portal's own part."""

    round_trips: int = 0
    microseconds: int = 0
    portal_microseconds: int = 0


@dataclass(slots=True)
class Stopwatch:
    """Runs from a card's power-up until its face is at hand; all in microseconds."""

    reader: int = 0
    _before: Waited = field(default_factory=Waited)
    _begun: float = 0.0
    _ended: dict[str, int] | None = None

    def start(self, connecting: int, waited: Waited) -> None:
        """Begin with a card that was powered up just now; what another card took before is forgotten."""
        self.reader, self._before, self._ended = connecting, replace(waited), None
        self._begun = time.perf_counter() - connecting / 1_000_000

    def stop(self, waited: Waited) -> None:
        """Keep the figures as they are: what comes later does not count."""
        self._ended = self.times(waited)

    def times(self, waited: Waited) -> dict[str, int] | None:
        """Return the figures so far, as the portal reads them; None before any card."""
        if self._ended is not None or not self._begun:
            return self._ended
        return {
            "total_us": round((time.perf_counter() - self._begun) * 1_000_000),
            "reader_us": self.reader,
            "waited_us": waited.microseconds - self._before.microseconds,
            "portal_us": waited.portal_microseconds - self._before.portal_microseconds,
            "round_trips": waited.round_trips - self._before.round_trips,
        }
