"""What people do with records: correct returned ones, list them, see one unmasked (R-9, R-45)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from django.db.models import F
from django.utils import timezone

from orders.choices import PackageStatus, RecordStatus
from orders.dictionary import COLUMN_CODES, LABELS
from orders.models import CardholderRecord, Package
from orders.models.records import OPEN
from orders.payloads import PhotoPlace, payload_reader
from orders.personal import (
    PersonalPart,
    masked_name,
    masked_number,
    number_index,
    open_account,
    open_name,
    open_number,
    open_personal,
    open_problems,
    open_source,
    photo_context,
    photo_place,
    read_photo,
    read_photo_of,
)
from orders.services.drafts import (
    Draft,
    draft_cipher,
    insert_accepted,
    load_rules,
    open_problem,
    places_of,
)
from orders.services.intake import hold_open_records
from orders.services.packages import undone_on_error
from orders.services.refusals import (
    AlreadyInProductionError,
    ColumnUnknownError,
    CorrectionRefusedError,
    NothingChangedError,
    ReasonMissingError,
)
from orders.validation import validate_row
from portal import files
from portal.audit import unit_of_work
from portal.bulk import next_ids
from portal.core import clock
from portal.core.errors import TransitionRefusedError
from portal.core.sheets_write import Column, write_list
from portal.models import User
from portal.roles import require
from portal.texts import told, told_columns
from portal.workflow import locked, move

# Cells whose values the audit keeps: they say nothing of the person.
_TOLD_IN_AUDIT = frozenset("AAE008 branch issue_kind card_kind issue_date expiry_date".split())
_RETURN_COLUMNS = (
    Column("行号", 8),
    Column("社会保障号码", 22),
    Column("姓名", 12),
    Column("字段", 12),
    Column("字段代码", 14),
    Column("问题代码", 24),
    Column("应为", 36),
    Column("实为", 36),
)


@dataclass(frozen=True, slots=True, repr=False)
class Unmasked:
    """What a person with permission sees of a record; `personal` is None for returned ones."""

    number: str
    name: str
    account: str
    personal: PersonalPart | None


def unmask_record(record: CardholderRecord, *, actor: User, reason: str) -> Unmasked:
    """Show a record's personal values to a person who says why; the look itself is an event."""
    require(actor, "orders.unmask_record", record)
    reason = _reason(reason)
    with unit_of_work(actor) as work:
        personal = open_personal(record) if record.personal_sealed is not None else None
        shown = Unmasked(open_number(record), open_name(record), open_account(record), personal)
        work.record("record.unmasked", record, reason=reason, person=bytes(record.number_index).hex())
    return shown


def correct_record(
    record: CardholderRecord,
    *,
    changes: Mapping[str, str],
    photo: bytes | None = None,
    actor: User,
    reason: str,
) -> CardholderRecord:
    """Enter a returned row again with some cells or the photo corrected (补录), as its next version.

    Raises CorrectionRefusedError with what is still wrong, or AlreadyInProductionError; nothing changes then.
    """
    require(actor, "orders.correct_record", record)
    reason = _reason(reason)
    unknown = sorted(set(changes) - set(COLUMN_CODES))
    if unknown:
        raise ColumnUnknownError("没有这一列", where=unknown[0][:40])
    with undone_on_error() as undo, unit_of_work(actor) as work:
        package = locked(record.package)
        if package.status != PackageStatus.VALIDATED:
            raise TransitionRefusedError(
                "数据包校验完成后才能补录",
                expected=str(PackageStatus.VALIDATED.label),
                got=str(package.get_status_display()),
            )
        old = move(record, RecordStatus.SUPERSEDED, actor=actor)
        draft = _corrected(old, changes, photo, actor)
        if photo is not None:
            _store_photo(draft, package, photo, undo)
        corrected = _insert(draft, package)
        _recount(package)
        work.record(
            "record.corrected",
            corrected,
            reason=reason,
            fields=sorted(changes) + (["photo"] if photo is not None else []),
            version=corrected.version,
            person=bytes(corrected.number_index).hex(),
            **_before_and_after(open_source(old), changes),
            **_other_person(old, corrected),
        )
    return corrected


def _before_and_after(source: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, Any]:
    """Return the changed cells that name no person; of the others the audit keeps the column only."""
    told = sorted(set(changes) & _TOLD_IN_AUDIT)
    if not told:
        return {}
    return {
        "before": {code: source.get(code, "") for code in told},
        "after": {code: changes[code] for code in told},
    }


def _other_person(old: CardholderRecord, corrected: CardholderRecord) -> dict[str, Any]:
    """Return the pseudonym the record had, where its number was changed."""
    before, after = bytes(old.number_index), bytes(corrected.number_index)
    return {} if before == after else {"person_before": before.hex()}


def _corrected(old: CardholderRecord, changes: Mapping[str, str], photo: bytes | None, actor: User) -> Draft:
    source = open_source(old)
    wanted = source | dict(changes)
    if wanted == source and photo is None:
        raise NothingChangedError("没有改动任何内容")
    index = number_index(wanted["AAC002"])
    place = None if photo is not None else _place(old, index)
    image = photo if photo is not None else _image(old, place, wanted["AAC002"])
    checked = validate_row(wanted, photo=image, rules=load_rules())
    if checked.values is None:
        raise CorrectionRefusedError(checked.problems)
    (record_id,) = next_ids(CardholderRecord, 1)
    draft = Draft(old.row_number, wanted, index, checked.values, (), checked.values.bank_id, place)
    draft.record_id, draft.version, draft.corrected_by_id = record_id, old.version + 1, actor.pk
    draft.in_ring = old.in_ring
    if photo is None and place == photo_place(old):
        draft.photo_name = old.photo_name
    return draft


def _store_photo(draft: Draft, package: Package, photo: bytes, undo: ExitStack) -> None:
    """Keep a corrected photo in a file of its own, under the key its record has."""
    draft.photo_name = f"packages/{package.pk}/photos/{draft.record_id}.bin"
    undo.callback(files.remove, draft.photo_name)
    if draft.in_ring:
        cipher = draft_cipher(package, draft)
        blob = cipher.seal(photo, photo_context(package.pk, draft.row_number))
        draft.place = PhotoPlace(0, len(blob), len(photo), 0, 0)
        with files.store(draft.photo_name) as plain:
            plain.write(blob)
        return
    with files.write_sealed(draft.photo_name, package.key_id) as target:
        target.write(photo)


def _place(old: CardholderRecord, index: bytes) -> PhotoPlace | None:
    """Find the photo named by the corrected number, else keep the one the wrong number had."""
    if old.in_ring:  # the package's payload is gone, or about to go
        return photo_place(old)
    return places_of(old.package, [index]).get(index) or photo_place(old)


def _image(old: CardholderRecord, place: PhotoPlace | None, number: str) -> bytes | None:
    if place is None or place == photo_place(old):
        return read_photo(old)
    return read_photo_of(payload_reader(old.package), place, number)


def _insert(draft: Draft, package: Package) -> CardholderRecord:
    hold_open_records()
    if not insert_accepted(package, [draft], timezone.now()):
        person = CardholderRecord.objects.filter(number_index=draft.number_index, status__in=OPEN).exists()
        found = open_problem(person=person)
        raise AlreadyInProductionError("该人员或卡号已有在制记录", where=found.field, expected=found.expected)
    return CardholderRecord.objects.select_related("package").get(pk=draft.record_id)


def _recount(package: Package) -> None:
    # Accepted rows may be destroyed already with their batches: they are what is not returned of the whole.
    returned = package.records.filter(status=RecordStatus.RETURNED).count()
    Package.objects.filter(pk=package.pk).update(
        accepted_count=F("record_count") - returned, returned_count=returned
    )


def return_list(package: Package, target: Path | BinaryIO, *, actor: User) -> int:
    """Write the returned rows of a package for its sender: row, field, expected, got; return the lines.

    Holds what was received, unmasked, so that the sender can find it: taking it is an audited export.
    """
    require(actor, "orders.export_returns", package)
    with unit_of_work(actor) as work:
        records = (
            CardholderRecord.objects.filter(package=package, status=RecordStatus.RETURNED)
            .select_related("package")
            .order_by("row_number")
        )
        lines = write_list(
            target,
            title=told(f"制卡数据包 {package.number} 退回清单"),
            columns=told_columns(_RETURN_COLUMNS),
            rows=_return_rows(records.iterator(chunk_size=1000)),
            header_lines=[told(f"导出人：{actor}　导出时间：{clock.format_moment(clock.now())}")],
            sheet_name=told("退回清单"),
        )
        work.record("package.returns_exported", package, records=records.count(), lines=lines)
    return lines


def _return_rows(records: Iterator[CardholderRecord]) -> Iterator[list[str | int]]:
    for record in records:
        who = (str(record.row_number), masked_number(record), masked_name(record))
        for problem in open_problems(record):
            field = told(LABELS.get(problem.field, problem.field))
            yield [*who, field, problem.field, problem.code, told(problem.expected), problem.got]


def _reason(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise ReasonMissingError("请填写理由")
    return reason[:200]
