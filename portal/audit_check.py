"""Walk the audit's chain in a database: the portal's own, or a copy that was restored elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from django.db import connection

from portal.core.audit_anchors import Anchor, AnchorFault, check_anchors, held_against
from portal.core.audit_findings import ChainFault, Reason
from portal.core.audit_forms import COLUMNS, COPY_HEADER, COPY_TRAILER, GENESIS
from portal.core.audit_walk import MOST_FAULTS, ChainReport, ChainWalk

_ROWS = (  # nothing in it comes from outside but a number
    f"COPY (SELECT {', '.join(COLUMNS)} FROM portal_auditentry WHERE position >= {{}} "  # noqa: S608
    "ORDER BY position) TO STDOUT (FORMAT BINARY)"
)
_ANCHORS = (
    "SELECT number, position, digest, entry_count, at, previous, public_key, signature "
    "FROM portal_auditanchor ORDER BY number"
)
_ANCHORED = "SELECT object_id FROM portal_auditentry WHERE action = 'audit.anchored'"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of chain and anchors found."""

    report: ChainReport
    faults: tuple[ChainFault, ...]
    anchor_faults: tuple[AnchorFault, ...] = ()
    anchors: int = 0

    @property
    def holds(self) -> bool:
        return not self.faults and not self.anchor_faults


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
    most_faults: int = MOST_FAULTS,
    progress: Callable[[int], None] = lambda checked: None,
) -> Verdict:
    """Walk the chain and hold it against its anchors and against `kept` ones that lay elsewhere."""
    stored = read_anchors(link)
    anchor_faults = [
        *check_anchors(stored, trusted=trusted),
        *check_anchors(kept, trusted=trusted, is_whole=False),
    ]
    doubtful = {fault.number for fault in anchor_faults}
    good = [anchor for anchor in (*stored, *kept) if anchor.number not in doubtful]
    marked = {anchor.position for anchor in good}
    report = walk(link, start=start, most_faults=most_faults, marked=marked, progress=progress)
    anchor_faults += _vanished(link, stored)
    faults = [*report.faults, *held_against(good, report, start=start)]
    return Verdict(report, tuple(faults), tuple(dict.fromkeys(anchor_faults)), len(stored) + len(kept))


def walk(
    link: psycopg.Connection[Any],
    *,
    start: int = 1,
    most_faults: int = MOST_FAULTS,
    marked: Collection[int] = (),
    progress: Callable[[int], None] = lambda checked: None,
) -> ChainReport:
    """Walk the chain from `start` as the database has it now."""
    previous = _digest_before(link, start)
    if previous is None:
        return ChainReport(0, start - 1, b"", (ChainFault(start - 1, Reason.MISSING),))
    with closing(rows(link, start)) as stream:
        return ChainWalk(start, previous, most_faults, marked, progress).run(stream)


def rows(link: psycopg.Connection[Any], start: int = 1) -> Generator[bytes]:
    """Yield the rows from `start` on as COPY sends them, one a message (protocol 3.0, CopyData)."""
    with link.cursor() as cursor, cursor.copy(_ROWS.format(int(start)).encode()) as copy:
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
