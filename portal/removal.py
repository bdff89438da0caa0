"""Removal of keys and files after the rows that named them are gone: never before, never forgotten (R-22)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from django.db import transaction

from portal.core.errors import PortalError
from portal.core.keystore import KeyMissingError
from portal.files import keystore, remove
from portal.models import PendingRemoval

logger = logging.getLogger(__name__)


def remove_after_commit(*, keys: Iterable[str] = (), files: Iterable[str] = ()) -> None:
    """Note what must go and remove it once the transaction is committed.

    The note is part of the transaction: a process killed in between leaves it for `remove_pending`.
    """
    kinds = PendingRemoval.Kind
    rows = [PendingRemoval(kind=kinds.KEY, name=name) for name in keys if name]
    rows += [PendingRemoval(kind=kinds.FILE, name=name) for name in files if name]
    PendingRemoval.objects.bulk_create(rows, ignore_conflicts=True)
    # Whatever fails now is tried again by the sweeper; the action itself is committed and stays.
    transaction.on_commit(remove_pending, robust=True)


def remove_pending() -> int:
    """Destroy every noted key and remove every noted file; return how many.

    Safe to repeat and to run twice at once. What cannot be removed stays noted and holds up nothing else.
    """
    done = 0
    for row in PendingRemoval.objects.order_by("-kind", "pk"):
        try:
            _remove(row)
        except (OSError, PortalError) as exc:
            logger.error("%s %s cannot be removed: %s", row.kind, row.pk, type(exc).__name__)  # noqa: TRY400
            continue
        row.delete()
        done += 1
    return done


def _remove(row: PendingRemoval) -> None:
    if row.kind == PendingRemoval.Kind.FILE:
        remove(row.name)
        return
    # Also where it counts as destroyed: a crash may have left the key's file beside its tombstone.
    with suppress(KeyMissingError):
        keystore().destroy(row.name)
