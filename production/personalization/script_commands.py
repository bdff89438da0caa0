"""Commands for a card, one after the other from one challenge: each MAC starts where the last one ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from production.personalization.card_crypto import FACTOR_SIZE, MAC_SIZE, CardCipher, card_cipher

OK = 0x9000
NO_KEY = (0x6A88,)
TRIES_LEFT = tuple(0x63C0 + left for left in range(16))
SEALED_BYTES = 251  # of a secured command's data, four MAC bytes beside


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

    cipher: CardCipher = field(repr=False)
    start: bytes = field(repr=False, default=b"")
    commands: list[Command] = field(default_factory=list)
    checks: list[Any] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, algorithm: str, start: bytes = b"") -> Self:
        """Return a writer for cards of this algorithm."""
        return cls(card_cipher(algorithm), start)

    def add(
        self, apdu: bytes, label: str, phase: Phase, *, expect: Sequence[int] = (OK,), check: Any = None
    ) -> None:
        """Add a command and how its answer is checked: None by its status word alone."""
        self.commands.append(Command(apdu, label, phase, tuple(expect)))
        self.checks.append(check)

    def select(self, aid: bytes, label: str, *, check: Any = None) -> None:
        """Select an application by its name."""
        self.add(b"\x00\xa4\x04\x00" + bytes((len(aid),)) + aid, label, Phase.SELECT, check=check)

    def select_root(self) -> None:
        """Select the master file."""
        self.add(b"\x00\xa4\x00\x00\x00", "选择主文件", Phase.SELECT)

    def select_file(self, file_id: str, label: str) -> None:
        """Select a file of the application."""
        self.add(b"\x00\xa4\x02\x00\x02" + bytes.fromhex(file_id), label, Phase.SELECT)

    def challenge(self) -> None:
        """Ask for the challenge from which everything after it is computed."""
        self.add(b"\x00\x84\x00\x00\x08", "取随机数", Phase.AUTHENTICATE)

    def secured(self, head: bytes, content: bytes, key: bytes, label: str, phase: Phase) -> None:
        """Add a command with a MAC over header and content."""
        if len(content) > SEALED_BYTES:
            raise ValueError(f"{len(content)} bytes do not fit a secured command")
        message = head + bytes((len(content) + MAC_SIZE,)) + content
        mac, self.start = self.cipher.mac(key, self.start, message)
        self.add(message + mac, label, phase)

    def write_key(self, key_id: int, block: bytes, transport_key: bytes, label: str, phase: Phase) -> None:
        """Write a key block, encrypted and secured under the transport key."""
        sealed = self.cipher.sealed(transport_key, block)
        self.secured(bytes((0x84, 0xD4, 0x01, key_id)), sealed, transport_key, label, phase)

    def prove(
        self,
        key_id: int,
        key: bytes,
        content: bytes,
        label: str,
        *,
        expect: Sequence[int] = (OK,),
        refusal: tuple[str, str] | None = None,
    ) -> None:
        """Authenticate to the card with a key; `refusal` is what another answer means."""
        block = self.cipher.authentication_block(key, self.start[:FACTOR_SIZE], content)
        apdu = bytes((0x00, 0x82, 0x00, key_id, 0x10)) + self.cipher.folded(block) + content
        self.start = block
        check = ["refusal", *refusal] if refusal else None
        self.add(apdu, label, Phase.AUTHENTICATE, expect=expect, check=check)

    def ask_proof(
        self,
        key_id: int,
        key: bytes,
        factor: bytes,
        content: bytes,
        label: str,
        *,
        expect: Sequence[int] = (OK,),
    ) -> bytes:
        """Have the card authenticate (INTERNAL AUTHENTICATE); return the cryptogram it must answer."""
        expected = self.cipher.folded(self.cipher.authentication_block(key, factor, content))
        apdu = bytes((0x00, 0x88, 0x00, key_id, 0x10)) + factor + content
        self.add(apdu, label, Phase.AUTHENTICATE, expect=expect, check=["proof", expected.hex()])
        return expected

    def read(self, path: str, tag: int, length: int, short_id: int) -> None:
        """Read the record of a tag; what comes back is compared with what the file should hold."""
        apdu = bytes((0x00, 0xB2, tag, short_id << 3, length + 2))
        self.add(apdu, f"读 {path} {tag:02X}", Phase.READ, check=["read", path, tag])
