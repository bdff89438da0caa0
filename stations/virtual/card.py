"""A virtual social security card that answers TPDUs of T=0 like a real one (card.md §1, §2).

It reads; it knows no keys. Files named in `protected` answer 6982, as EF05 and EF06 of a 3.0 card do before
RKssse is authenticated; by default all are read freely, as on a 2.0 card.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Mapping, Sequence

from production.personalization.chip import build_chip
from production.personalization.holder import CardHolder, build_card_identifier
from production.personalization.profile import CardProfile
from production.personalization.tlv import decode_records, encode_record
from stations.transport.base import Response

ALGORITHMS: Mapping[str, int] = {"3des": 1, "ssf33": 2, "sm4": 3}
HISTORY = bytes.fromhex(
    "0053534333"
)  # invented; the card's own 8 bytes follow, its factor in diversification
SERIAL = bytes.fromhex("5649525455414C31")

Records = Sequence[tuple[int, bytes]]

# Nobody: the number's check digit is wrong on purpose.
SAMPLE_HOLDER = CardHolder(
    number="440600190001010005",
    name="虚拟·测试卡",
    sex="1",
    ethnicity="01",
    birth_on=dt.date(1900, 1, 1),
    card_number="V00000001",
    issue_on=dt.date(2026, 1, 1),
    expires_on=dt.date(2036, 1, 1),
    area="440600",
    initialiser="440600000001",
)


class VirtualCard:
    """Applications with their record files; a TPDU in, data and status word out."""

    def __init__(
        self,
        profile: CardProfile,
        files: Mapping[str, bytes],
        *,
        serial: bytes = SERIAL,
        protected: frozenset[str] = frozenset(),
    ) -> None:
        self.atr = bytes((0x3B, 0x60 | len(HISTORY + serial), 0x00, 0x00)) + HISTORY + serial
        self._names = {application.aid: application.name for application in profile.applications}
        self._files = {path: tuple(decode_records(content)) for path, content in files.items()}
        self._algorithm = ALGORITHMS[profile.algorithm]
        self._protected = protected
        self._commands: Mapping[int, Callable[[bytes], Response]] = {
            0xA4: self._select,
            0xB2: self._read_record,
            0xC0: self._get_response,
            0x84: self._get_challenge,
        }
        self.power_on()

    def power_on(self) -> bytes:
        """Forget every selection and return the ATR."""
        self._application = ""
        self._path = ""
        self._waiting = b""
        return self.atr

    def process(self, tpdu: bytes) -> Response:
        """Answer one command of at least five bytes."""
        if len(tpdu) < 5:
            return _status(0x6700)
        if tpdu[0] != 0x00:
            return _status(0x6E00)
        waiting = self._waiting
        command = self._commands.get(tpdu[1])
        answer = command(tpdu) if command else _status(0x6D00)
        if self._waiting is waiting and answer.sw >> 8 != 0x6C:
            self._waiting = b""  # what was not fetched at once is gone
        return answer

    def _select(self, tpdu: bytes) -> Response:
        body = tpdu[5:]
        if len(body) != tpdu[4]:
            return _status(0x6700)
        if tpdu[2:4] == b"\x04\x00":
            return self._select_application(body)
        if tpdu[2:4] in (b"\x02\x00", b"\x00\x00") and len(body) == 2:
            return self._select_file(f"{self._application}/{body.hex().upper()}")
        return _status(0x6A86)

    def _select_application(self, aid: bytes) -> Response:
        name = self._names.get(aid)
        if name is None:
            return _status(0x6A82)
        self._application, self._path = name, ""
        proprietary = bytes.fromhex("9F0C03 8601") + bytes((self._algorithm,))
        inner = encode_record(0x84, aid) + encode_record(0xA5, proprietary)
        self._waiting = encode_record(0x6F, inner)
        return _status(0x6100 | len(self._waiting))

    def _select_file(self, path: str) -> Response:
        if path not in self._files:
            return _status(0x6A82)
        self._path = path
        return _status(0x9000)

    def _read_record(self, tpdu: bytes) -> Response:
        wanted, mode, short_id = tpdu[2], tpdu[3] & 0x07, tpdu[3] >> 3
        path = f"{self._application}/EF{short_id:02X}" if short_id else self._path
        if not path:
            return _status(0x6986)
        if path not in self._files:
            return _status(0x6A82)
        if path in self._protected:
            return _status(0x6982)
        if mode not in (0x00, 0x04):
            return _status(0x6A86)
        self._path = path
        by_number = mode == 0x04
        record = _by_number(self._files[path], wanted) if by_number else _by_tag(self._files[path], wanted)
        if record is None:
            return _status(0x6A83 if by_number else 0x6A88)
        return _exactly(record, tpdu[4])

    def _get_response(self, tpdu: bytes) -> Response:
        return _exactly(self._waiting, tpdu[4]) if self._waiting else _status(0x6985)

    def _get_challenge(self, tpdu: bytes) -> Response:
        return _exactly(secrets.token_bytes(8), tpdu[4])


def sample_card(profile: CardProfile, *, protected: frozenset[str] = frozenset()) -> VirtualCard:
    """Return the card of an invented person."""
    chip = build_chip(SAMPLE_HOLDER, profile, build_card_identifier("440600", SERIAL))
    return VirtualCard(profile, chip.files, protected=protected)


def _status(sw: int) -> Response:
    return Response(b"", sw)


def _exactly(data: bytes, asked: int) -> Response:
    """Return data of exactly the length asked for, else say the right one (6Cxx)."""
    return Response(data, 0x9000) if asked == len(data) else _status(0x6C00 | len(data))


def _by_number(records: Records, number: int) -> bytes | None:
    return encode_record(*records[number - 1]) if 1 <= number <= len(records) else None


def _by_tag(records: Records, tag: int) -> bytes | None:
    return next((encode_record(*record) for record in records if record[0] == tag), None)
