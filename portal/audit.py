"""The audit: every change writes its entry in the same transaction, chained by SM3.

Entries are collected while the unit of work runs and written last, just before the commit, under one
advisory lock. Row locks are therefore always taken before the chain's lock (no deadlock), and the
chain is held only for one INSERT and the commit, so bulk work does not queue behind it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection, models, transaction
from django.utils import timezone

from portal.core.crypto import sm3
from portal.models import AuditEntry, User
from portal.texts import in_chinese

CHAIN_LOCK = 0x415544  # "AUD"
GENESIS = bytes(32)
client_address: ContextVar[str] = ContextVar("client_address", default="")
_current: ContextVar[UnitOfWork | None] = ContextVar("unit_of_work", default=None)


@dataclass
class Event:
    """An audit entry before it has its place in the chain."""

    action: str
    actor: User | None
    subject: models.Model | None
    details: dict[str, Any]
    result: str
    at: datetime


@dataclass
class UnitOfWork:
    """What one service call has done so far; written to the chain when the outermost call ends."""

    actor: User | None
    events: list[Event] = field(default_factory=list)

    def record(
        self, action: str, subject: models.Model | None = None, *, result: str = "done", **details: Any
    ) -> None:
        """Add an event; `details` must be JSON and free of personal data (pseudonyms only, §4)."""
        self.events.append(Event(action, self.actor, subject, plain(details), result, timezone.now()))


@contextmanager
def unit_of_work(actor: User | None) -> Iterator[UnitOfWork]:
    """Run a service's changes in one transaction and write its audit entries at the end of it.

    Nested calls join the outermost one, so one verb that calls others still commits once.
    """
    outer = _current.get()
    if outer is not None:
        inner = UnitOfWork(actor)
        with transaction.atomic():
            yield inner
        outer.events.extend(inner.events)
        return
    work = UnitOfWork(actor)
    token = _current.set(work)
    with transaction.atomic():
        try:
            yield work
        finally:
            # Before the commit: what runs on it opens units of its own and must not join this finished one.
            _current.reset(token)
        _append(work.events)


def record_alone(
    action: str,
    *,
    actor: User | None,
    subject: models.Model | None = None,
    result: str = "refused",
    **details: Any,
) -> None:
    """Write an event that must stay although the action itself was refused: call it after the rollback."""
    with unit_of_work(actor) as work:
        work.record(action, subject, result=result, **details)


def _append(events: list[Event]) -> None:
    if not events:
        return
    with connection.cursor() as cursor:
        # Foreign keys are checked at the commit and lock the rows they point to: have that done before the
        # chain is locked, or somebody who holds such a row and waits for the chain would be waited for.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN_LOCK])
    last = AuditEntry.objects.order_by("-position").values_list("position", "digest").first()
    position, previous = (last[0], bytes(last[1])) if last else (0, GENESIS)
    entries = []
    for event in events:
        position += 1
        entry = _entry(event, position, previous)
        previous = bytes(entry.digest)
        entries.append(entry)
    AuditEntry.objects.bulk_create(entries)


def _entry(event: Event, position: int, previous: bytes) -> AuditEntry:
    actor, subject = event.actor, event.subject
    entry = AuditEntry(
        position=position,
        at=event.at,
        actor_id=actor.pk if actor else None,
        actor_name=actor.username if actor else "system",
        organisation_code=actor.organisation.code if actor and actor.organisation else "",
        address=client_address.get(),
        action=event.action,
        object_type=subject._meta.label_lower if subject else "",
        object_id=str(subject.pk) if subject else "",
        object_label=_label(subject),
        details=event.details,
        result=event.result,
        previous_digest=previous,
    )
    entry.digest = sm3(previous + canonical(entry))
    return entry


def _label(subject: models.Model | None) -> str:
    """Name a row in Chinese, whatever the language of who changed it: the audit is read for years."""
    with in_chinese():
        return plain(str(subject))[:200] if subject else ""


def canonical(entry: AuditEntry) -> bytes:
    """Serialise what the digest covers: every column but the digests, as sorted compact JSON in UTF-8."""
    covered: Mapping[str, Any] = {
        "position": entry.position,
        "at": entry.at.astimezone(UTC).isoformat(),
        "actor_id": entry.actor_id,
        "actor_name": entry.actor_name,
        "organisation_code": entry.organisation_code,
        "address": entry.address,
        "action": entry.action,
        "object_type": entry.object_type,
        "object_id": entry.object_id,
        "object_label": entry.object_label,
        "details": entry.details,
        "result": entry.result,
    }
    return json.dumps(covered, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def plain(value: Any) -> Any:
    """Return JSON that the database gives back unchanged, else the digest would not hold for it later.

    JSONB turns keys into text, numbers into decimals, and refuses NUL characters and lone surrogates.
    """
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and (str(value) == "0.0" or 1e-4 <= abs(value) < 1e15):
        return value
    return str(value).replace("\0", "\ufffd").encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class ChainFault:
    """The first entry at which the chain no longer holds, and why."""

    position: int
    reason: str


def verify_chain(start: int = 1) -> tuple[int, ChainFault | None]:
    """Walk the chain from `start`; return how many entries hold and the first fault, if any."""
    previous, expected = GENESIS, start
    if start > 1:
        before = AuditEntry.objects.filter(position=start - 1).first()
        if before is None:
            return 0, ChainFault(start - 1, "missing")
        previous = bytes(before.digest)
    entries = AuditEntry.objects.filter(position__gte=start).order_by("position")
    for checked, entry in enumerate(entries.iterator(chunk_size=5000)):
        if entry.position != expected:
            return checked, ChainFault(expected, "missing")
        if bytes(entry.previous_digest) != previous:
            return checked, ChainFault(entry.position, "reordered")
        if bytes(entry.digest) != sm3(previous + canonical(entry)):
            return checked, ChainFault(entry.position, "changed")
        previous, expected = bytes(entry.digest), expected + 1
    return expected - start, None
