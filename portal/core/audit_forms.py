"""The audit's entries as bytes: what is hashed, what PostgreSQL stores and what it sends are the same.

Form 2 of an entry is its row in PostgreSQL's binary COPY format: a count of columns, then for each column
its length in four bytes (ffffffff for NULL) and its value. Numbers are big-endian, times are microseconds
since 2000-01-01 UTC, text is UTF-8, `details` is the JSON text as it was written. The digest is SM3 over
all of it but the digest itself, which stands last. The row needs no rebuilding to be verified, and the
lengths keep the columns apart. Form 1, of the first installations, was JSON and is only verified.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from portal.core.crypto import DIGEST_SIZE, sm3

FORM = 2
JSON_FORM = 1
GENESIS = bytes(DIGEST_SIZE)
COLUMNS = (
    "form", "previous_digest", "position", "at", "actor_id", "actor_name", "organisation_code", "address",
    "action", "object_type", "object_id", "object_label", "details", "result", "digest",
)  # fmt: skip
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"
TEXTS = COLUMNS[5:14]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INTEGERS = {"form": 2, "position": 8, "at": 8, "actor_id": 8}
_LENGTH = struct.Struct(">i")
_FRAME = struct.Struct(">hihi32siqiq")  # up to `at`: all of fixed length
_NUMBER = struct.Struct(">iq")
_NULL = _LENGTH.pack(-1)
_DIGEST_LENGTH = _LENGTH.pack(DIGEST_SIZE)
DIGEST_FIELD = len(_DIGEST_LENGTH) + DIGEST_SIZE
"""The last so many bytes of a row hold its digest; the digest covers what stands before them."""


class RowFormatError(ValueError):
    """Bytes that are no row of the audit."""


def pack(
    *,
    previous: bytes,
    position: int,
    at: datetime,
    actor_id: int | None,
    texts: Sequence[str],
) -> tuple[bytes, bytes]:
    """Return a new entry's row for COPY, and its digest; `texts` are the columns TEXTS in their order."""
    moment = (at - _EPOCH) // _MICROSECOND
    head = _FRAME.pack(len(COLUMNS), 2, FORM, DIGEST_SIZE, previous, 8, position, 8, moment)
    actor = _NULL if actor_id is None else _NUMBER.pack(8, actor_id)
    covered = b"".join([head, actor, *(framed(text.encode()) for text in texts)])
    digest = sm3(covered)
    return covered + _DIGEST_LENGTH + digest, digest


def expected_head(previous: bytes, position: int) -> bytes:
    """Return how the row begins that follows `previous` at `position`."""
    return _FRAME.pack(len(COLUMNS), 2, FORM, DIGEST_SIZE, previous, 8, position, 8, 0)[:-12]


def expected_tail(digest: bytes) -> bytes:
    """Return how a row ends whose digest is this."""
    return _DIGEST_LENGTH + digest


def framed(value: bytes | None) -> bytes:
    """Return a column's value after its length."""
    return _NULL if value is None else _LENGTH.pack(len(value)) + value


def details_text(details: Mapping[str, Any]) -> str:
    """Write details as they are stored and hashed."""
    return json.dumps(details, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A row taken apart, for what the fast way cannot answer; the values are as COPY sends them."""

    values: tuple[bytes | None, ...]

    @classmethod
    def parse(cls, row: bytes) -> Self:
        """Take a row apart; raise RowFormatError for anything else."""
        try:
            (count,) = struct.unpack_from(">h", row)
            values, at = [], 2
            for _ in range(count):
                (length,) = _LENGTH.unpack_from(row, at)
                at += 4 + max(length, 0)
                values.append(row[at - length : at] if length >= 0 else None)
        except struct.error as exc:
            raise RowFormatError("row is cut short") from exc
        if count != len(COLUMNS) or at != len(row):
            raise RowFormatError("not a row of the audit")
        return cls(tuple(values))

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Self:
        """Build an entry from Python values by column name; text of `details` stays as it stands."""
        return cls(tuple(_packed(name, columns[name]) for name in COLUMNS))

    def raw(self) -> bytes:
        """Return the row as COPY sends it."""
        return struct.pack(">h", len(COLUMNS)) + b"".join(map(framed, self.values))

    def number(self, name: str) -> int | None:
        """Return a numeric column; times are microseconds since 2000."""
        value = self.values[COLUMNS.index(name)]
        return None if value is None else int.from_bytes(value, "big", signed=True)

    def text(self, name: str) -> str:
        """Return a column of text."""
        return (self.values[COLUMNS.index(name)] or b"").decode("utf-8", "replace")

    @property
    def position(self) -> int:
        return self.number("position") or 0

    @property
    def at(self) -> datetime:
        return _EPOCH + (self.number("at") or 0) * _MICROSECOND

    @property
    def previous(self) -> bytes:
        return self.values[COLUMNS.index("previous_digest")] or b""

    @property
    def digest(self) -> bytes:
        return self.values[COLUMNS.index("digest")] or b""

    def computed(self) -> bytes | None:
        """Return the digest that belongs to these values, or None for a form that nobody wrote."""
        form = self.number("form")
        if form == FORM:
            return sm3(struct.pack(">h", len(COLUMNS)) + b"".join(map(framed, self.values[:-1])))
        if form == JSON_FORM:
            return self._computed_over_json()
        return None

    def holds(self) -> bool:
        """Say whether the entry's own digest fits it."""
        return self.digest == self.computed()

    def at_position(self, position: int) -> Self:
        """Return the entry as it would stand at another position."""
        return self._with("position", position.to_bytes(8, "big", signed=True))

    def after(self, previous: bytes) -> Self:
        """Return the entry as it would follow another one."""
        return self._with("previous_digest", previous)

    def _with(self, name: str, value: bytes) -> Self:
        at = COLUMNS.index(name)
        return replace(self, values=(*self.values[:at], value, *self.values[at + 1 :]))

    def _computed_over_json(self) -> bytes | None:
        covered: dict[str, Any] = {name: self.text(name) for name in TEXTS}
        try:
            covered |= {"position": self.position, "actor_id": self.number("actor_id")}
            covered |= {"at": self.at.isoformat(), "details": json.loads(covered["details"])}
        except (ValueError, OverflowError):
            return None
        return sm3(self.previous + details_text(covered).encode())


def _packed(name: str, value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, datetime):
        value = (value - _EPOCH) // _MICROSECOND
    if isinstance(value, int):
        return value.to_bytes(_INTEGERS[name], "big", signed=True)
    return str(value).encode()
