"""Walk the audit's chain in a database: the portal's own, or a copy that was restored elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import psycopg
from django.conf import settings
from django.db import connection

from portal.core.audit_anchors import Anchor, AnchorFault
from portal.core.audit_file import Verdict, judge
from portal.core.audit_findings import ChainFault, Reason
from portal.core.audit_forms import COLUMNS, COPY_HEADER, COPY_TRAILER, GENESIS
from portal.core.audit_marks import AuditMarks, Mark, held_by_marks, joined
from portal.core.audit_walk import MOST_FAULTS, ChainReport, ChainWalk

MAX_POSITION = 2**63 - 1
MARKS = "audit-marks"
_ROWS = (  # nothing in it comes from outside but a number
    f"COPY (SELECT {', '.join(COLUMNS)} FROM portal_auditentry "  # noqa: S608
    "WHERE position BETWEEN {} AND {} ORDER BY position) TO STDOUT (FORMAT BINARY)"
)
_ANCHORS = (
    "SELECT number, position, digest, entry_count, at, previous, public_key, signature "
    "FROM portal_auditanchor ORDER BY number"
)
_ANCHORED = "SELECT object_id FROM portal_auditentry WHERE action = 'audit.anchored'"


def audit_marks() -> AuditMarks:
    """Return the marks of the portal's own chain, which lie beside the keys and outside the database."""
    return AuditMarks(Path(settings.KEYSTORE_DIR) / MARKS)


@contextmanager
def own_link() -> Iterator[psycopg.Connection[Any]]:
    """Give the portal's own connection."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        yield cast("psycopg.Connection[Any]", connection.connection)


@contextmanager
def copy_link(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect to a copy, for reading only and with one view of it throughout."""
    with psycopg.connect(database_url) as link:
        link.read_only = True
        link.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield link


def check(
    link: psycopg.Connection[Any],
    *,
    start: int = 1,
    trusted: Collection[bytes] | None = None,
    kept: Sequence[Anchor] = (),
    marks: Sequence[Mark] = (),
    most_faults: int = MOST_FAULTS,
    progress: Callable[[int], None] = lambda checked: None,
) -> Verdict:
    """Walk the chain and hold it against its anchors, `kept` ones that lay elsewhere and `marks` of its end.

    `trusted` are the public keys whose anchors count; None takes each anchor's own for it. Marks must have
    been read before: what is written meanwhile is then not missed.
    """
    stored = read_anchors(link)
    previous = _digest_before(link, start)
    if previous is None:
        return Verdict(ChainReport(0, start - 1, b""), (ChainFault(start - 1, Reason.MISSING),))
    chain = ChainWalk(start, previous, most_faults, progress=progress)
    with closing(rows(link, start)) as stream:
        verdict = judge(stream, chain, own=stored, kept=kept, trusted=trusted, marks=marks)
    vanished = [fault for fault in _vanished(link, stored) if fault not in verdict.anchor_faults]
    return replace(verdict, anchor_faults=(*verdict.anchor_faults, *vanished))


def walk(link: psycopg.Connection[Any], *, start: int = 1, most_faults: int = MOST_FAULTS) -> ChainReport:
    """Walk the chain from `start` as the database has it now, without its anchors."""
    previous = _digest_before(link, start)
    if previous is None:
        return ChainReport(0, start - 1, b"", (ChainFault(start - 1, Reason.MISSING),))
    return walk_after(link, position=start - 1, digest=previous, most_faults=most_faults)


def walk_after(
    link: psycopg.Connection[Any],
    *,
    position: int,
    digest: bytes,
    most_faults: int = MOST_FAULTS,
    marks: Sequence[Mark] = (),
) -> ChainReport:
    """Walk what follows a position whose digest is known from elsewhere; marks speak after the chain."""
    walking = ChainWalk(position + 1, digest, most_faults, {mark.position for mark in marks})
    with closing(rows(link, position + 1)) as stream:
        report = walking.run(stream)
    faults = joined([*report.faults, *held_by_marks(marks, report, start=position + 1)], report)
    return replace(report, faults=faults[:most_faults])


def rows(link: psycopg.Connection[Any], start: int = 1, last: int = MAX_POSITION) -> Generator[bytes]:
    """Yield the rows from `start` to `last` as COPY sends them, one a message (protocol 3.0, CopyData)."""
    with link.cursor() as cursor, cursor.copy(_ROWS.format(int(start), int(last)).encode()) as copy:
        for message in copy:
            row = bytes(message).removeprefix(COPY_HEADER)
            if row and row != COPY_TRAILER:
                try:
                    yield row
                except GeneratorExit:
                    # Whoever stops early lets the rest pass by: a cancelled COPY would end the transaction.
                    deque(copy, maxlen=0)
                    raise


def read_anchors(link: psycopg.Connection[Any]) -> list[Anchor]:
    """Return the stored anchors by number."""
    with link.cursor() as cursor:
        cursor.execute(_ANCHORS)
        return [Anchor(*row) for row in cursor]


def _digest_before(link: psycopg.Connection[Any], start: int) -> bytes | None:
    if start == 1:
        return GENESIS
    with link.cursor() as cursor:
        cursor.execute("SELECT digest FROM portal_auditentry WHERE position = %s", [start - 1])
        found = cursor.fetchone()
    return bytes(found[0]) if found else None


def _vanished(link: psycopg.Connection[Any], stored: Sequence[Anchor]) -> list[AnchorFault]:
    """Name anchors whose signing is in the chain although they are gone."""
    known = {anchor.number for anchor in stored}
    with link.cursor() as cursor:
        cursor.execute(_ANCHORED)
        signed = {int(row[0]) for row in cursor if row[0].isdigit()}
    if not signed - known:
        return []
    known |= {anchor.number for anchor in read_anchors(link)}  # one may have been signed meanwhile
    return [AnchorFault(number, "missing") for number in sorted(signed - known)]
