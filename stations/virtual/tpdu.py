"""T=0 from the card's side: a command taken apart, an answer given in the lengths that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

SHORT = 4  # header without P3
FULL = 5
MOST = 0xFF


class Refusal(Exception):  # noqa: N818 - a status word, not a fault of the program
    """The card answers a command with this status word and nothing else."""

    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


@dataclass(frozen=True, slots=True)
class Command:
    """One TPDU; `body` is what came after the header."""

    cla: int
    ins: int
    p1: int
    p2: int
    p3: int
    body: bytes = field(default=b"", repr=False)

    @classmethod
    def parse(cls, tpdu: bytes) -> Command:
        """Take a TPDU apart; raise Refusal 6700 when it has no header."""
        if len(tpdu) < SHORT:
            raise Refusal(0x6700)
        cla, ins, p1, p2 = tpdu[:SHORT]
        return cls(cla, ins, p1, p2, tpdu[SHORT] if len(tpdu) > SHORT else 0, tpdu[FULL:])

    @property
    def header(self) -> bytes:
        """Return the five bytes as sent."""
        return bytes((self.cla, self.ins, self.p1, self.p2, self.p3))

    @property
    def secured(self) -> bool:
        """Say whether the class announces a MAC."""
        return bool(self.cla & 0x04)


class Flow(Enum):
    """Which way data goes; BOTH answers 61xx."""

    IN = "in"
    OUT = "out"
    OUT_PARTIAL = "out, also less than there is"
    BOTH = "in and out"


@dataclass(frozen=True, slots=True)
class Entry:
    """How one instruction is served: its classes, its flow, and the function that returns data."""

    classes: frozenset[int]
    flow: Flow
    serve: Callable[[Command], bytes]


Table = Mapping[int, Entry]


class Port:
    """Keeps the answer that waits for GET RESPONSE and gives each command its data in the right length."""

    def __init__(self) -> None:
        self._waiting = b""

    def reset(self) -> None:
        """Drop what waits."""
        self._waiting = b""

    def serve(self, command: Command, table: Table) -> tuple[bytes, int]:
        """Return data and status word; raise Refusal."""
        if command.ins == 0xC0 and command.cla == 0x00 and not command.body:
            return self._fetch(command.p3)
        self._waiting = b""
        entry = table.get(command.ins)
        if entry is None:
            raise Refusal(0x6E00 if command.cla not in (0x00, 0x04, 0x80, 0x84, 0xBF) else 0x6D00)
        if command.cla not in entry.classes:
            raise Refusal(0x6E00)
        incoming = entry.flow in (Flow.IN, Flow.BOTH)
        if len(command.body) != (command.p3 if incoming else 0):
            raise Refusal(0x6700)
        return self._give(command, entry)

    def _give(self, command: Command, entry: Entry) -> tuple[bytes, int]:
        data = entry.serve(command)
        if entry.flow is Flow.IN or (entry.flow is Flow.BOTH and not data):
            return b"", 0x9000
        if entry.flow is Flow.BOTH:
            self._waiting = data
            return b"", 0x6100 | min(len(data), MOST)
        if entry.flow is Flow.OUT_PARTIAL and 0 < command.p3 < len(data):
            return data[: command.p3], 0x9000
        if command.p3 != len(data):
            raise Refusal(0x6C00 | len(data))
        return data, 0x9000

    def _fetch(self, asked: int) -> tuple[bytes, int]:
        if not self._waiting:
            raise Refusal(0x6985)
        if not 0 < asked <= len(self._waiting):
            raise Refusal(0x6C00 | min(len(self._waiting), MOST))
        data, self._waiting = self._waiting[:asked], self._waiting[asked:]
        return data, (0x6100 | min(len(self._waiting), MOST)) if self._waiting else 0x9000
