"""Destruction of account rows: of people who have their cards, and of those who never got a record (R-22).

A loaded file has a ring with a key for each row. Destroying rows writes the ring anew without them, so that
older copies of those rows do not open, while other people's rows stay as they are.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Length
from django.utils import timezone

from orders.choices import AccountFileStatus
from orders.models import AccountFile, AccountRow, CardholderRecord
from orders.models.records import OPEN
from orders.services.accounts import rows_name, upload_name
from orders.services.locking import lock_bank
from orders.services.packages import undone_on_error
from portal import keyrings
from portal.audit import unit_of_work
from portal.choices import OrganisationKind
from portal.core.keystore import KeyPurpose
from portal.models import Organisation, User
from portal.removal import remove_after_commit
from portal.workflow import move


@dataclass(slots=True)
class DestroyedRows:
    """What went: counts, names of emptied files, keys and stored files that the caller removes."""

    row_count: int = 0
    account_files: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def destroy_rows(rows: QuerySet[AccountRow], *, actor: User | None, undo: ExitStack) -> DestroyedRows:
    """Delete account rows inside the caller's unit of work and forget their keys."""
    gone = DestroyedRows()
    slots: dict[int, list[int]] = {}
    found = list(rows.values_list("pk", "account_file_id", "row_number"))
    for _pk, file_id, row_number in found:
        slots.setdefault(file_id, []).append(row_number)
    files = list(AccountFile.objects.select_for_update().filter(pk__in=slots).order_by("pk"))
    gone.row_count, _ = AccountRow.objects.filter(pk__in=[pk for pk, _, _ in found]).delete()
    for file in files:
        if file.status == AccountFileStatus.LOADED and not file.rows.exists():
            _close_file(file, gone, actor)
        elif file.ring_key_id:
            _forget_slots(file, slots[file.pk], gone, undo)
    return gone


def _close_file(file: AccountFile, gone: DestroyedRows, actor: User | None) -> None:
    # Not its name: the certificate goes to the supplier and stays, and banks name files as they like.
    gone.account_files.append(f"#{file.pk} SM3 {bytes(file.digest).hex()}")
    gone.keys += filter(None, [file.key_id, file.ring_key_id])
    gone.files += [upload_name(file.key_id), rows_name(file.key_id)]
    if file.ring_key_id:
        gone.files.append(keyrings.ring_name(file.ring_key_id))
    move(file, AccountFileStatus.DESTROYED, actor=actor, problems_sealed=None, stored_name="", ring_key_id="")


def _forget_slots(file: AccountFile, slots: list[int], gone: DestroyedRows, undo: ExitStack) -> None:
    old = file.ring_key_id
    file.ring_key_id = keyrings.without(old, slots, KeyPurpose.ACCOUNT_FILE, f"accounts {file.pk} ring", undo)
    file.save(update_fields=["ring_key_id"])
    gone.keys.append(old)
    gone.files.append(keyrings.ring_name(old))


def retired_rows(now: datetime) -> QuerySet[AccountRow]:
    """Return rows without a purpose: replaced by newer ones, or past their time without anybody's record."""
    limit = now - timedelta(days=settings.ACCOUNT_RETENTION_DAYS)
    needed = CardholderRecord.objects.filter(
        status__in=OPEN, bank_id=OuterRef("bank_id"), number_index=OuterRef("number_index")
    )
    replaced = Q(is_current=False, sealed_length__gt=0)
    waited = Q(account_file__uploaded_at__lt=limit) & ~Exists(needed)
    rows = AccountRow.objects.annotate(sealed_length=Length("account_sealed"))
    return rows.filter(account_file__status=AccountFileStatus.LOADED).filter(replaced | waited)


def destroy_retired_rows(now: datetime | None = None) -> int:
    """Destroy every bank's retired account rows, a bank at a time; return how many."""
    moment = now or timezone.now()
    total = 0
    for bank in Organisation.objects.filter(kind=OrganisationKind.BANK).order_by("pk"):
        if retired_rows(moment).filter(bank=bank).exists():
            total += _destroy_retired(bank, moment)
    return total


def _destroy_retired(bank: Organisation, now: datetime) -> int:
    system = User.objects.system()
    with undone_on_error() as undo, unit_of_work(system) as work:
        lock_bank(bank)
        gone = destroy_rows(retired_rows(now).filter(bank=bank), actor=system, undo=undo)
        remove_after_commit(keys=gone.keys, files=gone.files)
        work.record("accounts.retired", bank, rows=gone.row_count, files=len(gone.account_files))
    return gone.row_count
