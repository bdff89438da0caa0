"""A plant line without a plant: it makes every card of a machine file, some of them wrong, bad or lost.

What becomes of a card follows from the line's seed and the card's serial alone, so a run that was killed and
started again reports the same, whatever the chunks. Real lines report the same records.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from portal.core.errors import InputRefusedError
from production.line.made import LINE_FAULTS, LOST_TRACK, LineOutcome, MadeCard
from production.personalization.chip import ChipContent
from production.personalization.machinefile import MachineCard

SECONDS_PER_CARD = 1.8  # a desktop of 2,000 cards an hour
_ALTERED_FILE = "SSSE/EF06"
_FAULTS = tuple(LINE_FAULTS)
# What a second look at a lost card finds: made well in most cases, else the chip is blank or mute.
_READABLE = 0.75


class LineRatesError(InputRefusedError):
    """Rates of the virtual line that are no probabilities."""

    code = "line_rates"


@dataclass(frozen=True, slots=True)
class LineRates:
    """Probabilities that a card is made wrong, made badly, or lost track of."""

    wrong: float
    bad: float
    unknown: float

    def __post_init__(self) -> None:
        if min(self.wrong, self.bad, self.unknown) < 0 or self.wrong + self.bad + self.unknown > 1:
            raise LineRatesError("生产线比率不合理", expected="各不小于 0，合计不大于 1", got=str(self))


class VirtualLine:
    """One line with its crew; `seed` is the batch's number."""

    def __init__(self, seed: str, rates: LineRates, *, machine: str, operator: str) -> None:
        self._seed, self._rates = seed, rates
        self._machine, self._operator = machine, operator

    def make(self, cards: Iterable[MachineCard], *, starts_at: dt.datetime) -> Iterator[MadeCard]:
        """Make the cards in turn and yield the report on each; memory: two cards."""
        previous: MachineCard | None = None
        begin = starts_at
        for card in cards:
            end = begin + dt.timedelta(seconds=SECONDS_PER_CARD)
            yield replace(self._made(card, previous), started_at=begin, finished_at=end)
            previous, begin = card, end

    def read_again(self, card: MachineCard) -> bytes:
        """Put a card the line lost into a reader: return its chip, or b"" when it stays mute or blank."""
        return card.chip if self._dice(card.blank_serial, "again").random() < _READABLE else b""

    def _made(self, card: MachineCard, previous: MachineCard | None) -> MadeCard:
        dice = self._dice(card.blank_serial, "make")
        throw, rates = dice.random(), self._rates
        if throw < rates.unknown:
            return self._report(card, LineOutcome.UNKNOWN, LOST_TRACK)
        if throw < rates.unknown + rates.bad:
            return self._report(card, LineOutcome.BAD, dice.choice(_FAULTS))
        if throw < rates.unknown + rates.bad + rates.wrong:
            return self._report(card, LineOutcome.MADE, readback=_wrong(card, previous, dice))
        return self._report(card, LineOutcome.MADE, readback=card.chip)

    def _report(
        self, card: MachineCard, outcome: LineOutcome, reason: str = "", readback: bytes = b""
    ) -> MadeCard:
        never = dt.datetime.min.replace(tzinfo=dt.UTC)
        made_by = (self._machine, self._operator)
        return MadeCard(card.sequence, card.blank_serial, outcome, reason, *made_by, never, never, readback)

    def _dice(self, serial: str, purpose: str) -> random.Random:
        return random.Random(f"{self._seed}|{serial}|{purpose}")


def _wrong(card: MachineCard, previous: MachineCard | None, dice: random.Random) -> bytes:
    """Return the neighbour's chip content, or the card's own with one digit of the number changed."""
    if previous is not None and dice.random() < 0.5:
        return previous.chip
    content = ChipContent.from_bytes(card.chip)
    altered = bytearray(content.files[_ALTERED_FILE])
    place = 2 + dice.randrange(6, 14)  # tag 08 and length, then the birth date inside the number
    altered[place] ^= 0x01
    return ChipContent(content.profile_code, {**content.files, _ALTERED_FILE: bytes(altered)}).to_bytes()
