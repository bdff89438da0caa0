"""What may go wrong with a card, on purpose (virtual-card.md §9)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_FAULT = re.compile(
    r"(?P<kind>mute|pulled|pulled-after|memory|status)@(?P<at>[1-9][0-9]{0,4})(=(?P<sw>[0-9A-Fa-f]{4}))?"
)
_SLOW = re.compile(r"slow=([0-9]{1,5})")


class CardPulled(Exception):  # noqa: N818 - what happens, not a fault of the program
    """The card is no longer in the reader; whether the command was carried out nobody outside knows."""


class CardSilent(Exception):  # noqa: N818
    """The card does not answer."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, the command it hits (from 1 after power-on), and a status word."""

    kind: str
    at: int
    sw: int = 0


def parse_fault(text: str) -> Fault:
    """Read `pulled@12`, `status@3=6A82`, `slow=20`; raise ValueError for anything else."""
    if slow := _SLOW.fullmatch(text):
        return Fault("slow", int(slow[1]))
    found = _FAULT.fullmatch(text)
    if found is None or (found["kind"] == "status") != (found["sw"] is not None):
        raise ValueError(f"not a fault: {text[:40]!r}")
    return Fault(found["kind"], int(found["at"]), int(found["sw"] or "0", 16))


class Faults:
    """The faults of one card, each of which happens once; `slow` stays."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._waiting = list(faults)
        self._count = 0
        self._mute = False

    def add(self, fault: Fault) -> None:
        """Plan another one."""
        self._waiting.append(fault)

    def power_on(self) -> None:
        """Count commands from 1 again; a mute card answers again."""
        self._count, self._mute = 0, False

    @property
    def count(self) -> int:
        """Return how many commands the card took since it was powered on."""
        return self._count

    @property
    def slow_ms(self) -> int:
        """Return the milliseconds each command takes longer."""
        return sum(fault.at for fault in self._waiting if fault.kind == "slow")

    def next(self) -> Fault | None:
        """Count a command and return its fault; raise CardSilent or CardPulled before it is carried out."""
        self._count += 1
        hit = next((f for f in self._waiting if f.kind != "slow" and f.at == self._count), None)
        if hit is not None:
            self._waiting.remove(hit)
            self._mute = self._mute or hit.kind == "mute"
        if self._mute:
            raise CardSilent
        if hit is not None and hit.kind == "pulled":
            raise CardPulled
        return hit
