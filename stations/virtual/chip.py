"""The chip's core: what is selected, what is proven, and the one place where memory is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from stations.virtual.cipher import MAC_SIZE, mac
from stations.virtual.layout import (
    MAC_KEY,
    TRANSPORT,
    ApplicationLayout,
    CardLayout,
    Condition,
    FileLayout,
    place,
)
from stations.virtual.memory import CARD_BLOCKED, Memory, StoredKey
from stations.virtual.tpdu import Command, Refusal

MASTER = "MF"
TRANSPORT_PLACE = place(MASTER, 0x00)


@dataclass(slots=True)
class Session:
    """What power-off and reset forget; `proven` are names of the current application's keys."""

    application: ApplicationLayout
    file: FileLayout | None = None
    proven: set[str] = field(default_factory=set)
    transport_proven: bool = False
    pin_verified: bool = False
    freshness: bytes = field(default=b"", repr=False)


class Chip:
    """Memory and session of one card, and the rules that several commands share."""

    def __init__(self, layout: CardLayout, memory: Memory) -> None:
        self.layout = layout
        self.memory = memory
        self.tearing = False
        self.changed = False
        self.session = self._fresh()

    def reset(self) -> None:
        """Forget everything volatile."""
        self.session = self._fresh()

    def _fresh(self) -> Session:
        return Session(self.layout.application(MASTER))

    def enter(self, application: ApplicationLayout) -> None:
        """Select an application: its keys are proven anew, PIN, transport key and challenge stay (A-1)."""
        held = self.session
        self.session = Session(
            application,
            transport_proven=held.transport_proven,
            pin_verified=held.pin_verified,
            freshness=held.freshness,
        )

    # --- conditions ---------------------------------------------------------------------------------------
    def holds(self, condition: Condition) -> bool:
        """Say whether one of the alternatives is given in full."""
        given = set(self.session.proven)
        if self.session.pin_verified:
            given.add("PIN")
        if self.session.transport_proven:
            given.add(TRANSPORT)
        return any(alternative <= given for alternative in condition)

    def refuse_blocked(self) -> None:
        """Raise 9303 in a blocked card, environment or application."""
        if self.memory.state == CARD_BLOCKED or self.is_blocked(self.session.application.name):
            raise Refusal(0x9303)

    def is_blocked(self, name: str) -> bool:
        """Say whether an application is blocked, by itself or with the environment."""
        social = name == "SSSE" or name.startswith("DF")
        return name in self.memory.blocked or (social and "SSSE" in self.memory.blocked)

    # --- keys and MACs ------------------------------------------------------------------------------------
    def stored(self, name: str) -> tuple[str, StoredKey] | None:
        """Return place and key of a name in the current application, None where it is not on the card."""
        key = self.session.application.key(name)
        where = place(self.session.application.name, key.key_id) if key else ""
        held = self.memory.keys.get(where)
        return (where, held) if held else None

    def open_secured(self, command: Command, name: str) -> bytes:
        """Check the MAC under a key of the current application and return the data before it."""
        found = self.stored(name)
        if len(command.body) < MAC_SIZE:
            raise Refusal(0x6700)
        if found is None or found[1].kind != MAC_KEY:
            raise Refusal(0x9406)
        return self.open_under(command, found[1])

    def open_under(self, command: Command, key: StoredKey) -> bytes:
        """Check the MAC under a stored key; a wrong one takes a try, a right one gives all back."""
        if len(command.body) < MAC_SIZE:
            raise Refusal(0x6700)
        body, given = command.body[:-MAC_SIZE], command.body[-MAC_SIZE:]
        start = self.freshness()
        self.refuse_locked(key)
        made = mac(self.layout.algorithm, key.value, start, command.header + body)
        self.count(key, right=made.value == given)
        if made.value != given:
            raise Refusal(0x6988)
        self.advance(made.chain)
        return body

    def freshness(self) -> bytes:
        """Return the freshness value, or refuse with 6984."""
        if not self.session.freshness:
            raise Refusal(0x6984)
        return self.session.freshness

    def advance(self, chain: bytes) -> None:
        """Let the next secured command go on from this block, or from a new challenge (A-7)."""
        self.session.freshness = chain if self.layout.chaining else b""

    def refuse_locked(self, key: StoredKey) -> None:
        """Raise 6983 for a key without tries."""
        if key.tries == 0:
            raise Refusal(0x6983)

    def count(self, key: StoredKey, *, right: bool) -> None:
        """Move the key's counter of tries."""
        tries = key.most_tries if right else key.tries - 1
        if tries != key.tries:
            key.tries = tries
            self.changed = True

    # --- memory -------------------------------------------------------------------------------------------
    def begin_change(self) -> None:
        """Announce a change of keys, counters or states; raise 6581 before anything is changed."""
        if self.tearing:
            raise Refusal(0x6581)
        self.changed = True

    def write(self, path: str, index: int, offset: int, content: bytes) -> None:
        """Write into a record or body; a memory fault leaves the first half and answers 6581."""
        self.changed = True
        whole = self.memory.files[path][index]
        written = content[: len(content) // 2] if self.tearing else content
        records = list(self.memory.files[path])
        records[index] = whole[:offset] + written + whole[offset + len(written) :]
        self.memory.files[path] = records
        if self.tearing:
            raise Refusal(0x6581)
