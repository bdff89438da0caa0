"""From a row of a package to its record: validate, find the photo, seal, insert (R-9, R-12, R-17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db import IntegrityError
from django.utils import timezone

from orders.choices import RecordStatus
from orders.dictionary import ROW
from orders.models import CardholderRecord, DeliveryPoint, Package, PackagePhoto
from orders.models.records import OPEN
from orders.payloads import MAX_PHOTO_SIZE, PhotoPlace
from orders.personal import (
    PersonalPart,
    card_number_index,
    name_index,
    problems_text,
    read_photo_of,
    row_cipher,
    seal,
    seal_columns,
    source_text,
)
from orders.services.chunks import SourceRow
from orders.validation import Checked, NormalisedRecord, Rules, validate_row
from portal import files
from portal.bulk import copy_insert, copy_rows, next_ids
from portal.choices import OrganisationKind
from portal.core import clock, images
from portal.core.crypto import FieldCipher
from portal.core.glyphs import default_chain
from portal.core.images import PhotoRule
from portal.core.problems import Problem
from portal.core.seal import SealedReader
from portal.core.ziprefusals import ZipRefusedError
from portal.models import Organisation

_UNREAD = {
    "bad_quoting": Problem(ROW, "row_quoting", "引号成对的一行"),
    "cell_too_long": Problem(ROW, "row_cell_too_long", "单元格不过长的一行"),
    "null_character": Problem(ROW, "row_null_character", "不含空字符的一行"),
}
_FIELDS = (
    "id package_id row_number version status problem_codes problems_sealed source_sealed number_index "
    "name_index card_number_index number_sealed name_sealed personal_sealed bank_id delivery_point_id "
    "employer_code issue_kind card_kind photo_offset photo_stored_size photo_size photo_method photo_crc "
    "photo_name unmatched_reason corrected_by_id created_at in_ring"
).split()
_RAW_LENGTH = 64


@dataclass(slots=True, repr=False)
class Draft:
    """One row on its way to a record; `values` only counts while there are no problems."""

    row_number: int
    source: dict[str, str]
    number_index: bytes
    values: NormalisedRecord | None
    problems: tuple[Problem, ...]
    bank_id: int | None
    place: PhotoPlace | None = None
    record_id: int = 0
    version: int = 1
    photo_name: str = ""
    corrected_by_id: int | None = None
    in_ring: bool = False


def load_rules() -> Rules:
    """Read what rows are held against: banks and delivery points of today, the photo's limits, the fonts."""
    banks = Organisation.objects.filter(kind=OrganisationKind.BANK, is_active=True)
    points = DeliveryPoint.objects.filter(is_active=True)
    return Rules(
        today=clock.today(),
        bank_codes=dict(banks.values_list("code", "id")),
        delivery_points={(bank, code): pk for pk, bank, code in points.values_list("id", "bank_id", "code")},
        photo=PhotoRule(min_bytes=settings.PHOTO_MIN_BYTES, max_bytes=settings.PHOTO_MAX_BYTES),
        fonts=default_chain(),
    )


def places_of(package: Package, indexes: Sequence[bytes]) -> dict[bytes, PhotoPlace]:
    """Return where the photos of these numbers lie."""
    found = PackagePhoto.objects.filter(package=package, number_index__in=indexes)
    columns = ("number_index", "offset", "compressed_size", "size", "method", "crc")
    return {bytes(index): PhotoPlace(*place) for index, *place in found.values_list(*columns)}


def examine(
    payload: SealedReader, row: SourceRow, index: bytes, place: PhotoPlace | None, rules: Rules
) -> Draft:
    """Check one row with its photo; hostile rows and broken photos yield problems, never an exception.

    `index` is the blind index of the row's number, `place` where its photo lies, if anywhere.
    """
    checked = _checked(payload, row, place, rules)
    problems = [*checked.problems]
    if row.first_row:
        got = f"与第{row.first_row}条重复"
        problems.append(Problem("AAC002", "duplicate_person", "同一数据包内每人只出现一次", got))
    source = row.source()
    bank_id = rules.bank_codes.get(source["AAE008"].strip())
    return Draft(row.number, source, index, checked.values, tuple(problems), bank_id, place)


def _checked(payload: SealedReader, row: SourceRow, place: PhotoPlace | None, rules: Rules) -> Checked:
    unread = _UNREAD.get(row.flaw)
    if unread is not None and not any(row.cells):
        return Checked(None, (unread,), row.number_text)
    photo, damaged = _photo(payload, place, row.number_text, rules)
    checked = validate_row(row.by_column(), photo=photo, rules=rules)
    if damaged is not None:  # the place is known, so the photo is not missing
        found = [problem for problem in checked.problems if problem.field != images.FIELD]
        checked = Checked(None, (*found, damaged), checked.number)
    return checked if unread is None else Checked(None, (*checked.problems, unread), checked.number)


def _photo(
    payload: SealedReader, place: PhotoPlace | None, number: str, rules: Rules
) -> tuple[bytes | None, Problem | None]:
    """Return the photo, or what keeps it from being read; a changed package raises TamperedError."""
    if place is None:
        return None, None
    if place.size > MAX_PHOTO_SIZE:
        expected = f"不超过{rules.photo.max_bytes}字节"
        return None, Problem(images.FIELD, "photo_too_large", expected, f"{place.size}字节")
    try:
        return read_photo_of(payload, place, number), None
    except ZipRefusedError:
        return None, Problem(images.FIELD, "photo_damaged", "完整的JPEG图像", "压缩包内校验不符")


def insert_drafts(package: Package, drafts: list[Draft]) -> None:
    """Write a record for each draft; who is in production already, in whatever package, is returned."""
    now = timezone.now()
    for draft, record_id in zip(drafts, next_ids(CardholderRecord, len(drafts)), strict=True):
        draft.record_id = record_id
    good = [draft for draft in drafts if not draft.problems]
    written = insert_accepted(package, good, now)
    refused = [draft for draft in good if draft.record_id not in written]
    _note_open(refused)
    returned = [draft for draft in drafts if draft.problems]
    writer = _RowWriter(package, now)
    copy_rows(CardholderRecord, _FIELDS, (writer.returned(draft) for draft in returned))


def insert_accepted(package: Package, drafts: Sequence[Draft], now: datetime) -> set[int]:
    """Insert good drafts as ACCEPTED; return the ids of those no open record stood in the way of."""
    writer = _RowWriter(package, now)
    ciphers = [writer.cipher(draft) for draft in drafts]  # the rows themselves may not ask the database
    try:  # Mostly nobody stands in the way, and then a plain COPY is enough; it runs while rows are sealed.
        copy_rows(CardholderRecord, _FIELDS, map(writer.accepted, drafts, ciphers))
    except IntegrityError:
        again = map(writer.accepted, drafts, ciphers)
        written = copy_insert(CardholderRecord, _FIELDS, again, on_conflict_do_nothing=True)
        return {record_id for (record_id,) in written}
    return {draft.record_id for draft in drafts}


def _note_open(refused: Sequence[Draft]) -> None:
    """Say of each refused draft what is in production already: the person, or only the card number."""
    people = CardholderRecord.objects.filter(
        number_index__in=[draft.number_index for draft in refused], status__in=OPEN
    )
    open_people = {bytes(index) for index in people.values_list("number_index", flat=True)}
    for draft in refused:
        draft.problems = (open_problem(person=draft.number_index in open_people),)


def open_problem(*, person: bool) -> Problem:
    """Return the finding about a person, or else a card number, that already has an open record."""
    if person:
        return Problem("AAC002", "already_in_production", "没有在制记录的人员")
    return Problem("AAZ500", "card_number_in_production", "没有在制记录的社会保障卡号")


def _photo_columns(draft: Draft) -> tuple[Any, ...]:
    place = draft.place
    if place is None:
        return (None, None, None, None, None, draft.photo_name)
    return (place.offset, place.compressed_size, place.size, place.method, place.crc, draft.photo_name)


def draft_cipher(package: Package, draft: Draft) -> FieldCipher:
    """Return the cipher of the record that a draft becomes."""
    ids = (package.pk, package.key_id, package.ring_key_id, draft.row_number)
    return row_cipher(*ids, in_ring=draft.in_ring)


class _RowWriter:
    """Write drafts as rows of one package; cipher and indexer are asked for once, not for every row."""

    def __init__(self, package: Package, now: datetime) -> None:
        self.package = package
        self.now = now
        self.indexer = files.blind_index()

    def accepted(self, draft: Draft, cipher: FieldCipher) -> tuple[Any, ...]:
        """Return the row of a draft without problems."""
        values = draft.values
        if values is None:
            raise ValueError("an accepted row has values")
        sealed = seal_columns(
            cipher,
            draft.record_id,
            draft.version,
            number=values.number,
            name=values.name,
            personal=PersonalPart.of(values),
        )
        return (
            *(draft.record_id, self.package.pk, draft.row_number, draft.version, RecordStatus.ACCEPTED.value),
            *([], None, None),
            draft.number_index,
            name_index(values.name, self.indexer),
            card_number_index(values.card_number, self.indexer),
            *sealed,
            *(values.bank_id, values.delivery_point_id, values.employer_code),
            *(values.issue_kind.value, values.card_kind.value),
            *_photo_columns(draft),
            *("", draft.corrected_by_id, self.now, draft.in_ring),
        )

    def returned(self, draft: Draft) -> tuple[Any, ...]:
        """Return the row of a draft that goes back, with its problems and what was received."""
        cipher, ids = self.cipher(draft), (draft.record_id, draft.version)
        number, name = (draft.source[code].strip()[:_RAW_LENGTH] for code in ("AAC002", "AAC003"))
        codes = list(dict.fromkeys(problem.code for problem in draft.problems))
        return (
            *(draft.record_id, self.package.pk, draft.row_number, draft.version, RecordStatus.RETURNED.value),
            codes,
            seal(cipher, *ids, "problems", problems_text(draft.problems)),
            seal(cipher, *ids, "source", source_text(draft.source)),
            *(draft.number_index, name_index(name, self.indexer), None),
            *(seal(cipher, *ids, "number", number), seal(cipher, *ids, "name", name), None),
            *(draft.bank_id, None, "", "", ""),
            *_photo_columns(draft),
            *("", None, self.now, draft.in_ring),
        )

    def cipher(self, draft: Draft) -> FieldCipher:
        """Return the cipher of the record that a draft becomes."""
        return draft_cipher(self.package, draft) if draft.in_ring else self._package_cipher

    @cached_property
    def _package_cipher(self) -> FieldCipher:
        return files.cipher(self.package.key_id)
