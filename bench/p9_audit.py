"""P9: the audit's chain verified out of PostgreSQL, and what writing it adds to bulk work."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from bench.compare import Comparison, Target, Variant
from bench.p5_bulk import FIELDS, Rows
from bench.world import empty, open_world

ENTRIES = 200_000
PEER_ENTRIES = 20_000
PEER, LIMIT = "model instances, json.dumps", "SM3 alone over the same bytes in memory"
CHUNKS, THREADS = 8, 2
OFF = "the same, audit off"
TICKS = 100  # a second, of /proc/<pid>/stat


def comparisons() -> Iterator[Comparison]:
    """Compare the walk with a plain one and with hashing alone; then bulk work with and without entries."""
    open_world("bench_audit")
    chain = Chain()
    variants = [
        Variant("ours", "audit_verify: COPY and walk", chain.walked),
        Variant("peer", PEER, chain.by_instances),
        Variant("limit", LIMIT, chain.hashed),
    ]
    title = f"{ENTRIES:,} audit entries verified, reading included"
    # The CPU time of this process and its backend together is what one core does, whoever else is busy.
    targets = [Target("", 100_000), Target(PEER, 3), Target(LIMIT, 0.3)]
    yield Comparison("P9", f"{title}; CPU of both processes", "entries", variants, targets, clock=both_cpu())
    yield Comparison("P9", title, "entries", variants, [Target(PEER, 3), Target(LIMIT, 0.3)])
    chain.clear()
    yield from _writing()


def both_cpu() -> Callable[[], float]:
    """Return a clock of the CPU time of this process and of its PostgreSQL backend; to 10 ms."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        path = Path(f"/proc/{cursor.fetchone()[0]}/stat")

    def seconds() -> float:
        fields = path.read_text().rpartition(")")[2].split()
        return time.process_time() + (int(fields[11]) + int(fields[12])) / TICKS

    return seconds


def _writing() -> Iterator[Comparison]:
    work = Bulk()
    clear = partial(empty, ("orders_cardholderrecord",))
    for title, run, least in (
        (f"{CHUNKS} chunks of {len(work.rows):,} records, one entry a chunk", work.chunks, 0.95),
        # Here a chunk also waits for the other's commit, at the lock: bare rows, ten times an intake's rate.
        (f"the same in each of {THREADS} threads at once", work.threads, 0.85),
    ):
        variants = [
            Variant("ours", "with the audit", run, clear),
            Variant("peer", OFF, partial(work.without_audit, run), clear),
        ]
        yield Comparison("P9", title, "records", variants, [Target(OFF, least)])


class Chain:
    """A chain of entries as services write them, and the ways to verify it."""

    def __init__(self) -> None:
        from django.db import connection

        from portal.core.audit_forms import COLUMNS, COPY_HEADER, COPY_TRAILER

        self.rows = list(_rows(ENTRIES))
        with connection.cursor() as cursor:
            copy_in = f"COPY portal_auditentry ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
            with cursor.cursor.copy(copy_in) as copy:
                copy.write(b"".join([COPY_HEADER, *self.rows, COPY_TRAILER]))
            cursor.execute("VACUUM ANALYZE portal_auditentry")

    def walked(self) -> int:
        """Verify as the command does."""
        from portal.audit_check import check, own_link

        with own_link() as link:
            verdict = check(link)
        assert verdict.holds
        return verdict.report.checked

    def by_instances(self) -> int:
        """Verify as Django would: an instance an entry, its columns as sorted JSON."""
        from portal.models import AuditEntry

        previous = b""
        entries = AuditEntry.objects.filter(position__lte=PEER_ENTRIES).order_by("position")
        for entry in entries.iterator(chunk_size=5000):
            covered = {
                "position": entry.position,
                "at": entry.at.isoformat(),
                "actor": [entry.actor_id, entry.actor_name, entry.organisation_code, entry.address],
                "object": [entry.object_type, entry.object_id, entry.object_label],
                "details": entry.details,
                "happened": [entry.action, entry.result],
            }
            text = json.dumps(covered, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
            previous = hashlib.new("sm3", previous + text.encode()).digest()
        return PEER_ENTRIES

    def hashed(self) -> int:
        """Hash what must be hashed, and nothing else."""
        from portal.core.audit_forms import DIGEST_FIELD
        from portal.core.crypto import sm3

        for row in self.rows:
            sm3(row[:-DIGEST_FIELD])
        return ENTRIES

    def clear(self) -> None:
        """Empty the table for the next comparison."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE portal_auditentry DISABLE TRIGGER USER")
            cursor.execute("TRUNCATE portal_auditentry")
            cursor.execute("ALTER TABLE portal_auditentry ENABLE TRIGGER USER")


class Bulk:
    """Chunks of records copied in, each a unit of work with its entry."""

    def __init__(self) -> None:
        source = Rows()
        self.model, self.rows = source.model, source.rows[:1000]
        self.many = [
            [_as_new(row, 1_000_000 * chunk + place) for place, row in enumerate(self.rows)]
            for chunk in range(CHUNKS * THREADS)
        ]

    def chunks(self, first: int = 0) -> int:
        """Write CHUNKS chunks one after the other."""
        from portal.audit import unit_of_work
        from portal.bulk import copy_rows

        for rows in self.many[first : first + CHUNKS]:
            with unit_of_work(None) as work:
                copy_rows(self.model, FIELDS, rows)
                work.record("package.checked", None, accepted=len(rows), returned=0)
        return CHUNKS * len(self.rows)

    def threads(self) -> int:
        """Let several write at once: they meet at the chain's lock."""
        from django.db import connections

        def run(number: int) -> None:
            self.chunks(number * CHUNKS)
            connections.close_all()

        threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return THREADS * CHUNKS * len(self.rows)

    def without_audit(self, run: Any) -> int:
        """Do the same with nothing written to the chain; there is no such switch but here."""
        with mock.patch("portal.audit._append", return_value=None):
            return int(run())


def _as_new(row: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    """Return the row as another person's."""
    values = dict(zip(FIELDS, row, strict=True)) | {"row_number": number}
    values |= {"number_index": os.urandom(32), "card_number_index": os.urandom(32)}
    return tuple(values.values())


def _rows(count: int) -> Iterator[bytes]:
    from portal.core.audit_forms import GENESIS, details_text, pack

    begin, previous = datetime(2026, 1, 1, tzinfo=UTC), GENESIS
    for number in range(1, count + 1):
        details = {
            "before": "approved",
            "after": "released",
            "reason": "按计划下达",
            "person": hashlib.sha256(str(number).encode()).hexdigest(),
        }
        actor, label = f"clerk{number % 50}", f"DD20261123-ICBC-F-{number % 999:03d}"
        words = (actor, "HRSS", "192.0.2.7", "batch.released", "production.batch", str(number), label)
        row, previous = pack(
            previous=previous,
            position=number,
            at=begin + timedelta(seconds=number),
            actor_id=number % 50,
            texts=(*words, details_text(details), "done"),
        )
        yield row
