"""A reader inside this process, with a virtual card in it."""

from __future__ import annotations

from stations.transport.base import (
    CardPulledError,
    CardSilentError,
    NoCardError,
    Response,
    Transport,
)
from stations.virtual.card import SmartCard
from stations.virtual.faults import CardPulled, CardSilent


class VirtualTransport(Transport):
    """Answers from a virtual card or PSAM; it can be pulled and put in like a real one."""

    def __init__(self, card: SmartCard | None) -> None:
        self._card = card
        self._powered = False

    def insert(self, card: SmartCard) -> None:
        """Put a card in; it is not powered yet."""
        self._card, self._powered = card, False

    def remove(self) -> None:
        """Pull the card, also in the middle of something."""
        self._card, self._powered = None, False

    def connect(self) -> bytes:
        """Power the card up."""
        if self._card is None:
            raise NoCardError("读写器中没有卡片")
        self._powered = True
        return self._card.power_on()

    def disconnect(self) -> None:
        """Power the card down."""
        self._powered = False

    def card_present(self) -> bool:
        """Say whether a card was put in."""
        return self._card is not None

    def state(self) -> str:
        """Say that the reader is virtual."""
        return "虚拟读写器：有卡" if self._card is not None else "虚拟读写器：无卡"

    def _send(self, tpdu: bytes) -> Response:
        if self._card is None or not self._powered:
            raise NoCardError("卡片已移除或未上电")
        try:
            return self._card.process(tpdu)
        except CardPulled:
            self.remove()
            raise CardPulledError("卡片在操作中被取出") from None
        except CardSilent:
            raise CardSilentError("卡片没有应答") from None
