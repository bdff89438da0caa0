"""The payment application through EMV CPS 1.1: session, cryptograms, C-MAC, STORE DATA, and reading back.

3DES in both card profiles (A-17). The card derives its keys from the bank's KMC; the portal checks the card's
cryptogram before anything is stored, and keys travel encrypted under the session's data key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from portal.core.errors import InputRefusedError
from production.personalization.ber import decode_ber
from production.personalization.card_crypto import TripleDesCipher, joined
from production.personalization.script_commands import Phase, ScriptWriter

SECRET_GROUPS = frozenset({"8000", "8010"})
PROCESSING_GROUP, CONTROL_GROUP = "9104", "9102"
_ENC, _MAC, _DEK = b"\x01\x82", b"\x01\x01", b"\x01\x81"
_MAC_BYTES = 8
_STORE_BYTES = 0xFF - _MAC_BYTES
_LAST, _ENCRYPTED = 0x80, 0x60
_PROCESSING_OPTIONS_LIST = 0x9F38


class PaymentCardError(InputRefusedError):
    """A payment application that does not prove the bank's keys; nothing was written to the card."""

    code = "card_payment_key"


@dataclass(frozen=True, slots=True)
class PaymentData:
    """What the bank has put on one card: its application, the KMC of its blanks, data groups by identifier.

    Values are plain; the groups of SECRET_GROUPS leave the portal only under the session's data key.
    """

    aid: bytes
    kmc: bytes = field(repr=False)
    groups: Mapping[str, bytes] = field(repr=False)

    def records(self) -> Iterator[tuple[str, int, int]]:
        """Yield group, short file identifier and record number of each record."""
        for group in self.groups:
            file, record = bytes.fromhex(group)
            if 0x01 <= file <= 0x1E:
                yield group, file, record


@dataclass(slots=True)
class PaymentSession:
    """An open CPS session of security level 01: every command carries a C-MAC chained to the one before."""

    host_cryptogram: bytes
    _mac_key: bytes = field(repr=False)
    _data_key: bytes = field(repr=False)
    _cipher: TripleDesCipher = field(repr=False, default_factory=TripleDesCipher)
    _chain: bytes = field(repr=False, default=bytes(8))

    @classmethod
    def opened(cls, payment: PaymentData, host: bytes, answer: bytes) -> PaymentSession:
        """Check the answer to INITIALIZE UPDATE; raise PaymentCardError when the card is not of this KMC."""
        if len(answer) != 28:
            raise PaymentCardError("支付应用的应答长度不对", expected="28 字节", got=f"{len(answer)} 字节")
        key_data, counter, card, proof = answer[:10], answer[12:14], answer[14:20], answer[20:]
        cipher = TripleDesCipher()
        enc, mac, dek = (
            _session_key(cipher, _static_key(cipher, payment.kmc, key_data, number), kind, counter)
            for number, kind in ((1, _ENC), (2, _MAC), (3, _DEK))
        )
        if _last_block(cipher, enc, host + counter + card) != proof:
            raise PaymentCardError("支付应用的密钥与银行提供的不符")
        return cls(_last_block(cipher, enc, counter + card + host), mac, dek, cipher)

    def sealed(self, head: bytes, content: bytes) -> bytes:
        """Return a command with its C-MAC: ISO/IEC 9797-1 algorithm 3 over header and content."""
        message = head + bytes((len(content) + _MAC_BYTES,)) + content
        left, text = self._mac_key[:8], self._cipher.padded(message)
        block = self._chain
        for at in range(0, len(text) - 8, 8):
            block = self._cipher.encrypt(left, joined(block, text[at : at + 8]))
        self._chain = self._cipher.encrypt(self._mac_key, joined(block, text[-8:]))
        return message + self._chain

    def encrypted(self, value: bytes) -> bytes:
        """Return a secret value under the data key, filled up only where it is not whole blocks."""
        whole = value if len(value) % 8 == 0 else self._cipher.padded(value)
        return self._cipher.encrypt(self._data_key, whole)


def begin_payment(writer: ScriptWriter, payment: PaymentData, host: bytes) -> None:
    """Select the application and open a session with our challenge; that changes nothing on the card."""
    writer.select(payment.aid, "选择支付应用")
    writer.add(b"\x80\x50\x00\x00\x08" + host, "支付应用会话", Phase.AUTHENTICATE)


def write_payment(writer: ScriptWriter, payment: PaymentData, session: PaymentSession) -> None:
    """Authenticate and store every group; the application must still be the selected one."""
    writer.add(
        session.sealed(b"\x84\x82\x01\x00", session.host_cryptogram), "支付应用外部认证", Phase.PAYMENT
    )
    commands = list(_store_commands(payment, session))
    for number, (flags, content, groups) in enumerate(commands):
        last = _LAST if number == len(commands) - 1 else 0
        head = bytes((0x84, 0xE2, flags | last, number))
        writer.add(session.sealed(head, content), f"写支付数据 {' '.join(groups)}", Phase.PAYMENT)


def read_payment(writer: ScriptWriter, payment: PaymentData) -> None:
    """Read back what a terminal reads: control information, processing options, every record."""
    groups = payment.groups
    control = groups.get(CONTROL_GROUP, b"")
    check = ["same", control.hex(), "PAY/9102", [0x6F, 0xA5]] if control else None
    writer.select(payment.aid, "选择支付应用", check=check)
    wanted = _options_length(control)
    options = bytes((0x83, wanted)) + bytes(wanted)
    writer.add(
        b"\x80\xa8\x00\x00" + bytes((len(options),)) + options,
        "取支付处理选项",
        Phase.READ,
        check=["same", groups[PROCESSING_GROUP].hex(), "PAY/9104", [0x77]],
    )
    for group, file, record in payment.records():
        value = groups[group]
        apdu = bytes((0x00, 0xB2, record, file << 3 | 4, len(value) & 0xFF))
        writer.add(apdu, f"读支付记录 {group}", Phase.READ, check=["same", value.hex(), f"PAY/{group}", []])


def data_group(group: str, value: bytes) -> bytes:
    """Return identifier, length in one byte or FF and two, and value."""
    size = bytes((len(value),)) if len(value) < 0xFF else b"\xff" + len(value).to_bytes(2)
    return bytes.fromhex(group) + size + value


def _store_commands(
    payment: PaymentData, session: PaymentSession
) -> Iterator[tuple[int, bytes, tuple[str, ...]]]:
    """Yield flags, content and group names: each secret group alone, others together while they fit."""
    content, names = b"", tuple[str, ...]()
    for group, value in payment.groups.items():
        secret = group in SECRET_GROUPS
        one = data_group(group, session.encrypted(value) if secret else value)
        if content and (secret or len(content) + len(one) > _STORE_BYTES):
            yield 0, content, names
            content, names = b"", ()
        if secret:
            yield _ENCRYPTED, one, (group,)
        else:
            content, names = content + one, (*names, group)
    if content:
        yield 0, content, names


def _options_length(control: bytes) -> int:
    """Return how many bytes the processing options ask for: the sum of the lengths in 9F38."""
    listed = next((value for tag, value in decode_ber(control) if tag == _PROCESSING_OPTIONS_LIST), b"")
    total = at = 0
    while at < len(listed):
        if listed[at] & 0x1F == 0x1F:
            at += 1
            while listed[at] & 0x80:
                at += 1
        total += listed[at + 1]
        at += 2
    return total


def _static_key(cipher: TripleDesCipher, kmc: bytes, key_data: bytes, number: int) -> bytes:
    end = key_data[-6:]
    return cipher.encrypt(kmc, end + bytes((0xF0, number)) + end + bytes((0x0F, number)))


def _session_key(cipher: TripleDesCipher, key: bytes, kind: bytes, counter: bytes) -> bytes:
    first = cipher.encrypt(key, (kind + counter).ljust(8, b"\x00"))
    return first + cipher.encrypt(key, first)


def _last_block(cipher: TripleDesCipher, key: bytes, message: bytes) -> bytes:
    """Return the last block of a CBC encryption from zero."""
    text, block = cipher.padded(message), bytes(8)
    for at in range(0, len(text), 8):
        block = cipher.encrypt(key, joined(block, text[at : at + 8]))
    return block
