"""The audit: every change writes its entry in the same transaction, chained by SM3.

Entries are collected while the unit of work runs and written last, just before the commit, under one
advisory lock. Row locks are therefore always taken before the chain's lock (no deadlock), and the
chain is held only for one COPY and the commit, so bulk work does not queue behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, cast

from django.db import connection, models, transaction
from django.utils import timezone
from psycopg import Copy, Cursor

from portal.audit_check import audit_marks, own_link, walk
from portal.core.audit_findings import ChainFault
from portal.core.audit_forms import COLUMNS, COPY_HEADER, COPY_TRAILER, GENESIS, details_text, pack
from portal.core.audit_marks import Mark
from portal.core.key_refusals import KeyPermissionError
from portal.models import User
from portal.texts import in_chinese

# Foreign keys are checked at the commit and lock the rows they point to: have that done before the chain is
# locked, or somebody who holds such a row and waits for the chain would be waited for. One round trip.
_LOCK = (
    "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED;"
    "SELECT pg_advisory_xact_lock(4281668);"  # "AUD"
    "SELECT position, digest FROM portal_auditentry ORDER BY position DESC LIMIT 1"
)
_COPY = f"COPY portal_auditentry ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
client_address: ContextVar[str] = ContextVar("client_address", default="")
logger = logging.getLogger(__name__)
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
    """Chain events to the last entry and write them: what is hashed and what is stored are the same bytes."""
    if not events:
        return
    described = [(event, *_described(event)) for event in events]  # before the lock: it may ask the database
    position, previous = _locked_end()
    rows = [COPY_HEADER]
    for event, actor_id, texts in described:
        position += 1
        row, previous = pack(
            previous=previous, position=position, at=event.at, actor_id=actor_id, texts=texts
        )
        rows.append(row)
    with connection.wrap_database_errors, _copying() as copy:
        copy.write(b"".join([*rows, COPY_TRAILER]))
    transaction.on_commit(partial(_mark_end, Mark(position, previous)))


def _mark_end(mark: Mark) -> None:
    """Tell outside the database how far the chain has come; without that only a cut end would go unseen."""
    try:
        audit_marks().add(mark)
    except (OSError, KeyPermissionError) as exc:
        logger.critical("the audit's end is not marked: %s", type(exc).__name__)


@contextmanager
def _copying() -> Iterator[Copy]:
    with connection.cursor() as wrapper, cast("Cursor[Any]", wrapper.cursor).copy(_COPY) as copy:
        yield copy


def _locked_end() -> tuple[int, bytes]:
    """Take the chain's lock until the commit; return the last entry's position and digest."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)
        while cursor.nextset():
            pass
        found = cursor.fetchone()
    return (found[0], bytes(found[1])) if found else (0, GENESIS)


def _described(event: Event) -> tuple[int | None, tuple[str, ...]]:
    """Return the actor's id and the texts of an entry, in the order of `audit_forms.TEXTS`."""
    actor, subject = event.actor, event.subject
    return (actor.pk if actor else None), (
        actor.username if actor else "system",
        actor.organisation.code if actor and actor.organisation else "",
        client_address.get(),
        event.action,
        subject._meta.label_lower if subject else "",
        str(subject.pk) if subject else "",
        _label(subject),
        details_text(event.details),
        event.result,
    )


def _label(subject: models.Model | None) -> str:
    """Name a row in Chinese, whatever the language of who changed it: the audit is read for years."""
    with in_chinese():
        return plain(str(subject))[:200] if subject else ""


def plain(value: Any) -> Any:
    """Return JSON that every reader takes alike: text for what JSON lacks or readers round.

    PostgreSQL refuses NUL characters and lone surrogates.
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


def verify_chain(start: int = 1) -> tuple[int, ChainFault | None]:
    """Walk the portal's chain from `start`; return how many entries hold and the first fault, if any."""
    with own_link() as link:
        report = walk(link, start=start, most_faults=1)
    first = report.faults[0] if report.faults else None
    return (max(first.position - start, 0) if first else report.checked), first
