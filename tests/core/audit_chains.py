"""Chains of invented audit entries, in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from portal.core.audit_forms import COLUMNS, GENESIS, Entry, details_text, pack
from portal.core.audit_walk import ChainReport, ChainWalk

BEGIN = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def chain(count: int, first: int = 1, previous: bytes = GENESIS) -> list[Entry]:
    """Return `count` sound entries from position `first` on."""
    entries = []
    for position in range(first, first + count):
        row, previous = pack(
            previous=previous,
            position=position,
            at=BEGIN + timedelta(seconds=position),
            actor_id=position % 5 or None,
            texts=texts(position),
        )
        entries.append(Entry.parse(row))
    return entries


def texts(position: int, **other: str) -> tuple[str, ...]:
    """Return the texts of an entry in the order of the columns."""
    found = {
        "actor_name": f"clerk{position % 5}",
        "organisation_code": "HRSS",
        "address": "192.0.2.7",
        "action": "batch.released",
        "object_type": "production.batch",
        "object_id": str(position),
        "object_label": f"批次 {position}",
        "details": details_text({"before": "approved", "after": "released", "n": position}),
        "result": "done",
    } | other
    return tuple(found.values())


def walk(entries: list[Entry], **options: Any) -> ChainReport:
    """Walk entries in the order of their positions, as the database would send them."""
    return ChainWalk(**options).run(entry.raw() for entry in sorted(entries, key=lambda one: one.position))


def sealed_anew(entry: Entry) -> Entry:
    """Return the entry with the digest that fits it: what a forger who knows the rule would store."""
    digest = entry.computed()
    assert digest is not None
    return Entry((*entry.values[:-1], digest))


def chained_anew(entries: list[Entry], previous: bytes = GENESIS) -> list[Entry]:
    """Return entries chained from the start, whatever they say: a whole rewriting."""
    found: list[Entry] = []
    for entry in entries:
        found.append(sealed_anew(entry.after(previous)))
        previous = found[-1].digest
    return found


def changed(entry: Entry, column: str, value: bytes | None) -> Entry:
    """Return the entry with one column changed and the digest as it was."""
    at = COLUMNS.index(column)
    return Entry((*entry.values[:at], value, *entry.values[at + 1 :]))
