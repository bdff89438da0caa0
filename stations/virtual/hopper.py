"""A feeder behind a real pcscd: a used card that is powered down makes way for the next (virtual-card.md §9).

pcscd powers a card down by itself when nobody talks to it; one that got no command yet stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from stations.virtual.card import SmartCard
from stations.virtual.vpcd import HOST, PORT, POWER_OFF, VpcdSlot

GAP_SECONDS = 0.7  # pcscd looks every 0.4 s whether a card is there; a gap that it misses is no other card


class HopperSlot(VpcdSlot):
    """A slot whose cards move on; the last one gone, it stays empty."""

    def __init__(self, cards: Sequence[SmartCard], *, port: int = PORT, host: str = HOST) -> None:
        super().__init__(cards[0], port=port, host=host)
        self._waiting = list(cards[1:])
        self._used = False

    def _answer(self, message: bytes) -> bytes:
        if message == bytes((POWER_OFF,)) and self._used:
            threading.Thread(target=self._move, daemon=True).start()
            self._used = False
        elif len(message) > 1:
            self._used = True
        return super()._answer(message)

    def _move(self) -> None:
        self.pull()
        if self._waiting:
            time.sleep(GAP_SECONDS)
            self.insert(self._waiting.pop(0))
