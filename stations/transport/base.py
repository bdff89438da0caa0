"""What every way to a card has in common: one exchange at a time, and T=0's two follow-ups (card.md §2)."""

from __future__ import annotations

import time
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


class ReaderGoneError(NoReaderError):
    """The reader was there and was unplugged."""

    code = "reader_gone"


class ReaderBusyError(TransportError):
    """Another program holds the reader."""

    code = "reader_busy"


class AmbiguousReaderError(TransportError):
    """Several readers could be meant, or several hold a card."""

    code = "reader_ambiguous"


class ReaderServiceError(TransportError):
    """The service that drives the readers (pcscd) is not running, or was started anew."""

    code = "reader_service_down"


class NoCardError(TransportError):
    """The reader is empty."""

    code = "no_card"


class HopperEmptyError(NoCardError):
    """The feeder has no card left."""

    code = "hopper_empty"


class CardPulledError(NoCardError):
    """The card was pulled in the middle: what the last command did is not known."""

    code = "card_pulled"


class CardResetError(TransportError):
    """Another program reset the card: what was proven to it is forgotten, the command was not carried out."""

    code = "card_reset"


class CardSilentError(TransportError):
    """The card does not answer: upside down, broken, or slower than the time limit."""

    code = "card_silent"


class ProtocolError(TransportError):
    """The card breaks the rules of T=0."""

    code = "protocol_broken"


@dataclass(frozen=True, slots=True)
class Response:
    """A card's answer: its data, which may be personal, the status word, and the time it took."""

    data: bytes = field(repr=False)
    sw: int
    microseconds: int = field(default=0, compare=False)


class Transport(ABC):
    """One card in one reader."""

    @abstractmethod
    def connect(self) -> bytes:
        """Power the card up, keep others off it and return its ATR; raise a TransportError."""

    @abstractmethod
    def disconnect(self) -> None:
        """Power the card down; doing it twice is no error."""

    @abstractmethod
    def card_present(self) -> bool:
        """Say whether there is a card in the reader; raise NoReaderError or ReaderServiceError."""

    @abstractmethod
    def state(self) -> str:
        """Say in a few words, for people, what the reader is and whether a card is in it."""

    @abstractmethod
    def _send(self, tpdu: bytes) -> Response:
        """Send one TPDU as it is and return the answer; raise a TransportError."""

    def exchange(self, tpdu: bytes) -> Response:
        """Send one TPDU as it is and return the answer with the time it took."""
        begun = time.perf_counter_ns()
        answer = self._send(tpdu)
        return Response(answer.data, answer.sw, (time.perf_counter_ns() - begun) // 1000)

    def transmit(self, apdu: bytes) -> Response:
        """Send a command and fetch the whole answer: 6Cxx is sent again, 61xx is asked for."""
        answer = self._exact(apdu)
        data, spent = bytearray(answer.data), answer.microseconds
        for _ in range(MAX_FOLLOW_UPS):
            if answer.sw >> 8 != 0x61:
                return Response(bytes(data), answer.sw, spent)
            answer = self._exact(GET_RESPONSE + bytes((answer.sw & 0xFF,)))
            data += answer.data
            spent += answer.microseconds
        raise ProtocolError("卡片不断要求继续取数", got=f"{answer.sw:04X}")

    def _exact(self, tpdu: bytes) -> Response:
        """Send a TPDU, and once more with the length the card asks for."""
        answer = self.exchange(tpdu)
        if answer.sw >> 8 != 0x6C:
            return answer
        again = self.exchange(tpdu[:4] + bytes((answer.sw & 0xFF,)))
        return Response(again.data, again.sw, answer.microseconds + again.microseconds)

    def wait_for_card(self, seconds: float, *, present: bool = True, pause: float = 0.1) -> bool:
        """Ask again and again until a card is in the reader, or out of it; False when the time is up."""
        deadline = time.monotonic() + seconds
        while self.card_present() is not present:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
        return True
