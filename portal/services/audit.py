"""What auditors do with the audit: verify it, take it out, look for a person; all are events themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar

from django.db import connection

from portal.audit import unit_of_work
from portal.audit_check import MAX_POSITION, audit_marks, check, own_link, rows
from portal.core import audit_anchors, audit_file
from portal.core.audit_file import Verdict
from portal.core.audit_forms import Entry
from portal.core.clock import CITY_ZONE, format_moment, now
from portal.core.errors import InputRefusedError
from portal.core.idnumbers import index_form
from portal.core.sheets_write import MAX_ROWS, Column, write_list
from portal.files import blind_index, portal_key
from portal.models import AuditAnchor, AuditEntry, User
from portal.roles import require
from portal.texts import told, told_columns

# Each step looks up the next larger action in its index: as many probes as there are actions.
_ACTIONS = """
WITH RECURSIVE seen AS (
    (SELECT action FROM portal_auditentry ORDER BY action LIMIT 1)
    UNION ALL
    SELECT (SELECT action FROM portal_auditentry WHERE action > seen.action ORDER BY action LIMIT 1)
    FROM seen WHERE seen.action IS NOT NULL
)
SELECT action FROM seen WHERE action IS NOT NULL
"""
MOST_EXCEL_ROWS = MAX_ROWS - 10
_WIDTHS = (9, 33, 14, 10, 16, 28, 22, 10, 30, 60, 9, 9, 9, 24, 24)


class AuditRangeError(InputRefusedError):
    """A period that no entry lies in, or one with more entries than the format holds."""

    code: ClassVar[str] = "audit_range"


def trusted_keys() -> frozenset[bytes]:
    """Return the public keys whose anchors the portal believes: its own."""
    return frozenset({portal_key().public.raw})


def verify_audit(*, actor: User) -> Verdict:
    """Walk the whole chain, hold it against its anchors, and audit the walk."""
    require(actor, "portal.view_auditentry")
    marks = audit_marks().read()
    with own_link() as link:
        verdict = check(link, trusted=trusted_keys(), marks=marks)
    with unit_of_work(actor) as work:
        work.record(
            "audit.verified",
            None,
            result="done" if verdict.holds else "failed",
            checked=verdict.report.checked,
            anchors=verdict.anchors,
            faults=verdict.found()[:10],
        )
    return verdict


def export_audit(
    *, begins_on: dt.date | None = None, ends_on: dt.date | None = None, actor: User
) -> Iterator[tuple[str, ...]]:
    """Return the heading and the entries of a period as cells, oldest first; an audited export.

    What is returned can be verified without the portal (`script/verify_audit.py`).
    """
    require(actor, "portal.view_auditentry")
    first, last = _range(begins_on, ends_on)
    _record_export(actor, "csv", first, last)
    return _cells(first, last)


def write_audit_list(
    target: Path | BinaryIO,
    *,
    begins_on: dt.date | None = None,
    ends_on: dt.date | None = None,
    actor: User,
) -> int:
    """Write the entries of a period as an Excel list for reading; return how many; an audited export."""
    require(actor, "portal.view_auditentry")
    first, last = _range(begins_on, ends_on)
    if last - first + 1 > MOST_EXCEL_ROWS:
        raise AuditRangeError(
            "一张 Excel 表放不下这么多条，请缩短时间段或导出 CSV",
            expected=f"不超过 {MOST_EXCEL_ROWS:,} 条",
            got=f"{last - first + 1:,} 条",
        )
    _record_export(actor, "xlsx", first, last)
    columns = [Column(*pair) for pair in zip(audit_file.HEADINGS, _WIDTHS, strict=True)]
    lines = _cells(first, last)
    next(lines)
    return write_list(
        target,
        title=told("审计记录"),
        columns=told_columns(columns),
        rows=lines,
        header_lines=[told(f"导出人：{actor}　导出时间：{format_moment(now())}")],
        sheet_name=told("审计记录"),
    )


def export_anchors(*, actor: User) -> str:
    """Return all anchors as a file to be kept elsewhere: what is proved by it cannot be taken back here."""
    require(actor, "portal.view_auditentry")
    anchors = [row.anchor() for row in AuditAnchor.objects.order_by("number")]
    if not anchors:
        raise AuditRangeError("尚未签署锚点")
    with unit_of_work(actor) as work:
        work.record("audit.anchors_exported", None, anchors=len(anchors), last=anchors[-1].number)
    return audit_anchors.written(anchors)


def person_pseudonym(number: str, *, actor: User) -> str:
    """Return what entries about a person carry instead of the number, and audit who asked for whom."""
    require(actor, "portal.view_auditentry")
    wanted = index_form(number)
    if not wanted:
        raise InputRefusedError("请填写社会保障号码")
    person = pseudonym(wanted)
    with unit_of_work(actor) as work:
        work.record("audit.person_searched", None, person=person)
    return person


def pseudonym(number: str) -> str:
    """Return the blind index of a social security number as entries carry it (`person`)."""
    # The same rule as the number_index column of records: the kind keeps numbers and accounts apart.
    return blind_index().of(f"number:{index_form(number)}").hex()


def actions_seen() -> list[str]:
    """Return every action that stands in the audit."""
    with connection.cursor() as cursor:
        cursor.execute(_ACTIONS)
        return [row[0] for row in cursor.fetchall()]


def _record_export(actor: User, form: str, first: int, last: int) -> None:
    with unit_of_work(actor) as work:
        work.record("audit.exported", None, format=form, first=first, last=last)


def _range(begins_on: dt.date | None, ends_on: dt.date | None) -> tuple[int, int]:
    """Return the positions of a period, both days counted: a whole stretch, so that it verifies."""
    entries = AuditEntry.objects.all()
    if begins_on:
        entries = entries.filter(at__gte=dt.datetime.combine(begins_on, dt.time(), CITY_ZONE))
    if ends_on:
        entries = entries.filter(at__lt=dt.datetime.combine(ends_on + dt.timedelta(1), dt.time(), CITY_ZONE))
    positions = entries.values_list("position", flat=True)
    first, last = positions.order_by("at").first(), positions.order_by("-at").first()
    if first is None or last is None:
        raise AuditRangeError("这段时间没有审计记录")
    return min(first, last), max(first, last)


def _cells(first: int, last: int = MAX_POSITION) -> Iterator[tuple[str, ...]]:
    yield tuple(map(told, audit_file.HEADINGS))
    with own_link() as link:
        for row in rows(link, first, last):
            yield audit_file.cells(Entry.parse(row))
