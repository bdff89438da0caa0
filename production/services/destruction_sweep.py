"""Sweep what killed processes and finished work left of people's data (R-22)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from django.core.files.storage import default_storage
from django.utils import timezone

from orders.choices import PackageStatus
from orders.models import AccountFile, CardholderRecord, Package
from orders.services.restoring import relink_rings
from portal import files
from portal.core.key_refusals import KeyMissingError
from portal.models import IdempotencyKey
from production.choices import BatchStatus
from production.models import Batch

STRAY_AFTER = timedelta(hours=6)
RINGS, PACKAGES, BATCHES = "rings", "packages", "batches"


def sweep_leftovers(older_than: timedelta = STRAY_AFTER) -> dict[str, int]:
    """Remove stored files that no row names any more, and expired answers; count each kind.

    Younger files are spared: the transaction that will name them may not be committed.
    """
    now = timezone.now()
    # In a restored database the present rings look like strays: link them again first, else spare them all.
    rings = [] if relink_rings().lost else list(_old(_stray_rings(), now - older_than))
    for name in rings:
        _destroy_ring(name)
    stored = [*_old(_stray_photos(), now - older_than), *_old(_stray_batch_files(), now - older_than)]
    for name in stored:
        files.remove(name)
    answers, _ = IdempotencyKey.objects.filter(expires_at__lt=now).delete()
    spool = files.clear_spool(now - older_than)
    return {"rings": len(rings), "files": len(stored), "spool": spool, "answers": answers}


def _old(names: Iterable[str], before: datetime) -> Iterator[str]:
    return (name for name in names if default_storage.get_modified_time(name) < before)


def _stray_rings() -> Iterator[str]:
    """Yield rings that were written for a transaction that never was committed."""
    used = {*Package.objects.exclude(ring_key_id="").values_list("ring_key_id", flat=True)}
    used |= {*AccountFile.objects.exclude(ring_key_id="").values_list("ring_key_id", flat=True)}
    for name in _files_in(RINGS):
        if PurePosixPath(name).stem not in used:
            yield name


def _destroy_ring(name: str) -> None:
    key_id = PurePosixPath(name).stem
    with suppress(KeyMissingError):  # the file outlived its key
        files.keystore().destroy(key_id)
    files.remove(name)


def _stray_photos() -> Iterator[str]:
    """Yield files in the folders of packages that hold nobody's photo, the payload aside."""
    for folder in _folders_in(PACKAGES):
        if not PurePosixPath(folder).name.isdecimal():
            continue
        package = Package.objects.filter(pk=int(PurePosixPath(folder).name)).first()
        if package is None:  # an intake under way, or orders.services.upkeep clears it
            continue
        used = {package.stored_name} if package.status != PackageStatus.DESTROYED else set()
        held = CardholderRecord.objects.filter(package=package).exclude(photo_name="")
        used |= set(held.values_list("photo_name", flat=True).distinct())
        yield from (name for name in _files_below(folder) if name not in used)


def _stray_batch_files() -> Iterator[str]:
    """Yield machine files, reports and lists of batches whose data is destroyed."""
    gone = set(Batch.objects.filter(status=BatchStatus.DESTROYED).values_list("pk", flat=True))
    for folder in _folders_in(BATCHES):
        name = PurePosixPath(folder).name
        if name.isdecimal() and int(name) in gone:
            yield from _files_below(folder)


def _files_in(folder: str) -> list[str]:
    if not default_storage.exists(folder):
        return []
    return [f"{folder}/{name}" for name in sorted(default_storage.listdir(folder)[1])]


def _folders_in(folder: str) -> list[str]:
    if not default_storage.exists(folder):
        return []
    return [f"{folder}/{name}" for name in sorted(default_storage.listdir(folder)[0])]


def _files_below(folder: str) -> Iterator[str]:
    yield from _files_in(folder)
    for inner in _folders_in(folder):
        yield from _files_below(inner)
