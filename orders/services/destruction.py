"""Destruction of cardholder records and, with the last of them, of their package's keys and file (R-22)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from django.db import connection
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from orders.choices import AccountFileStatus, PackageStatus, RecordStatus
from orders.models import AccountFile, AccountRow, CardholderRecord, Package
from orders.payloads import close_payload
from orders.personal import Column, open_column, read_photo, seal
from orders.services.accounts import rows_name, upload_name
from portal.audit import unit_of_work
from portal.bulk import update_from
from portal.core.crypto import TamperedError
from portal.core.keystore import KeyPurpose
from portal.core.ziprefusals import ZipRefusedError
from portal.files import keystore, remove, write_sealed
from portal.models import User
from portal.removal import remove_after_commit
from portal.workflow import move

# What may stay behind in a package whose cards are all delivered: rows that still wait for a correction.
WAITING = (RecordStatus.RETURNED, RecordStatus.SUPERSEDED)
COLUMNS: tuple[Column, ...] = ("number", "name", "personal", "account", "problems", "source")


@dataclass(slots=True)
class Destroyed:
    """What one call destroyed; counts and names only."""

    record_count: int = 0
    version_count: int = 0
    account_count: int = 0
    account_files: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    closed_packages: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def destroy_records(record_ids: Sequence[int], *, actor: User | None, undo: ExitStack) -> Destroyed:
    """Delete records, all their versions and account rows; close packages that no open record needs.

    Runs inside the caller's unit of work; keys and files go right after its commit. The caller has
    cleared every reference to the records. `undo` collects what a rollback would leave of new keys and files.
    """
    destroyed = Destroyed(record_count=len(record_ids))
    with unit_of_work(actor) as work:
        packages = list(
            Package.objects.select_for_update()
            .filter(pk__in=CardholderRecord.objects.filter(pk__in=record_ids).values("package_id"))
            .order_by("pk")
        )
        destroyed.packages = [package.number for package in packages]
        _delete_accounts(record_ids, destroyed, actor)
        _delete_versions(record_ids, destroyed)
        for package in packages:
            if _is_closable(package):
                _close_package(package, destroyed, actor, undo)
        remove_after_commit(keys=destroyed.keys, files=destroyed.files)
        work.record(
            "records.destroyed",
            records=destroyed.record_count,
            accounts=destroyed.account_count,
            packages=destroyed.packages,
        )
    return destroyed


def _is_closable(package: Package) -> bool:
    """Say whether nothing of a package is in production or still to be checked."""
    if package.status != PackageStatus.VALIDATED:
        return False
    return not package.records.exclude(status__in=WAITING).exists()


def _delete_accounts(record_ids: Sequence[int], destroyed: Destroyed, actor: User | None) -> None:
    owners = CardholderRecord.objects.filter(
        pk__in=record_ids, bank_id=OuterRef("bank_id"), number_index=OuterRef("number_index")
    )
    rows = AccountRow.objects.filter(Exists(owners))
    files = set(rows.values_list("account_file_id", flat=True))
    destroyed.account_count, _ = rows.delete()
    emptied = AccountFile.objects.filter(pk__in=files, status=AccountFileStatus.LOADED).filter(
        rows__isnull=True
    )
    for file in emptied:
        move(file, AccountFileStatus.DESTROYED, actor=actor, problems_sealed=None, stored_name="")
        destroyed.account_files.append(file.file_name)
        destroyed.keys.append(file.key_id)
        destroyed.files += [upload_name(file.key_id), rows_name(file.key_id)]


def _delete_versions(record_ids: Sequence[int], destroyed: Destroyed) -> None:
    """Delete the records and the versions before them; photos of corrections have files of their own."""
    chosen = CardholderRecord.objects.filter(
        pk__in=record_ids, package_id=OuterRef("package_id"), row_number=OuterRef("row_number")
    )
    versions = CardholderRecord.objects.filter(Exists(chosen))
    destroyed.files += versions.exclude(photo_name="").values_list("photo_name", flat=True)
    destroyed.version_count = versions._raw_delete(connection.alias)  # noqa: SLF001 - no references are left


def _close_package(package: Package, destroyed: Destroyed, actor: User | None, undo: ExitStack) -> None:
    """Give up the package's payload and keys; rows still waiting for a correction get a key of their own."""
    waiting = list(package.records.select_related("package").order_by("pk"))
    # A package closed before has its payload gone already; only its returned rows had a key.
    destroyed.keys += filter(None, [package.content_key_id, package.key_id])
    destroyed.files += filter(None, [package.stored_name])
    destroyed.closed_packages.append(package.number)
    key_id = _resealed(package, waiting, undo) if waiting else ""
    close_payload(package)
    destroyed.files += [record.photo_name for record in waiting if record.photo_name]
    package.photos.all().delete()
    if waiting:
        Package.objects.filter(pk=package.pk).update(content_key_id="", key_id=key_id, stored_name="")
    else:
        now = timezone.now()
        move(
            package,
            PackageStatus.DESTROYED,
            actor=actor,
            destroyed_at=now,
            content_key_id="",
            key_id="",
            stored_name="",
        )


def _resealed(package: Package, waiting: Sequence[CardholderRecord], undo: ExitStack) -> str:
    """Seal what must stay under a fresh key, so that the package's keys can be destroyed now."""
    key_id = keystore().create(KeyPurpose.PACKAGE, f"package {package.pk} returned")
    undo.callback(keystore().destroy, key_id)
    cipher = keystore().cipher(key_id)
    rows: list[tuple[object, ...]] = []
    for record in waiting:
        sealed = [
            None
            if getattr(record, f"{column}_sealed") is None
            else seal(cipher, record.pk, record.version, column, open_column(record, column))
            for column in COLUMNS
        ]
        rows.append((record.pk, *sealed, _moved_photo(record, key_id, undo)))
    update_from(CardholderRecord, ["id"], [*(f"{column}_sealed" for column in COLUMNS), "photo_name"], rows)
    no_place = dict.fromkeys(("photo_offset", "photo_stored_size", "photo_size", "photo_method", "photo_crc"))
    package.records.filter(~Q(photo_offset=None)).update(**no_place)
    return key_id


def _moved_photo(record: CardholderRecord, key_id: str, undo: ExitStack) -> str:
    try:
        photo = read_photo(record)
    except (ZipRefusedError, TamperedError):
        # It may be the reason why the row was returned; the correction brings another.
        return ""
    if photo is None:
        return ""
    name = f"packages/{record.package_id}/returned/{key_id[:8]}-{record.pk}.jpg"
    undo.callback(remove, name)
    with write_sealed(name, key_id) as target:
        target.write(photo)
    return name
