"""VERIFY, CHANGE, UNBLOCK and RESET of the PIN; blocking of applications and card (virtual-card.md §5)."""

from __future__ import annotations

import re

from stations.virtual.chip import Chip
from stations.virtual.cipher import unseal
from stations.virtual.memory import CARD_BLOCKED, PIN_TRIES, StoredPin
from stations.virtual.selection import SOCIAL
from stations.virtual.tpdu import Command, Refusal

_PIN = re.compile(r"(?=.{4,12}$)[0-9]{4,12}f?")
UNBLOCK, RESET = 0x00, 0x01
SEPARATOR = b"\xff"


def is_pin(value: bytes) -> bool:
    """Say whether these are 4 to 12 digits in BCD, an odd number of them ended by F."""
    return bool(_PIN.fullmatch(value.hex()))


class Pins:
    """The commands about the card's PIN."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip

    def verify(self, command: Command) -> bytes:
        """Compare the PIN; without data say how many tries are left."""
        self._chip.refuse_blocked()
        if command.p1 or command.p2:
            raise Refusal(0x6A86)
        pin = self._pin()
        if not command.body:
            if self._chip.session.pin_verified:
                return b""
            raise Refusal(0x63C0 | pin.tries if pin.tries else 0x6983)
        self._compare(pin, command.body)
        return b""

    def change(self, command: Command) -> bytes:
        """Take a new PIN from who knows the old one: old, FF, new."""
        self._chip.refuse_blocked()
        if (command.p1, command.p2) != (0x01, 0x00):
            raise Refusal(0x6A86)
        pin = self._pin()
        old, separator, new = command.body.partition(SEPARATOR)
        if not separator or not is_pin(new):
            raise Refusal(0x6A80)
        self._compare(pin, old)
        self._set(new)
        return b""

    def unblock(self, command: Command) -> bytes:
        """Give the PIN its tries back (P2 00) or set it (P2 01), under PUK."""
        self._chip.refuse_blocked()
        if command.p1 or command.p2 not in (UNBLOCK, RESET):
            raise Refusal(0x6A86)
        if self._chip.session.application.key("PUK") is None:
            raise Refusal(0x6A88)
        sealed = self._chip.open_secured(command, "PUK")
        if command.p2 == RESET:
            self._reset(sealed)
        elif sealed:
            raise Refusal(0x6700)
        else:
            self._chip.begin_change()
            self._pin().tries = PIN_TRIES
        return b""

    def _reset(self, sealed: bytes) -> None:
        found = self._chip.stored("PUK")
        assert found is not None
        new = unseal(self._chip.layout.algorithm, found[1].value, sealed)
        if new is None or not is_pin(new):
            raise Refusal(0x6A80)
        self._set(new)
        self._chip.session.pin_verified = False

    def _pin(self) -> StoredPin:
        if self._chip.memory.pin is None or self._chip.session.application.name not in SOCIAL:
            raise Refusal(0x6A88)
        return self._chip.memory.pin

    def _compare(self, pin: StoredPin, given: bytes) -> None:
        if pin.tries == 0:
            raise Refusal(0x6983)
        self._chip.begin_change()
        self._chip.session.pin_verified = given == pin.value
        if not self._chip.session.pin_verified:
            pin.tries -= 1
            raise Refusal(0x63C0 | pin.tries)
        pin.tries = PIN_TRIES

    def _set(self, value: bytes) -> None:
        self._chip.begin_change()
        self._chip.memory.pin = StoredPin(value)


class Blocking:
    """Block and unblock under the application's own key."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip

    def block_application(self, command: Command) -> bytes:
        """Block the environment, DF03 or DF04 until it is unblocked."""
        self._chip.refuse_blocked()
        name = self._authorise(command)
        self._chip.begin_change()
        self._chip.memory.blocked.add(name)
        return b""

    def unblock_application(self, command: Command) -> bytes:
        """Lift the block."""
        if self._chip.memory.state == CARD_BLOCKED:
            raise Refusal(0x9303)
        name = self._authorise(command)
        self._chip.begin_change()
        self._chip.memory.blocked.discard(name)
        return b""

    def block_card(self, command: Command) -> bytes:
        """Block the card for ever."""
        self._chip.refuse_blocked()
        if self._chip.session.application.locked_by != "BK":
            raise Refusal(0x6A88)
        self._authorise(command)
        self._chip.begin_change()
        self._chip.memory.state = CARD_BLOCKED
        return b""

    def _authorise(self, command: Command) -> str:
        """Check the MAC under the application's lock key and return the application's name."""
        if command.p1 or command.p2:
            raise Refusal(0x6A86)
        application = self._chip.session.application
        if not application.locked_by:
            raise Refusal(0x6A88)
        if self._chip.open_secured(command, application.locked_by):
            raise Refusal(0x6700)
        return application.name
