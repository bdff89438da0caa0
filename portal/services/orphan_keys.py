"""Data keys that nothing refers to: a process was killed between making one and writing its row."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from django.apps import apps
from django.conf import settings
from django.utils import timezone

from portal.audit import record_alone
from portal.core.errors import PortalError
from portal.core.keystore import DataKey, Tombstone
from portal.files import keystore
from portal.models import User
from portal.roles import require

logger = logging.getLogger(__name__)
OLD_ENOUGH = timedelta(hours=24)
AT_MOST = 50


class TooManyOrphansError(PortalError):
    """More keys without a row than killed processes leave: this may be the wrong or an older database."""

    code: ClassVar[str] = "too_many_orphan_keys"


def references() -> tuple[tuple[str, str], ...]:
    """Return every column that holds ids of data keys as (app.Model, field), from the settings."""
    pairs = (reference.rsplit(".", 1) for reference in settings.KEY_REFERENCES)
    return tuple((model, field) for model, field in pairs)


def orphan_keys(older_than: timedelta = OLD_ENOUGH) -> list[DataKey]:
    """List the data keys of some age that no row refers to."""
    # Keys first, rows after: a row that is committed in between is seen.
    candidates = keystore().data_keys(timezone.now() - older_than)
    used = _used() if candidates else set()
    return [key for key in candidates if key.key_id not in used]


def destroy_orphans(
    *, older_than: timedelta = OLD_ENOUGH, at_most: int = AT_MOST, actor: User
) -> list[Tombstone]:
    """Destroy the data keys that nothing refers to, and key files left half written; return the proofs.

    Raises TooManyOrphansError, with nothing destroyed, where there are more than `at_most`.
    """
    require(actor, "portal.destroy_orphan_key")
    keystore().clear_drafts()
    found = orphan_keys(older_than)
    if len(found) > at_most:
        record_alone("key.orphans_refused", actor=actor, count=len(found), at_most=at_most)
        raise TooManyOrphansError(
            "没有数据引用的密钥过多，未销毁：请先确认数据库与密钥库相符",
            expected=f"≤ {at_most}",
            got=str(len(found)),
        )
    destroyed = _destroy(found)
    if destroyed:
        record_alone("key.orphans_destroyed", actor=actor, result="done", keys=_facts(destroyed))
    return destroyed


def _used() -> set[str]:
    used: set[str] = set()
    for model, field in references():
        rows = apps.get_model(model)._base_manager.exclude(**{field: ""})
        used.update(rows.values_list(field, flat=True).distinct().iterator())
    return used


def _destroy(keys: Sequence[DataKey]) -> list[Tombstone]:
    destroyed = []
    for key in keys:
        try:
            destroyed.append(keystore().destroy(key.key_id))
        except PortalError as exc:  # damaged, or destroyed by another meanwhile: the others go on
            logger.warning("orphan key %s…: %s", key.key_id[:8], exc.code)
    return destroyed


def _facts(destroyed: Sequence[Tombstone]) -> list[dict[str, str]]:
    return [
        {"digest": stone.key_digest, "purpose": stone.purpose, "label": stone.label} for stone in destroyed
    ]
