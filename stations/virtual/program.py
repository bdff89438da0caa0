"""Cards for a running pcscd: options, control by lines, an end in order (virtual-card.md §9)."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from stations.virtual.card import PUBLIC_TEST_KEY, SmartCard, VirtualCard, blank_card
from stations.virtual.faults import Fault, parse_fault
from stations.virtual.hopper import HopperSlot
from stations.virtual.layout import LAYOUTS
from stations.virtual.memory import ImageError, Memory
from stations.virtual.psam import VirtualPsam
from stations.virtual.samples import (
    issued_card,
    locked_pin_card,
    other_city_card,
    sample_masters,
    used_card,
    wrong_type_card,
)
from stations.virtual.vpcd import HOST, PORT, VpcdSlot

WRONG_CARDS: dict[str, Callable[[bytes], SmartCard]] = {
    "wrong-type": lambda _serial: wrong_type_card(),
    "used": used_card,
    "test-key": blank_card,
    "other-city": other_city_card,
    "locked-pin": locked_pin_card,
}
KEY_DIGITS = 32
ENDING = (signal.SIGTERM, signal.SIGINT)


class OptionError(ValueError):
    """An option that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class CardMaker:
    """Makes the card of a slot as the options say."""

    options: argparse.Namespace
    faults: tuple[Fault, ...]
    wrong: str

    def make(self, number: int) -> SmartCard:
        """Return the card of slot `number`, from its image where there is one."""
        serial = bytes.fromhex(self.options.serial) if self.options.serial else secrets.token_bytes(8)
        serial = serial[:-1] + bytes(((serial[-1] + number) & 0xFF,))
        if self.wrong:
            return WRONG_CARDS[self.wrong](serial)
        image = self._image(number)
        if image is None:
            return self._new(serial)
        if image.exists():
            return _from_image(image, self.faults)
        fresh = self._new(serial)
        keep_image(image, fresh.memory.to_bytes())
        return _from_image(image, self.faults)

    def _new(self, serial: bytes) -> VirtualCard:
        if self.options.issued:
            return issued_card(serial, profile=self.options.profile, faults=self.faults)
        key = _transport_key(self.options.transport_key_file)
        return blank_card(serial, profile=self.options.profile, transport_key=key, faults=self.faults)

    def _image(self, number: int) -> Path | None:
        image: Path | None = self.options.image
        return image if image is None or number == 0 else image.with_name(f"{image.name}.{number}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--port", type=int, default=PORT, help="port of vpcd's first slot")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--slots", type=int, default=1, help="cards, on consecutive ports")
    parser.add_argument("--psam", action="store_true", help="and a PSAM with sample masters on the next port")
    parser.add_argument("--image", type=Path, help="file that keeps the card's memory")
    parser.add_argument("--profile", choices=sorted(LAYOUTS), default="sssc-3.0-sm4")
    parser.add_argument("--serial", default="", help="16 hexadecimal digits; random by default")
    parser.add_argument("--hopper", default="", metavar="SERIAL,...", help="blanks that come one by one")
    parser.add_argument("--transport-key-file", type=Path, help="32 hexadecimal digits; else the test key")
    parser.add_argument("--issued", action="store_true", help="a personalised card instead of a blank")
    parser.add_argument("--fault", action="append", default=[], metavar="FAULT", help="e.g. pulled@12, used")


def run(options: argparse.Namespace, *, orders: TextIO, replies: TextIO) -> int:
    """Serve until SIGTERM, SIGINT or `quit`; return the exit code."""
    maker = _maker(options)
    slots = _hopper(options) if options.hopper else _slots(options, maker)
    stopping = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in ENDING}
    for slot in slots:
        slot.start()
        replies.write(f"slot {slot.address[1]} {slot.card.atr.hex().upper()}\n")
    replies.flush()
    control = Control(slots, maker, stopping, replies)
    threading.Thread(target=control.listen, args=(orders,), daemon=True).start()
    stopping.wait()
    for slot in slots:
        slot.stop()
    for number, handler in before.items():
        signal.signal(number, handler)
    return 0


def _slots(options: argparse.Namespace, maker: CardMaker) -> list[VpcdSlot]:
    cards = [maker.make(number) for number in range(options.slots)]
    if options.psam:
        cards.append(VirtualPsam(sample_masters(), algorithm=LAYOUTS[options.profile].algorithm))
    return [
        VpcdSlot(card, port=options.port + number, host=options.host) for number, card in enumerate(cards)
    ]


def _hopper(options: argparse.Namespace) -> list[VpcdSlot]:
    """Return the one slot of a feeder; a serial may bring its fault, as in `01…07:pulled@12`."""
    cards: list[SmartCard] = []
    for told in options.hopper.split(","):
        serial, _, fault = told.partition(":")
        try:
            faults = [parse_fault(fault)] if fault else []
            cards.append(blank_card(bytes.fromhex(serial), profile=options.profile, faults=faults))
        except ValueError as exc:
            raise OptionError(f"--hopper {told[:40]}: {exc}") from exc
    return [HopperSlot(cards, port=options.port, host=options.host)]


class Control:
    """Obeys lines: pull, insert, new, fault FAULT, quit; a number after the word names the slot."""

    def __init__(
        self, slots: Sequence[VpcdSlot], maker: CardMaker, stopping: threading.Event, replies: TextIO
    ) -> None:
        self._slots = slots
        self._maker = maker
        self._stopping = stopping
        self._replies = replies

    def listen(self, orders: Iterable[str]) -> None:
        """Obey until the lines end; the program goes on without them."""
        for line in orders:
            self._replies.write(f"{self.obey(line.split())}\n")
            self._replies.flush()

    def obey(self, words: Sequence[str]) -> str:
        """Carry one line out and return the reply."""
        try:
            return self._carry_out(words[0], words[1:]) if words else "error empty line"
        except (ValueError, IndexError, AttributeError) as exc:
            return f"error {exc}"

    def _carry_out(self, word: str, rest: Sequence[str]) -> str:
        if word == "quit":
            self._stopping.set()
        elif word == "fault":
            slot = self._slots[int(rest[1]) if len(rest) > 1 else 0]
            assert isinstance(slot.card, VirtualCard)
            slot.card.faults.add(parse_fault(rest[0]))
        elif word in ("pull", "insert", "new"):
            number = int(rest[0]) if rest else 0
            self._move(word, number)
        else:
            return f"error unknown order {word[:20]!r}"
        return f"ok {word}"

    def _move(self, word: str, number: int) -> None:
        slot = self._slots[number]
        if word == "pull":
            slot.pull()
        else:
            slot.insert(self._maker.make(number) if word == "new" else None)


def keep_image(target: Path, image: bytes) -> None:
    """Put a card's memory in place in one step, readable by its owner only: it holds keys."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(image)
    Path(name).replace(target)


def _from_image(image: Path, faults: Iterable[Fault]) -> VirtualCard:
    try:
        memory = Memory.from_bytes(image.read_bytes())
    except (OSError, ImageError) as exc:
        raise OptionError(f"--image {image}: {exc}") from exc
    return VirtualCard(memory, faults=faults, keep=lambda raw: keep_image(image, raw))


def _transport_key(file: Path | None) -> bytes:
    if file is None:
        return PUBLIC_TEST_KEY
    try:
        digits = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise OptionError(f"--transport-key-file {file}: {type(exc).__name__}") from exc
    if len(digits) != KEY_DIGITS or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        raise OptionError(f"--transport-key-file {file}: 32 hexadecimal digits expected")
    return bytes.fromhex(digits)


def _maker(options: argparse.Namespace) -> CardMaker:
    wrong = [fault for fault in options.fault if fault in WRONG_CARDS]
    if len(wrong) > 1:
        raise OptionError(f"--fault: only one of {', '.join(WRONG_CARDS)}")
    if options.serial and (len(options.serial) != 16 or not _is_hex(options.serial)):
        raise OptionError("--serial: 16 hexadecimal digits expected")
    try:
        faults = tuple(parse_fault(fault) for fault in options.fault if fault not in WRONG_CARDS)
    except ValueError as exc:
        raise OptionError(f"--fault: {exc}") from exc
    return CardMaker(options, faults, wrong[0] if wrong else "")


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdefABCDEF" for digit in text)


def main(arguments: Sequence[str]) -> int:
    """Run with the options of a command line."""
    parser = argparse.ArgumentParser(prog="python -m stations.virtual", description="virtual cards for vpcd")
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        return run(options, orders=sys.stdin, replies=sys.stdout)
    except OptionError as exc:
        parser.error(str(exc))
