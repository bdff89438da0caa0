"""What every way to a card has in common: one exchange at a time, and T=0's two follow-ups (card.md §2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from portal.core.errors import PortalError

GET_RESPONSE = bytes.fromhex("00C00000")
MAX_FOLLOW_UPS = 64  # a card that announces more data for ever is broken


class TransportError(PortalError):
    """The card could not be reached; subclasses name the reason."""

    code = "transport_failed"


class NoReaderError(TransportError):
    """No reader, or not the one that was named."""

    code = "no_reader"


class NoCardError(TransportError):
    """The reader is empty, or the card was pulled."""

    code = "no_card"


class ProtocolError(TransportError):
    """The card breaks the rules of T=0."""

    code = "protocol_broken"


@dataclass(frozen=True, slots=True)
class Response:
    """A card's answer: its data, which may be personal, and the status word."""

    data: bytes = field(repr=False)
    sw: int


class Transport(ABC):
    """One card in one reader."""

    @abstractmethod
    def connect(self) -> bytes:
        """Power the card up and return its ATR; raise NoReaderError or NoCardError."""

    @abstractmethod
    def disconnect(self) -> None:
        """Power the card down; doing it twice is no error."""

    @abstractmethod
    def exchange(self, tpdu: bytes) -> Response:
        """Send one TPDU as it is and return the answer; raise NoCardError when the card is gone."""

    @abstractmethod
    def state(self) -> str:
        """Say in a few words, for people, what the reader is and whether a card is in it."""

    def transmit(self, apdu: bytes) -> Response:
        """Send a command and fetch the whole answer: 6Cxx is sent again, 61xx is asked for."""
        answer = self._exact(apdu)
        data = bytearray(answer.data)
        for _ in range(MAX_FOLLOW_UPS):
            if answer.sw >> 8 != 0x61:
                return Response(bytes(data), answer.sw)
            answer = self._exact(GET_RESPONSE + bytes((answer.sw & 0xFF,)))
            data += answer.data
        raise ProtocolError("卡片不断要求继续取数", got=f"{answer.sw:04X}")

    def _exact(self, tpdu: bytes) -> Response:
        """Send a TPDU, and once more with the length the card asks for."""
        answer = self.exchange(tpdu)
        if answer.sw >> 8 != 0x6C:
            return answer
        return self.exchange(tpdu[:4] + bytes((answer.sw & 0xFF,)))
