"""Where cards come from: a person's hand at a real reader, or nowhere at a virtual one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from production.personalization.blank import chip_serial
from stations.transport.base import CardSilentError, HopperEmptyError, Transport
from stations.transport.virtual import VirtualTransport
from stations.virtual.card import SmartCard, blank_card
from stations.virtual.faults import parse_fault
from stations.virtual.samples import sample_card

VIRTUAL_NAME = "虚拟读写器"
MOST_CARDS = 200


class CardSource(Protocol):
    """A reader with whatever brings cards to it."""

    transport: Transport
    psam: Transport | None

    def readers(self) -> list[dict[str, Any]]:
        """Return name and card (none, present, mute) of each reader; raise a TransportError."""

    def present(self) -> bool:
        """Say whether a card is in the reader."""

    def connect(self) -> bytes:
        """Power the card up and return its ATR."""

    def release(self) -> None:
        """Power the card down and give it back."""

    def feed(self, serial: str) -> bool:
        """Bring the blank with this serial; False where a person must do it."""


class RealReader:
    """A reader behind pcscd; the driver is loaded here and nowhere else."""

    def __init__(self, name: str, psam_name: str) -> None:
        from stations.transport.pcsc import PcscTransport  # noqa: PLC0415 - a machine without it says so

        self._reader = PcscTransport(name)
        self._name, self._psam_name = name, psam_name
        self._mute = False
        self.transport: Transport = self._reader
        self.psam: Transport | None = PcscTransport(psam_name) if psam_name else None

    def readers(self) -> list[dict[str, Any]]:
        """Ask pcscd for its readers."""
        found = self._reader.readers()
        wanted = {self._name} if self._name in found else {name for name in found if self._name in name}
        return [
            {"name": name[:100], "card": self._card(name, there), "used": name in wanted}
            for name, there in found.items()
        ]

    def _card(self, name: str, there: bool) -> str:
        mute = self._mute and not (self._psam_name and self._psam_name in name)
        return ("mute" if mute else "present") if there else "none"

    def present(self) -> bool:
        """Ask pcscd for the card; out of the reader it is no longer mute."""
        there = self._reader.card_present()
        self._mute = self._mute and there
        return there

    def connect(self) -> bytes:
        """Power the card up and remember whether it answered."""
        try:
            atr = self._reader.connect()
        except CardSilentError:
            self._mute = True
            raise
        self._mute = False
        return atr

    def release(self) -> None:
        """Power the card down and give the reader back to others."""
        self._reader.disconnect()

    def feed(self, serial: str) -> bool:
        """Leave it to the person at the counter."""
        return False


class VirtualFeeder:
    """A virtual reader: the test card lies in it, a blank comes when one is asked for, and goes afterwards.

    Cards are remembered until the process ends, so that one that was left unknown can be read again.
    """

    psam: Transport | None = None

    def __init__(self, hopper: int = 0, faults: Sequence[str] = ()) -> None:
        """`hopper`: how many blanks it holds, 0 for any number; `faults`: `SERIAL:FAULT` each."""
        self._sample = sample_card()
        self._hopper = hopper
        self._faults = [fault.partition(":") for fault in faults]
        self._drawn = 0
        self._cards: dict[str, SmartCard] = {}
        self._reader = VirtualTransport(self._sample)
        self.transport: Transport = self._reader

    def readers(self) -> list[dict[str, Any]]:
        """Return the one reader, which is never empty."""
        return [{"name": VIRTUAL_NAME, "card": "present"}]

    def present(self) -> bool:
        """Say that there is a card."""
        return True

    def connect(self) -> bytes:
        """Power the card up."""
        return self._reader.connect()

    def release(self) -> None:
        """Put the test card back."""
        self._reader.disconnect()
        self._reader.insert(self._sample)

    def feed(self, serial: str) -> bool:
        """Put the card with this serial in, a new blank the first time; raise HopperEmptyError."""
        if serial not in self._cards:
            if 0 < self._hopper <= self._drawn:
                raise HopperEmptyError("虚拟卡仓已空")
            self._drawn += 1
            if len(self._cards) >= MOST_CARDS:
                del self._cards[next(iter(self._cards))]
            faults = [parse_fault(fault) for whose, _, fault in self._faults if whose == serial]
            self._cards[serial] = blank_card(chip_serial(serial), faults=faults)
        self._reader.insert(self._cards[serial])
        return True
