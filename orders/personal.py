"""The personal columns of cardholder records: sealed, opened, masked and found by blind index (R-22, R-45).

Each value is SM4-GCM under its package's key, or from the package's first destruction on under the person's
own key in the package's ring, and tied to its record, version and column, so a value copied elsewhere does
not open. Select records with `select_related("package")`: the keys' ids stand there.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeVar

import orjson

from orders.models import CardholderRecord, Package
from orders.payloads import PhotoPlace, payload_reader, read_photo_at, read_stored_at
from orders.validation import NormalisedRecord
from portal import files, keyrings
from portal.core.crypto import BlindIndex, FieldCipher, TamperedError
from portal.core.idnumbers import index_form, mask_number, normalise_number
from portal.core.key_refusals import KeyDestroyedError, KeyMissingError
from portal.core.names import mask_name, normalise_name
from portal.core.problems import Problem
from portal.core.seal import SealedReader

T = TypeVar("T")
Column = Literal["number", "name", "personal", "account", "problems", "source"]

PHOTO_FOLDER = "photos/"
_DATES = frozenset({"birth_on", "issue_on", "expires_on"})
_MOVED = (
    "in_ring", "number_sealed", "name_sealed", "personal_sealed", "account_sealed", "problems_sealed",
    "source_sealed", "photo_name", "photo_offset", "photo_stored_size", "photo_size", "photo_method",
    "photo_crc",
)  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class PersonalPart:
    """What is personal besides number, name and account; its repr shows none of it."""

    sex: str
    ethnicity: str
    birth_on: dt.date
    document_kind: str
    document_type: str
    area: str
    employer_name: str
    card_number: str
    issue_on: dt.date
    expires_on: dt.date

    @classmethod
    def of(cls, values: NormalisedRecord) -> PersonalPart:
        """Take the part out of a checked row."""
        return cls(*_part_values(values))

    def to_json(self) -> str:
        """Return compact JSON, dates as YYYY-MM-DD."""
        return orjson.dumps(self).decode()

    @classmethod
    def from_json(cls, text: str) -> PersonalPart:
        """Read what `to_json` wrote."""
        values = orjson.loads(text)
        return cls(**values | {name: dt.date.fromisoformat(values[name]) for name in _DATES})


_PART_NAMES = tuple(field.name for field in fields(PersonalPart))
_part_values = attrgetter(*_PART_NAMES)


def context(record_id: int, version: int, column: str) -> bytes:
    """Return the associated data of one column of one version of one record."""
    return f"orders.cardholderrecord/{record_id}/{version}/{column}".encode()


def seal(cipher: FieldCipher, record_id: int, version: int, column: Column, text: str) -> bytes:
    """Seal one value for a record that need not exist yet; for bulk work with the cipher at hand."""
    return cipher.seal(text.encode("utf-8", "surrogatepass"), context(record_id, version, column))


def row_cipher(
    package_id: int, key_id: str, ring_key_id: str, row_number: int, *, in_ring: bool
) -> FieldCipher:
    """Return the cipher of one row of a package; for bulk work that has plain columns at hand."""
    if in_ring:
        return keyrings.live_cipher(Package, package_id, ring_key_id, row_number)
    return files.cipher(key_id)


class RowKey(NamedTuple):
    """What opens a record's columns, in the order of KEY_COLUMNS; for bulk work that builds no records."""

    id: int
    version: int
    row_number: int
    in_ring: bool
    package_id: int
    key_id: str
    ring_key_id: str

    def cipher(self) -> FieldCipher:
        """Return the row's cipher; raises KeyDestroyedError once its key is destroyed."""
        ids = (self.package_id, self.key_id, self.ring_key_id, self.row_number)
        return row_cipher(*ids, in_ring=self.in_ring)

    def open(self, column: Column, blob: bytes | None) -> str:
        """Return one value; what was sealed anew since it was selected is selected again.

        Raises KeyDestroyedError, KeyMissingError or TamperedError.
        """
        try:
            return unseal(self.cipher(), self.id, self.version, column, blob)
        except (KeyDestroyedError, KeyMissingError):
            record = CardholderRecord.objects.select_related("package").filter(pk=self.id).first()
            if record is None:  # destroyed, not moved
                raise
            return open_column(record, column)


KEY_COLUMNS = (
    "id", "version", "row_number", "in_ring", "package_id", "package__key_id", "package__ring_key_id",
)  # fmt: skip


def record_cipher(record: CardholderRecord) -> FieldCipher:
    """Return the cipher of a record's sealed columns; raises KeyDestroyedError once its key is destroyed."""
    package = record.package
    ids = (package.pk, package.key_id, package.ring_key_id, record.row_number)
    return row_cipher(*ids, in_ring=record.in_ring)


def seal_column(record: CardholderRecord, column: Column, text: str) -> bytes:
    """Seal one value for an existing record under its own cipher."""
    return seal(record_cipher(record), record.pk, record.version, column, text)


def unseal(cipher: FieldCipher, record_id: int, version: int, column: Column, blob: bytes | None) -> str:
    """Return one value from its columns, "" where there is none; for bulk work that builds no records."""
    if blob is None:
        return ""
    return cipher.open(bytes(blob), context(record_id, version, column)).decode("utf-8", "surrogatepass")


def open_column(record: CardholderRecord, column: Column) -> str:
    """Return one value, "" where the record has none; raises KeyDestroyedError or TamperedError."""
    if getattr(record, f"{column}_sealed") is None:  # before the key is asked for, which may be gone
        return ""

    def opened() -> str:
        blob = getattr(record, f"{column}_sealed")
        return unseal(record_cipher(record), record.pk, record.version, column, blob)

    return _with_present_key(record, opened)


def _with_present_key(record: CardholderRecord, read: Callable[[], T]) -> T:
    """Read, and once more if the record was sealed anew since it was selected (a destruction of others)."""
    try:
        return read()
    except (KeyDestroyedError, KeyMissingError):
        if not _reselected(record):
            raise
        return read()


def _reselected(record: CardholderRecord) -> bool:
    """Take over where a record's values stand now; say whether that is elsewhere than it knew."""
    now = CardholderRecord.objects.filter(pk=record.pk).select_related("package").first()
    if now is None or now.in_ring == record.in_ring:
        return False
    record.package = now.package
    for name in _MOVED:
        setattr(record, name, getattr(now, name))
    return True


def seal_columns(
    cipher: FieldCipher, record_id: int, version: int, *, number: str, name: str, personal: PersonalPart
) -> tuple[bytes, bytes, bytes]:
    """Seal number, name and personal part, in this order."""
    return (
        seal(cipher, record_id, version, "number", number),
        seal(cipher, record_id, version, "name", name),
        seal(cipher, record_id, version, "personal", personal.to_json()),
    )


def open_number(record: CardholderRecord) -> str:
    """Return the social security number; never show it unmasked but through `unmask_record`."""
    return open_column(record, "number")


def open_name(record: CardholderRecord) -> str:
    """Return the name."""
    return open_column(record, "name")


def open_account(record: CardholderRecord) -> str:
    """Return the bank account, "" before matching."""
    return open_column(record, "account")


def open_personal(record: CardholderRecord) -> PersonalPart:
    """Return the personal part of an accepted record."""
    return PersonalPart.from_json(open_column(record, "personal"))


def open_source(record: CardholderRecord) -> dict[str, str]:
    """Return a returned row by column code, as it was received."""
    text = open_column(record, "source")
    return dict(json.loads(text)) if text else {}


def open_problems(record: CardholderRecord) -> list[Problem]:
    """Return what is wrong with a returned record."""
    text = open_column(record, "problems")
    return [Problem(*found) for found in json.loads(text)] if text else []


def problems_text(problems: Iterable[Problem]) -> str:
    """Write findings for sealing."""
    return _compact([(found.field, found.code, found.expected, found.got) for found in problems])


def source_text(source: dict[str, str]) -> str:
    """Write a row by column code for sealing."""
    return _compact(source)


def masked_number(record: CardholderRecord) -> str:
    """Return the number as lists show it: `4406**********1234`."""
    return mask_number(open_number(record))


def masked_name(record: CardholderRecord) -> str:
    """Return the name as lists show it: `张*三`."""
    return mask_name(open_name(record))


def number_index(number: str, indexer: BlindIndex | None = None) -> bytes:
    """Return the blind index of a number in any spelling (R-45); bulk work has the indexer at hand."""
    return _index("number", index_form(number), indexer)


def name_index(name: str, indexer: BlindIndex | None = None) -> bytes:
    """Return the blind index of a name; Latin names are equal whatever their case (R-12)."""
    return _index("name", normalise_name(name).upper(), indexer)


def card_number_index(card_number: str, indexer: BlindIndex | None = None) -> bytes:
    """Return the blind index of a social security card number (AAZ500)."""
    return _index("card_number", index_form(card_number), indexer)


def account_index(account: str) -> bytes:
    """Return the blind index of a bank account in any spelling."""
    return _index("account", index_form(account))


def _index(kind: str, value: str, indexer: BlindIndex | None = None) -> bytes:
    # The kind keeps equal texts of different columns apart: an account is never found as a number.
    return (indexer or files.blind_index()).of(f"{kind}:{value}")


def photo_place(record: CardholderRecord) -> PhotoPlace | None:
    """Return where the record's photo lies in its package, if it does."""
    offset, stored, size = record.photo_offset, record.photo_stored_size, record.photo_size
    method, crc = record.photo_method, record.photo_crc
    if offset is None or stored is None or size is None or method is None or crc is None:
        return None
    return PhotoPlace(offset, stored, size, method, crc)


def photo_context(package_id: int, row_number: int) -> bytes:
    """Return the associated data of a photo sealed under its person's own key, whatever the version."""
    return f"orders.package/{package_id}/{row_number}/photo".encode()


def read_photo(record: CardholderRecord) -> bytes | None:
    """Return the record's photo: its own corrected one, else the one in the package, else None."""
    return _with_present_key(record, lambda: _read_photo(record))


def _read_photo(record: CardholderRecord) -> bytes | None:
    place = photo_place(record)
    if record.in_ring:
        if place is None:
            return None
        cipher = record_cipher(record)  # before the file, which goes with its last person
        sealed = read_stored_at(record.photo_name, place.offset, place.compressed_size)
        return cipher.open(sealed, photo_context(record.package_id, record.row_number))
    if record.photo_name:
        with files.read_sealed(record.photo_name, record.package.key_id) as photo:
            return photo.readall()
    return read_photo_at(payload_reader(record.package), place)[1] if place else None


def read_photo_of(payload: SealedReader, place: PhotoPlace, number: str) -> bytes:
    """Return the photo at `place`; raise TamperedError unless it is named by this number."""
    name, photo = read_photo_at(payload, place)
    if normalise_number(photo_number(name)) != normalise_number(number):
        raise TamperedError("照片与登记的位置不符", where=f"第 {place.offset} 字节")
    return photo


def photo_number(name: str) -> str:
    """Return the number a photo's file is named by: `photos/<number>.jpg`."""
    return name.removeprefix(PHOTO_FOLDER).rpartition(".")[0]


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
