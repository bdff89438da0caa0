"""A virtual social security card that answers T=0 like a real one (docs/developers/virtual-card.md)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from stations.transport.base import Response
from stations.virtual.chip import TRANSPORT_PLACE, Chip
from stations.virtual.faults import CardPulled, Fault, Faults
from stations.virtual.files import Files
from stations.virtual.keys import Keys, Randomness
from stations.virtual.layout import LAYOUTS, MAC_KEY, CardLayout
from stations.virtual.memory import CARD_BLOCKED, Memory, PaymentMemory, StoredKey, blank_files
from stations.virtual.payment import PAYMENT, PPSE, PSE, Payment, issuer_keys, key_data
from stations.virtual.pins import Blocking, Pins
from stations.virtual.selection import Selection
from stations.virtual.tpdu import Command, Entry, Flow, Port, Refusal, Table

PUBLIC_TEST_KEY = bytes(range(0x40, 0x50))
HISTORY = bytes.fromhex("8153534320")
INTERFACE = bytes.fromhex("3B6D0000")
TRANSPORT_TRIES = 15
PLAIN, SECURED = frozenset({0x00}), frozenset({0x04, 0x84})
SELECTING = 0xA4


class SmartCard(Protocol):
    """What a reader does with a card."""

    atr: bytes

    def power_on(self) -> bytes:
        """Forget everything volatile and return the ATR."""

    def process(self, tpdu: bytes) -> Response:
        """Answer one command; raise CardPulled or CardSilent."""


class VirtualCard:
    """One card: its memory, the commands of its applications, its faults."""

    def __init__(
        self,
        memory: Memory,
        *,
        layout: CardLayout | None = None,
        faults: Iterable[Fault] = (),
        keep: Callable[[bytes], None] | None = None,
        randomness: Randomness = secrets.token_bytes,
    ) -> None:
        """Take a memory; `keep` receives its image after each command that changed it."""
        self.memory = memory
        self.atr = INTERFACE + HISTORY + memory.serial
        self.faults = Faults(faults)
        self._keep = keep
        self._chip = Chip(layout or LAYOUTS[memory.profile], memory)
        self._port = Port()
        payment = Payment(self._chip, randomness)
        selection = Selection(self._chip, payment)
        keys = Keys(self._chip, randomness)
        self._social = _social_table(
            selection, Files(self._chip), keys, Pins(self._chip), Blocking(self._chip)
        )
        self._payment = _payment_table(selection, payment, keys)
        self._directory = _directory_table(selection, payment)
        self.power_on()

    def power_on(self) -> bytes:
        """Forget what is selected, proven and waiting."""
        self._chip.reset()
        self._port.reset()
        self.faults.power_on()
        return self.atr

    def process(self, tpdu: bytes) -> Response:
        """Answer one command; its changes are whole or not made at all, except under a memory fault."""
        if self.faults.slow_ms:
            time.sleep(self.faults.slow_ms / 1000)
        fault = self.faults.next()
        if fault is not None and fault.kind == "status":
            return Response(b"", fault.sw)
        self._chip.tearing = fault is not None and fault.kind == "memory"
        answer = self._answer(tpdu)
        if self._chip.changed and self._keep is not None:
            self._keep(self.memory.to_bytes())
        self._chip.changed = False
        if fault is not None and fault.kind == "pulled-after":
            raise CardPulled
        return answer

    def _answer(self, tpdu: bytes) -> Response:
        try:
            command = Command.parse(tpdu)
        except Refusal as refusal:
            return Response(b"", refusal.sw)
        try:
            return Response(*self._port.serve(command, self._table(command)))
        except Refusal as refusal:
            if _uses_freshness(command) and refusal.sw >> 8 != 0x6C:
                self._chip.session.freshness = b""
            return Response(b"", refusal.sw)

    def _table(self, command: Command) -> Table:
        """Return the commands of the selected application."""
        if self.memory.state == CARD_BLOCKED and command.ins not in (SELECTING, 0xC0):
            raise Refusal(0x9303)
        name = self._chip.session.application.name
        if name == PAYMENT:
            return self._payment
        return self._directory if name in (PSE, PPSE) else self._social


def blank_card(
    serial: bytes,
    *,
    profile: str = "sssc-3.0-sm4",
    transport_key: bytes = PUBLIC_TEST_KEY,
    kmc: bytes = PUBLIC_TEST_KEY,
    faults: Iterable[Fault] = (),
    keep: Callable[[bytes], None] | None = None,
) -> VirtualCard:
    """Return a card as its maker delivers it: files with padding, the transport key, no other key, no PIN."""
    return VirtualCard(blank_memory(serial, profile, transport_key, kmc), faults=faults, keep=keep)


def blank_memory(serial: bytes, profile: str, transport_key: bytes, kmc: bytes) -> Memory:
    """Return the memory of a blank; the serial is 8 bytes and the card factor."""
    if len(serial) != 8:
        raise ValueError("a serial has 8 bytes")
    layout = LAYOUTS[profile]
    payment = PaymentMemory(*issuer_keys(kmc, key_data(serial)))
    key = StoredKey(MAC_KEY, layout.algorithm, 1, TRANSPORT_TRIES, TRANSPORT_TRIES, transport_key)
    return Memory(profile, serial, payment, keys={TRANSPORT_PLACE: key}, files=blank_files(layout))


def _uses_freshness(command: Command) -> bool:
    return command.secured or (command.cla, command.ins) == (0x00, 0x82)


def _social_table(selection: Selection, files: Files, keys: Keys, pins: Pins, blocking: Blocking) -> Table:
    either = PLAIN | SECURED
    return {
        0xA4: Entry(PLAIN, Flow.BOTH, selection.select),
        0xB2: Entry(PLAIN, Flow.OUT, files.read_record),
        0xB0: Entry(PLAIN, Flow.OUT_PARTIAL, files.read_binary),
        0xDC: Entry(either, Flow.IN, files.update_record),
        0xD6: Entry(either, Flow.IN, files.update_binary),
        0xE2: Entry(either, Flow.IN, files.append_record),
        0x84: Entry(PLAIN, Flow.OUT, keys.get_challenge),
        0x88: Entry(PLAIN, Flow.BOTH, keys.internal_authenticate),
        0x82: Entry(PLAIN, Flow.IN, keys.external_authenticate),
        0xD4: Entry(frozenset({0x80, 0x84}), Flow.IN, keys.write_key),
        0x20: Entry(PLAIN, Flow.IN, pins.verify),
        0x5E: Entry(frozenset({0x80}), Flow.IN, pins.change),
        0x24: Entry(frozenset({0x84}), Flow.IN, pins.unblock),
        0x1E: Entry(frozenset({0x84}), Flow.IN, blocking.block_application),
        0x18: Entry(frozenset({0x84}), Flow.IN, blocking.unblock_application),
        0x16: Entry(frozenset({0x84}), Flow.IN, blocking.block_card),
    }


def _payment_table(selection: Selection, payment: Payment, keys: Keys) -> Table:
    return {
        0xA4: Entry(PLAIN, Flow.BOTH, selection.select),
        0xB2: Entry(PLAIN, Flow.OUT, payment.read_record),
        0x84: Entry(PLAIN, Flow.OUT, keys.get_challenge),
        0xA8: Entry(frozenset({0x80}), Flow.BOTH, payment.processing_options),
        0x50: Entry(frozenset({0x80}), Flow.BOTH, payment.initialize_update),
        0x82: Entry(frozenset({0x84}), Flow.IN, payment.external_authenticate),
        0xE2: Entry(frozenset({0x80, 0x84}), Flow.IN, payment.store_data),
    }


def _directory_table(selection: Selection, payment: Payment) -> Table:
    return {
        0xA4: Entry(PLAIN, Flow.BOTH, selection.select),
        0xB2: Entry(PLAIN, Flow.OUT, payment.read_record),
    }
