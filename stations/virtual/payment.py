"""The payment application: EMV Card Personalization Specification 1.1 with 3DES (virtual-card.md §7)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from stations.virtual.chip import Chip
from stations.virtual.cipher import Algorithm, check_value, decrypt, encrypt, encrypt_chained, pad
from stations.virtual.memory import PaymentMemory
from stations.virtual.tlv import groupings, template
from stations.virtual.tpdu import Command, Refusal

PAYMENT, PSE, PPSE = "PAYMENT", "PSE", "PPSE"
DES = Algorithm.TRIPLE_DES
ZERO = bytes(8)
LABEL = b"PBOC"
DIVERSIFICATION = bytes.fromhex("622848FFFFFF")
KEY_VERSION, CHANNEL = 0x01, 0x02
LAST, ENCRYPTED, FLAGS = 0x80, 0x60, 0x60
FCI_GROUP, PROCESSING_GROUP, KEYS_GROUP, CHECKS_GROUP = 0x9102, 0x9104, 0x8000, 0x9000
FIRST_SFI, LAST_SFI = 0x01, 0x1E
CPS_MAC_SIZE = 8


@dataclass(slots=True)
class PersonalizationSession:
    """A session of EMV CPS from INITIALIZE UPDATE on; `level` below 0: not yet authenticated."""

    enc: bytes = field(repr=False)
    mac: bytes = field(repr=False)
    dek: bytes = field(repr=False)
    host_cryptogram: bytes = field(repr=False)
    level: int = -1
    chain: bytes = ZERO
    expected: int = 0


def issuer_keys(kmc: bytes, key_data: bytes) -> tuple[bytes, bytes, bytes]:
    """Derive KENC, KMAC and KDEK of a card from the issuer's KMC."""
    tail = key_data[-6:]
    kenc, kmac, kdek = (
        encrypt(DES, kmc, tail + b"\xf0" + number + tail + b"\x0f" + number)
        for number in (b"\1", b"\2", b"\3")
    )
    return kenc, kmac, kdek


def key_data(serial: bytes) -> bytes:
    """Return KEYDATA: the issuer's IIN and the last 4 bytes of the chip's serial."""
    return DIVERSIFICATION + serial[-4:]


def retail_mac(key: bytes, start: bytes, message: bytes) -> bytes:
    """Return the 8-byte MAC of ISO 9797-1 algorithm 3 over the padded message."""
    blocks = pad(message, 8)
    left, right = key[:8], key[8:]
    last = encrypt_chained(DES, left, start, blocks)[-8:]
    return encrypt(DES, left, decrypt(DES, right, last))


def _full_mac(key: bytes, message: bytes) -> bytes:
    return encrypt_chained(DES, key, ZERO, pad(message, 8))[-8:]


class Payment:
    """The payment application with its directories."""

    def __init__(self, chip: Chip, randomness: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._chip = chip
        self._randomness = randomness
        self._open: PersonalizationSession | None = None
        self.aids = {PAYMENT: chip.layout.payment, PSE: b"1PAY.SYS.DDF01", PPSE: b"2PAY.SYS.DDF01"}

    def leave(self) -> None:
        """End a personalization session."""
        self._open = None

    @property
    def _memory(self) -> PaymentMemory:
        return self._chip.memory.payment

    # --- reading ------------------------------------------------------------------------------------------
    def fci(self, name: str) -> bytes:
        """Return the FCI of the application or one of its directories."""
        if name == PAYMENT:
            inner = self._memory.groups.get(FCI_GROUP, template("50", LABEL))
        elif name == PSE:
            inner = template("88", b"\x01")
        else:
            inner = template("BF0C", self._entry())
        return template("6F", template("84", self.aids[name]), template("A5", inner))

    def _entry(self) -> bytes:
        return template("61", template("4F", self.aids[PAYMENT]), template("50", LABEL))

    def read_record(self, command: Command) -> bytes:
        """Return a record of the application, or the directory's only one."""
        if command.p2 & 0x07 != 0x04:
            raise Refusal(0x6A86)
        name, short_id = self._chip.session.application.name, command.p2 >> 3
        if name == PSE and (short_id, command.p1) == (1, 1):
            return template("70", self._entry())
        found = self._memory.groups.get((short_id << 8) | command.p1) if name == PAYMENT else None
        if found is None or not FIRST_SFI <= short_id <= LAST_SFI:
            raise Refusal(0x6A83)
        return found

    def processing_options(self, command: Command) -> bytes:
        """Return AIP and AFL of a personalised application."""
        if command.p1 or command.p2:
            raise Refusal(0x6A86)
        if not command.body.startswith(b"\x83"):
            raise Refusal(0x6A80)
        if not self._memory.personalised or PROCESSING_GROUP not in self._memory.groups:
            raise Refusal(0x6985)
        return template("77", self._memory.groups[PROCESSING_GROUP])

    # --- personalization ----------------------------------------------------------------------------------
    def initialize_update(self, command: Command) -> bytes:
        """Open a session: derive its keys, prove the card, expect the host."""
        if len(command.body) != 8:
            raise Refusal(0x6700)
        if self._memory.personalised:
            raise Refusal(0x6985)
        host, card = command.body, self._randomness(6)
        counter = self._memory.counter.to_bytes(2)
        enc, mac, dek = (self._session_key(kind, counter) for kind in ("0182", "0101", "0181"))
        expected = _full_mac(enc, counter + card + host)
        self._open = PersonalizationSession(enc, mac, dek, expected)
        identity = key_data(self._chip.memory.serial) + bytes((KEY_VERSION, CHANNEL))
        return identity + counter + card + _full_mac(enc, host + counter + card)

    def _session_key(self, kind: str, counter: bytes) -> bytes:
        held = {"0182": self._memory.kenc, "0101": self._memory.kmac, "0181": self._memory.kdek}
        return encrypt_chained(DES, held[kind], ZERO, bytes.fromhex(kind) + counter + bytes(12))

    def external_authenticate(self, command: Command) -> bytes:
        """Let the host prove itself; P1 is the security level of what follows."""
        session = self._open
        if session is None or session.level >= 0:
            raise Refusal(0x6985)
        if command.p1 not in (0x00, 0x01) or command.p2:
            raise Refusal(0x6A86)
        if len(command.body) != 2 * CPS_MAC_SIZE:
            raise Refusal(0x6700)
        body = self._checked(session, command)
        if body != session.host_cryptogram:
            self._open = None
            raise Refusal(0x6988)
        self._chip.begin_change()
        self._memory.counter += 1
        session.level = command.p1
        return b""

    def _checked(self, session: PersonalizationSession, command: Command) -> bytes:
        """Check the C-MAC and return the data before it; a wrong one ends the session."""
        body, given = command.body[:-CPS_MAC_SIZE], command.body[-CPS_MAC_SIZE:]
        session.chain = retail_mac(session.mac, session.chain, command.header + body)
        if session.chain != given:
            self._open = None
            raise Refusal(0x6988)
        return body

    def store_data(self, command: Command) -> bytes:
        """Take data groupings; the last command makes the application personalised."""
        if self._memory.personalised:
            raise Refusal(0x6985)
        session = self._open
        if session is None or session.level < 0 or (session.level == 1 and not command.secured):
            raise Refusal(0x6982)
        body = self._checked(session, command) if command.secured else command.body
        if command.p1 & FLAGS not in (0x00, ENCRYPTED) or command.p2 != session.expected:
            raise Refusal(0x6A86)
        found = self._groups(session, body, sealed=command.p1 & FLAGS == ENCRYPTED)
        whole = self._memory.groups | found
        last = bool(command.p1 & LAST)
        if last and not _keys_agree(whole):
            raise Refusal(0x6A80)
        self._chip.begin_change()
        self._memory.groups = whole
        self._memory.personalised = last
        session.expected = (session.expected + 1) & 0xFF
        return b""

    def _groups(self, session: PersonalizationSession, body: bytes, *, sealed: bool) -> dict[int, bytes]:
        try:
            found = dict(groupings(body))
        except ValueError as exc:
            raise Refusal(0x6A80) from exc
        if not found or (sealed and any(len(content) % 8 for content in found.values())):
            raise Refusal(0x6A80)
        if not sealed:
            return found
        return {group: decrypt(DES, session.dek, content) for group, content in found.items()}


def _keys_agree(groups: dict[int, bytes]) -> bool:
    """Compare the check values of DGI 9000 with the keys of DGI 8000, where both are there."""
    keys, checks = groups.get(KEYS_GROUP), groups.get(CHECKS_GROUP)
    if keys is None or checks is None:
        return True
    if len(keys) % 16:
        return False
    made = (check_value(DES, keys[at : at + 16]) for at in range(0, len(keys), 16))
    return b"".join(made) == checks
