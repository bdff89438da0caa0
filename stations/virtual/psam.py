"""A virtual PSAM, the terminal's own card with the keys above the cards' (virtual-card.md §8)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from stations.transport.base import Response
from stations.virtual.cipher import FACTOR_SIZE, Algorithm, authenticate
from stations.virtual.faults import Faults
from stations.virtual.hierarchy import MASTER_PLACES, derive
from stations.virtual.keys import CHALLENGE_SIZE, Randomness
from stations.virtual.tlv import template
from stations.virtual.tpdu import Command, Entry, Flow, Port, Refusal, Table

AID = bytes.fromhex("D15600000590")
HEAD = bytes.fromhex("3B6D0000") + b"\x81PSAM"
SERIAL_FILE, TERMINAL_FILE = 0x15, 0x16
VERSION = bytes.fromhex("01000000")
NO_FLAGS = frozenset({0x00})


@dataclass(slots=True)
class _Session:
    """What power-off forgets: whether the application is selected, and a started key with its factor."""

    selected: bool = False
    key: bytes = field(default=b"", repr=False)
    factor: bytes = field(default=b"", repr=False)


class VirtualPsam:
    """Holds one master for each (usage, id) and lends cryptograms of the cards' keys."""

    def __init__(
        self,
        masters: Mapping[str, bytes],
        *,
        algorithm: Algorithm = Algorithm.SM4,
        serial: bytes = bytes.fromhex("5053414D00000001"),
        terminal: bytes = bytes.fromhex("440600000001"),
        randomness: Randomness = secrets.token_bytes,
    ) -> None:
        """Take masters by full name, e.g. `SSSE/IRK`, each at the level its usage byte tells."""
        self.atr = HEAD + serial
        self.faults = Faults()
        self._algorithm = algorithm
        self._randomness = randomness
        self._masters = {
            (MASTER_PLACES[name].usage, MASTER_PLACES[name].psam_id): key for name, key in masters.items()
        }
        self._files = {SERIAL_FILE: b"\0\0" + serial + VERSION, TERMINAL_FILE: terminal}
        self._port = Port()
        self._session = _Session()
        self._table: Table = {
            0xA4: Entry(NO_FLAGS, Flow.BOTH, self._select),
            0xB0: Entry(NO_FLAGS, Flow.OUT_PARTIAL, self._read_binary),
            0x84: Entry(NO_FLAGS, Flow.OUT, self._get_challenge),
            0xDE: Entry(frozenset({0xBF}), Flow.IN, self._start),
            0xFA: Entry(frozenset({0x80}), Flow.BOTH, self._encrypt),
        }

    def power_on(self) -> bytes:
        """Forget everything volatile and return the ATR."""
        self._session = _Session()
        self._port.reset()
        self.faults.power_on()
        return self.atr

    def process(self, tpdu: bytes) -> Response:
        """Answer one command; raise CardPulled or CardSilent under a fault."""
        fault = self.faults.next()
        if fault is not None and fault.kind == "status":
            return Response(b"", fault.sw)
        try:
            return Response(*self._port.serve(Command.parse(tpdu), self._table))
        except Refusal as refusal:
            return Response(b"", refusal.sw)

    def _select(self, command: Command) -> bytes:
        if (command.p1, command.p2) != (0x04, 0x00):
            raise Refusal(0x6A86)
        if command.body != AID:
            raise Refusal(0x6A82)
        self._session = _Session(selected=True)
        return template("6F", template("84", AID))

    def _read_binary(self, command: Command) -> bytes:
        found = self._files.get(command.p1 & 0x1F) if command.p1 & 0xE0 == 0x80 else None
        if found is None:
            raise Refusal(0x6A82)
        if command.p2 >= len(found):
            raise Refusal(0x6A86)
        return found[command.p2 :]

    def _get_challenge(self, command: Command) -> bytes:
        if command.p1 or command.p2:
            raise Refusal(0x6A86)
        if command.p3 != CHALLENGE_SIZE:
            raise Refusal(0x6C00 | CHALLENGE_SIZE)
        return self._randomness(CHALLENGE_SIZE)

    def _start(self, command: Command) -> bytes:
        """Derive the card's key from the factors, the lowest first, and keep the process factor."""
        self._session.key = b""
        if not self._session.selected:
            raise Refusal(0x6985)
        usage, body = command.p1, command.body
        master = self._masters.get((usage, command.p2))
        if master is None:
            raise Refusal(0x6A88)
        if len(body) != FACTOR_SIZE * ((usage >> 5) + 1):
            raise Refusal(0x6A80)
        parts = [body[at : at + FACTOR_SIZE] for at in range(0, len(body), FACTOR_SIZE)]
        self._session.key = derive(self._algorithm, master, parts[-2::-1])
        self._session.factor = parts[-1]
        return b""

    def _encrypt(self, command: Command) -> bytes:
        if command.p1 or command.p2:
            raise Refusal(0x6A86)
        if not self._session.key:
            raise Refusal(0x6985)
        if len(command.body) != FACTOR_SIZE:
            raise Refusal(0x6700)
        return authenticate(self._algorithm, self._session.key, self._session.factor, command.body).cryptogram
