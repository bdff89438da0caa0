"""Seal what is left of a package anew, so that the keys of those who have their cards can go (R-22).

A package comes with one key for its payload and one for its columns: while anybody's record is open they
stay, and with them every older copy of what was delivered already. So the first destruction in a package has
the rest sealed once more, each person under a key of their own in a ring; then both old keys and the payload
are destroyed. From there on destroying anybody means leaving their key out of the ring: nothing is sealed
twice, however many batches a package is delivered in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from orders.choices import PackageStatus
from orders.models import CardholderRecord, Package
from orders.payloads import close_payload
from orders.personal import Column, open_column, photo_context, read_photo, seal
from orders.services.packages import undone_on_error
from portal import files, keyrings
from portal.audit import unit_of_work
from portal.bulk import update_from
from portal.core.crypto import FieldCipher, TamperedError
from portal.core.keystore import KeyPurpose
from portal.core.ziprefusals import ZipRefusedError
from portal.models import User
from portal.queue import schedule
from portal.removal import remove_after_commit
from portal.workflow import locked

REKEY = "orders.jobs_rekeying.rekey_part"
ROWS = 500
COLUMNS: tuple[Column, ...] = ("number", "name", "personal", "account", "problems", "source")
_PLACE = ("photo_name", "photo_offset", "photo_stored_size", "photo_size", "photo_method", "photo_crc")
_NOWHERE = ("", None, None, None, None, None)


def start_rekey(package: Package, *, actor: User | None) -> bool:
    """Draw a key for each row that is left and schedule the parts; say whether there was one to start."""
    with undone_on_error() as undo, unit_of_work(actor) as work:
        fresh = locked(package)
        if not _is_startable(fresh):
            return False
        ring, parts = keyrings.NewRing(), set()
        for row in fresh.records.values_list("row_number", flat=True).distinct().iterator():
            ring.draw(row)
            parts.add(row // ROWS)
        fresh.ring_key_id = ring.write(KeyPurpose.PACKAGE, f"package {fresh.pk} ring", undo)
        fresh.save(update_fields=["ring_key_id"])
        schedule(REKEY, fresh, actor=actor, parts=sorted(parts), queue="bulk")
        work.record("package.rekey_started", fresh, parts=len(parts))
    return True


def _is_startable(package: Package) -> bool:
    wanted = package.rekey_wanted_at is not None and not package.ring_key_id
    return wanted and package.status == PackageStatus.VALIDATED and package.records.exists()


def start_due_rekeys(now: datetime | None = None) -> int:
    """Start every package that was asked for long enough ago; return how many.

    The pause lets other batches of the package that are signed for be destroyed first: what is gone need
    not be sealed anew. Without `now` there is no pause.
    """
    due = Package.objects.filter(
        rekey_wanted_at__isnull=False, ring_key_id="", status=PackageStatus.VALIDATED
    )
    if now is not None:
        due = due.filter(rekey_wanted_at__lte=now - timedelta(seconds=settings.REKEY_PAUSE_SECONDS))
    return sum(start_rekey(package, actor=User.objects.system()) for package in due.order_by("pk"))


@transaction.atomic
def rekey_part(package: Package, part: int) -> int:
    """Seal ROWS rows of a package anew; return how many records were. A second run finds nothing to do."""
    (ring_key_id,) = hold_packages([package.pk])
    if not ring_key_id:  # the package was destroyed meanwhile
        return 0
    records = list(
        CardholderRecord.objects.select_for_update(of=("self",))
        .select_related("package")
        .filter(package=package, row_number__gte=part * ROWS, row_number__lt=(part + 1) * ROWS, in_ring=False)
        .order_by("pk")
    )
    if not records:
        return 0
    name = f"packages/{package.pk}/{ring_key_id}/{part}.photos"
    with files.store(name) as target:
        rows = [_resealed(record, ring_key_id, name, target) for record in records]
    update_from(
        CardholderRecord, ["id"], [*(f"{column}_sealed" for column in COLUMNS), *_PLACE, "in_ring"], rows
    )
    # Photos of corrections lay in files of their own, under the old key.
    names = {record.photo_name for record in records}
    remove_after_commit(files=names - set(_used_names(package, names)))
    return len(rows)


def _used_names(package: Package, names: set[str]) -> QuerySet[CardholderRecord, str]:
    plain = CardholderRecord.objects.filter(package=package, in_ring=False, photo_name__in=names)
    return plain.values_list("photo_name", flat=True).distinct()


def hold_packages(package_ids: Iterable[int]) -> list[str]:
    """Keep destructions in packages away to the end of the transaction; return their rings' key ids.

    Whoever reads many rows with their keys at hand does this first, else the keys may go half-way.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ring_key_id FROM orders_package WHERE id = ANY(%s) ORDER BY id FOR SHARE",
            [sorted(package_ids)],
        )
        return [str(ring_key_id) for (ring_key_id,) in cursor.fetchall()]


def _resealed(record: CardholderRecord, ring_key_id: str, name: str, target: BinaryIO) -> tuple[Any, ...]:
    cipher = keyrings.slot_cipher(ring_key_id, record.row_number)
    sealed = [
        None
        if getattr(record, f"{column}_sealed") is None
        else seal(cipher, record.pk, record.version, column, open_column(record, column))
        for column in COLUMNS
    ]
    return (record.pk, *sealed, *_moved_photo(record, cipher, name, target), True)


def _moved_photo(
    record: CardholderRecord, cipher: FieldCipher, name: str, target: BinaryIO
) -> Sequence[str | int | None]:
    """Append the photo to the file of this part; return its place there, or none for one beyond reading."""
    try:
        photo = read_photo(record)
    except (ZipRefusedError, TamperedError):
        # It may be the reason why the row was returned; the correction brings another.
        return _NOWHERE
    if photo is None:
        return _NOWHERE
    blob = cipher.seal(photo, photo_context(record.package_id, record.row_number))
    start = target.tell()
    target.write(blob)
    return name, start, len(blob), len(photo), 0, 0


def finish_rekey(package: Package, *, actor: User | None) -> bool:
    """Destroy the old keys and the payload once nothing needs them; say whether they go now."""
    with unit_of_work(actor) as work:
        fresh = locked(package)
        if not fresh.ring_key_id or not fresh.key_id or fresh.records.filter(in_ring=False).exists():
            return False
        close_payload(fresh)
        remove_after_commit(keys=[fresh.content_key_id, fresh.key_id], files=[fresh.stored_name])
        fresh.photos.all().delete()
        fresh.content_key_id = fresh.key_id = fresh.stored_name = ""
        fresh.save(update_fields=["content_key_id", "key_id", "stored_name"])
        work.record("package.rekeyed", fresh, records=fresh.records.count())
    return True


def advance_rekeys() -> int:
    """Start what is due and finish what is through; calling it any number of times is harmless."""
    started = start_due_rekeys(timezone.now())
    system = User.objects.system()
    plain = CardholderRecord.objects.filter(package=OuterRef("pk"), in_ring=False)
    through = Package.objects.filter(~Q(ring_key_id=""), ~Q(key_id=""), ~Exists(plain))
    return started + sum(finish_rekey(package, actor=system) for package in through.order_by("pk"))
