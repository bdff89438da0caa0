"""GET CHALLENGE, authentications, WRITE KEY (virtual-card.md §2 and §5)."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from stations.virtual.chip import MASTER, TRANSPORT_PLACE, Chip
from stations.virtual.cipher import FACTOR_SIZE, KEY_SIZE, Algorithm, authenticate, unseal
from stations.virtual.layout import MAC_KEY, TRANSPORT, KeyLayout, place
from stations.virtual.memory import BLANK, CARD_BLOCKED, INITIALISED, PERSONALISED, StoredKey
from stations.virtual.tpdu import Command, Refusal

CHALLENGE_SIZE, LONG_CHALLENGE_SIZE = 8, 16
LONG_CHALLENGE_IN = frozenset({"PKI", "ADF1"})
NOT_EXTERNAL = frozenset({"IRK", "BK", "PUK", "LK"})
MOST_TRIES = 15
BLOCK_SIZE = 4 + KEY_SIZE

Randomness = Callable[[int], bytes]


class Keys:
    """The commands that prove or change keys; `randomness` is the chip's generator."""

    def __init__(self, chip: Chip, randomness: Randomness = secrets.token_bytes) -> None:
        self._chip = chip
        self._randomness = randomness

    def get_challenge(self, command: Command) -> bytes:
        """Return a new challenge, from which the freshness value starts."""
        if command.p1 or command.p2:
            raise Refusal(0x6A86)
        if self._chip.memory.state == CARD_BLOCKED:
            raise Refusal(0x9303)
        long = self._chip.session.application.name in LONG_CHALLENGE_IN
        size = LONG_CHALLENGE_SIZE if long else CHALLENGE_SIZE
        if command.p3 != size:
            raise Refusal(0x6C00 | size)
        challenge = self._randomness(size)
        block = self._chip.layout.algorithm.block
        self._chip.session.freshness = challenge.ljust(block, b"\0")[:block]
        return challenge

    def internal_authenticate(self, command: Command) -> bytes:
        """Prove the card's IRK to the terminal, which chooses factor and data."""
        layout, key = self._wanted(command)
        if layout.name != "IRK":
            raise Refusal(0x6985)
        body = command.body
        return authenticate(
            self._chip.layout.algorithm, key.value, body[:FACTOR_SIZE], body[FACTOR_SIZE:]
        ).cryptogram

    def external_authenticate(self, command: Command) -> bytes:
        """Let the terminal prove a key; the process factor is the freshness value's beginning."""
        layout, key = self._wanted(command)
        if layout.name in NOT_EXTERNAL:
            raise Refusal(0x6985)
        factor = self._chip.freshness()[:FACTOR_SIZE]
        self._chip.refuse_locked(key)
        given, challenge = command.body[:FACTOR_SIZE], command.body[FACTOR_SIZE:]
        made = authenticate(self._chip.layout.algorithm, key.value, factor, challenge)
        right = made.cryptogram == given
        self._chip.count(key, right=right)
        if not right:
            self._chip.session.proven.discard(layout.name)
            raise Refusal(0x63C0 | key.tries)
        self._prove(layout.name)
        self._chip.advance(made.chain)
        return b""

    def _prove(self, name: str) -> None:
        if name == TRANSPORT:
            self._chip.session.transport_proven = True
        else:
            self._chip.session.proven.add(name)

    def _wanted(self, command: Command) -> tuple[KeyLayout, StoredKey]:
        self._chip.refuse_blocked()
        if command.p1:
            raise Refusal(0x6A86)
        if len(command.body) != 2 * FACTOR_SIZE:
            raise Refusal(0x6700)
        application = self._chip.session.application
        layout = application.key_at(command.p2)
        key = self._chip.memory.keys.get(place(application.name, command.p2))
        if layout is None or key is None:
            raise Refusal(0x6A88)
        return layout, key

    # --- initialization -----------------------------------------------------------------------------------
    def write_key(self, command: Command) -> bytes:
        """Load a key under the transport key, or, in the MF, replace the transport key and end it all."""
        self._chip.refuse_blocked()
        if not command.secured:
            raise Refusal(0x6987)
        if command.p1 != 0x01:
            raise Refusal(0x6A86)
        name = self._chip.session.application.name
        self._refuse_late(name)
        layout = self._chip.session.application.key_at(command.p2)
        if layout is None:
            raise Refusal(0x6A88)
        transport = self._chip.memory.keys[TRANSPORT_PLACE]
        sealed = self._chip.open_under(command, transport)
        key = self._key(unseal(self._chip.layout.algorithm, transport.value, sealed), layout)
        if name == MASTER and key.value == transport.value:
            raise Refusal(0x6A80)
        self._store(place(name, layout.key_id), key)
        return b""

    def _refuse_late(self, name: str) -> None:
        """Refuse keys after personalization, and the end of it before all keys are there."""
        memory = self._chip.memory
        if name != MASTER and memory.state not in (BLANK, INITIALISED):
            raise Refusal(0x6985)
        if name == MASTER and not self._complete():
            raise Refusal(0x6985)

    def _complete(self) -> bool:
        return self._chip.layout.key_places() <= set(self._chip.memory.keys)

    def _key(self, block: bytes | None, layout: KeyLayout) -> StoredKey:
        """Take a key block apart: usage, algorithm, version, tries, key."""
        if block is None or len(block) != BLOCK_SIZE:
            raise Refusal(0x6A80)
        usage, algorithm, version, tries = block[:4]
        kinds = layout.types if layout.name != TRANSPORT else frozenset({MAC_KEY})
        right = (
            usage & 0x1F in kinds
            and algorithm == self._chip.layout.algorithm.value
            and version > 0
            and 1 <= tries <= MOST_TRIES
        )
        if not right:
            raise Refusal(0x6A80)
        return StoredKey(usage, Algorithm(algorithm), version, tries, tries, block[4:])

    def _store(self, where: str, key: StoredKey) -> None:
        self._chip.begin_change()
        self._chip.memory.keys[where] = key
        if where == TRANSPORT_PLACE:
            self._chip.memory.state = PERSONALISED
            self._chip.session.transport_proven = False
        elif self._complete():
            self._chip.memory.state = INITIALISED
