"""A reader inside this process, with a virtual card in it."""

from __future__ import annotations

from stations.transport.base import NoCardError, Response, Transport
from stations.virtual.card import VirtualCard


class VirtualTransport(Transport):
    """Answers from a VirtualCard; the card can be pulled and put in like a real one."""

    def __init__(self, card: VirtualCard | None) -> None:
        self._card = card
        self._powered = False

    def insert(self, card: VirtualCard) -> None:
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

    def exchange(self, tpdu: bytes) -> Response:
        """Hand the TPDU to the card."""
        if self._card is None or not self._powered:
            raise NoCardError("卡片已移除或未上电")
        return self._card.process(tpdu)

    def state(self) -> str:
        """Say that the reader is virtual."""
        return "虚拟读写器：有卡" if self._card is not None else "虚拟读写器：无卡"
