"""Removal of keys and files after the rows that named them are gone: never before, never forgotten (R-22)."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from portal.files import keystore, remove
from portal.models import PendingRemoval


def remove_after_commit(*, keys: Iterable[str] = (), files: Iterable[str] = ()) -> None:
    """Note what must go and remove it once the transaction is committed.

    The note is part of the transaction: a process killed in between leaves it for `remove_pending`.
    """
    kinds = PendingRemoval.Kind
    rows = [PendingRemoval(kind=kinds.KEY, name=name) for name in keys if name]
    rows += [PendingRemoval(kind=kinds.FILE, name=name) for name in files if name]
    PendingRemoval.objects.bulk_create(rows, ignore_conflicts=True)
    transaction.on_commit(remove_pending)


def remove_pending() -> int:
    """Destroy every noted key and remove every noted file; return how many.

    Safe to repeat and to run twice at once.
    """
    done = 0
    for row in PendingRemoval.objects.order_by("-kind", "pk"):
        if row.kind == PendingRemoval.Kind.KEY:
            if keystore().exists(row.name):
                keystore().destroy(row.name)
        else:
            remove(row.name)
        row.delete()
        done += 1
    return done
