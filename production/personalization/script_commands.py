"""Commands for a card, one after the other from one challenge: each MAC starts where the last one ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from production.personalization import card_crypto

OK = 0x9000
TRIES_LEFT = tuple(0x63C0 + left for left in range(16))
_SEALED_BYTES = 251  # of a secured command's data, four MAC bytes beside


class Phase(StrEnum):
    """What a command is for; from `write` on the card is changed."""

    SELECT = "select"
    AUTHENTICATE = "authenticate"
    READ = "read"
    WRITE = "write"
    PAYMENT = "payment"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it is sent, words for people, and the status words that let the script go on."""

    apdu: bytes = field(repr=False)
    label: str
    phase: Phase
    expect: tuple[int, ...] = (OK,)


Script = tuple[Command, ...]


@dataclass(slots=True)
class ScriptWriter:
    """Collects commands and what their answers must be; `start` is the freshness value of the challenge."""

    start: bytes = field(repr=False, default=b"")
    commands: list[Command] = field(default_factory=list)
    checks: list[Any] = field(default_factory=list, repr=False)

    def add(
        self, apdu: bytes, label: str, phase: Phase, *, expect: Sequence[int] = (OK,), check: Any = None
    ) -> None:
        """Add a command and how its answer is checked: None by its status word alone."""
        self.commands.append(Command(apdu, label, phase, tuple(expect)))
        self.checks.append(check)

    def select(self, aid: bytes, label: str) -> None:
        """Select an application by its name."""
        self.add(b"\x00\xa4\x04\x00" + bytes((len(aid),)) + aid, label, Phase.SELECT)

    def select_root(self) -> None:
        """Select the master file."""
        self.add(b"\x00\xa4\x00\x00\x00", "选择主文件", Phase.SELECT)

    def challenge(self) -> None:
        """Ask for the challenge from which everything after it is computed."""
        self.add(b"\x00\x84\x00\x00\x08", "取随机数", Phase.AUTHENTICATE)

    def secured(self, head: bytes, content: bytes, key: bytes, label: str, phase: Phase) -> None:
        """Add a command with a MAC over header and content."""
        if len(content) > _SEALED_BYTES:
            raise ValueError(f"{len(content)} bytes do not fit a secured command")
        message = head + bytes((len(content) + card_crypto.MAC_SIZE,)) + content
        mac, self.start = card_crypto.cbc_mac(key, self.start, message)
        self.add(message + mac, label, phase)

    def write_key(self, key_id: int, block: bytes, transport_key: bytes, label: str, phase: Phase) -> None:
        """Write a key block, encrypted and secured under the transport key."""
        sealed = card_crypto.sealed_block(transport_key, block)
        self.secured(bytes((0x84, 0xD4, 0x01, key_id)), sealed, transport_key, label, phase)

    def prove(
        self, key_id: int, key: bytes, content: bytes, label: str, *, expect: Sequence[int] = (OK,)
    ) -> None:
        """Authenticate to the card with a key (EXTERNAL AUTHENTICATE)."""
        block = card_crypto.authentication_block(key, self.start[: card_crypto.FACTOR_SIZE], content)
        apdu = bytes((0x00, 0x82, 0x00, key_id, 0x10)) + card_crypto.folded(block) + content
        self.start = block
        self.add(apdu, label, Phase.AUTHENTICATE, expect=expect)

    def ask_proof(self, key_id: int, key: bytes, factor: bytes, content: bytes, label: str) -> None:
        """Have the card authenticate (INTERNAL AUTHENTICATE); its cryptogram must be ours."""
        expected = card_crypto.folded(card_crypto.authentication_block(key, factor, content))
        apdu = bytes((0x00, 0x88, 0x00, key_id, 0x10)) + factor + content
        self.add(apdu, label, Phase.AUTHENTICATE, check=["equal", expected.hex()])

    def read(self, path: str, tag: int, length: int, short_id: int) -> None:
        """Read the record of a tag; what comes back is compared with what the file should hold."""
        apdu = bytes((0x00, 0xB2, tag, short_id << 3, length + 2))
        self.add(apdu, f"读 {path} {tag:02X}", Phase.READ, check=["read", path, tag])
