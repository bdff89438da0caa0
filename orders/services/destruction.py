"""Destruction of cardholder records, of their keys, and with the last of them of their package (R-22)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from django.db import connection
from django.db.models import SET_NULL, Exists, OuterRef, QuerySet
from django.utils import timezone

from orders.choices import PackageStatus
from orders.models import AccountRow, CardholderRecord, Package
from orders.payloads import close_payload
from orders.services.account_destruction import destroy_rows
from portal import keyrings
from portal.audit import unit_of_work
from portal.core.keystore import KeyPurpose
from portal.models import User
from portal.removal import remove_after_commit
from portal.workflow import move


@dataclass(slots=True)
class Destroyed:
    """What one call destroyed; counts and names only.

    `later` names keys and files that go as soon as the rest of their package is sealed anew.
    """

    record_count: int = 0
    version_count: int = 0
    account_count: int = 0
    account_files: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    closed_packages: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    later_keys: list[str] = field(default_factory=list)
    later_files: list[str] = field(default_factory=list)


def destroy_records(record_ids: Sequence[int], *, actor: User | None, undo: ExitStack) -> Destroyed:
    """Delete records, all their versions and account rows, and forget their keys.

    Runs inside the caller's unit of work; keys and files go right after its commit. References to the
    records are cleared. `undo` collects what a rollback would leave of new keys and files.
    """
    destroyed = Destroyed(record_count=len(record_ids))
    with unit_of_work(actor) as work:
        packages = list(
            Package.objects.select_for_update()
            .filter(pk__in=CardholderRecord.objects.filter(pk__in=record_ids).values("package_id"))
            .order_by("pk")
        )
        destroyed.packages = [package.number for package in packages]
        _delete_accounts(record_ids, destroyed, actor, undo)
        rows = _delete_versions(record_ids, destroyed)
        for package in packages:
            if package.status == PackageStatus.VALIDATED and not package.records.exists():
                _close_package(package, destroyed, actor)
            elif package.ring_key_id:
                _forget_rows(package, rows[package.pk], destroyed, undo)
            _note_plain_keys(package, destroyed)
        remove_after_commit(keys=destroyed.keys, files=destroyed.files)
        work.record(
            "records.destroyed",
            records=destroyed.record_count,
            accounts=destroyed.account_count,
            packages=destroyed.packages,
        )
    return destroyed


def _delete_accounts(
    record_ids: Sequence[int], destroyed: Destroyed, actor: User | None, undo: ExitStack
) -> None:
    owners = CardholderRecord.objects.filter(
        pk__in=record_ids, bank_id=OuterRef("bank_id"), number_index=OuterRef("number_index")
    )
    gone = destroy_rows(AccountRow.objects.filter(Exists(owners)), actor=actor, undo=undo)
    destroyed.account_count = gone.row_count
    destroyed.account_files += gone.account_files
    destroyed.keys += gone.keys
    destroyed.files += gone.files


def _delete_versions(record_ids: Sequence[int], destroyed: Destroyed) -> dict[int, set[int]]:
    """Delete the records and the versions before them; return the row numbers gone by package."""
    chosen = CardholderRecord.objects.filter(
        pk__in=record_ids, package_id=OuterRef("package_id"), row_number=OuterRef("row_number")
    )
    versions = CardholderRecord.objects.filter(Exists(chosen))
    rows: dict[int, set[int]] = defaultdict(set)
    photos: dict[int, set[str]] = defaultdict(set)
    for package_id, row_number, photo_name in versions.values_list("package_id", "row_number", "photo_name"):
        rows[package_id].add(row_number)
        if photo_name:
            photos[package_id].add(photo_name)
    _release(versions)
    destroyed.version_count = versions._raw_delete(connection.alias)  # noqa: SLF001 - no references are left
    for package_id, names in photos.items():
        destroyed.files += sorted(names - set(_still_used(package_id, names)))
    return rows


def _release(records: QuerySet[CardholderRecord]) -> None:
    """Clear whatever refers to the records and may stay without them, in whichever app.

    `QuerySet.delete` would do the same after loading every record with its sealed columns.
    """
    for relation in CardholderRecord._meta.related_objects:
        if relation.on_delete is SET_NULL:
            name = relation.field.name
            referring = relation.related_model._base_manager.filter(**{f"{name}__in": records})
            referring.update(**{name: None})


def _still_used(package_id: int, names: Iterable[str]) -> QuerySet[CardholderRecord, str]:
    """Return which files of photos hold somebody else's, too: theirs are under keys of their own."""
    left = CardholderRecord.objects.filter(package_id=package_id, photo_name__in=names)
    return left.values_list("photo_name", flat=True).distinct()


def _close_package(package: Package, destroyed: Destroyed, actor: User | None) -> None:
    """Give up what is left of a package nobody's record is in any more."""
    keys = [package.content_key_id, package.key_id, package.ring_key_id]
    destroyed.keys += filter(None, keys)
    destroyed.files += filter(None, [package.stored_name])
    if package.ring_key_id:
        destroyed.files.append(keyrings.ring_name(package.ring_key_id))
    destroyed.closed_packages.append(package.number)
    close_payload(package)
    package.photos.all().delete()
    for name in ("content_key_id", "key_id", "ring_key_id", "stored_name"):
        setattr(package, name, "")
    move(
        package,
        PackageStatus.DESTROYED,
        actor=actor,
        destroyed_at=timezone.now(),
        rekey_wanted_at=None,
        content_key_id="",
        key_id="",
        ring_key_id="",
        stored_name="",
    )


def _forget_rows(package: Package, rows: set[int], destroyed: Destroyed, undo: ExitStack) -> None:
    """Write the package's ring anew without the rows that are gone; the old ring's key is destroyed."""
    old = package.ring_key_id
    label = f"package {package.pk} ring"
    package.ring_key_id = keyrings.without(old, rows, KeyPurpose.PACKAGE, label, undo)
    package.save(update_fields=["ring_key_id"])
    destroyed.keys.append(old)
    destroyed.files.append(keyrings.ring_name(old))


def _note_plain_keys(package: Package, destroyed: Destroyed) -> None:
    """Ask for the rest to be sealed anew where the package's own keys still open what was destroyed."""
    if not package.key_id:
        return
    if package.rekey_wanted_at is None:
        package.rekey_wanted_at = timezone.now()
        package.save(update_fields=["rekey_wanted_at"])
    destroyed.later_keys += filter(None, [package.content_key_id, package.key_id])
    destroyed.later_files += filter(None, [package.stored_name])
