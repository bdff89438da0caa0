"""Take in the banks' account files: upload, dry run, load, and what comes back to the bank (R-8, R-9).

A file stays sealed under a key of its own. Once loaded, only the rows are kept; when the last of them is
destroyed with its batch, the key goes too (R-22).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.utils import timezone

from orders.account_rows import parse_layout
from orders.choices import AccountFileStatus
from orders.models import AccountFile, AccountPackage, BankProfile
from orders.problem_labels import account_problem_label
from orders.selectors.accounts import AccountProblem, account_report
from orders.services.packages import undone_on_error
from portal.audit import record_alone, unit_of_work
from portal.choices import OrganisationKind
from portal.core.clock import format_moment
from portal.core.crypto import sm3_hasher
from portal.core.errors import ConflictError, InputRefusedError, PortalError
from portal.core.idnumbers import without_numbers
from portal.core.keystore import KeyPurpose
from portal.core.sheets import Column, write_list
from portal.files import keystore, remove, write_sealed
from portal.keyrings import ring_name
from portal.models import Organisation, Task, User
from portal.queue import schedule
from portal.removal import remove_after_commit
from portal.roles import require
from portal.texts import told, told_columns
from portal.workflow import check_move, locked, move

CHECK_FILE: Final = "orders.jobs_accounts.check_account_file"
LOAD_FILE: Final = "orders.jobs_accounts.load_account_file"
FOLDER: Final = "accounts"
STRAY_AFTER: Final = timedelta(hours=6)
_BLOCK: Final = 1 << 20


class AccountFileRefusedError(InputRefusedError):
    """An account file that is not taken in at all."""

    code = "account_file_refused"


class BankUnknownError(AccountFileRefusedError):
    """The organisation is no bank of the programme (R-5)."""

    code = "account_bank_unknown"


class AccountFileEmptyError(AccountFileRefusedError):
    """A file without a byte, or without a row below its headings."""

    code = "account_file_empty"


class AccountFileTooLargeError(AccountFileRefusedError):
    """More bytes than an account file may have."""

    code = "account_file_too_large"


class AccountFileReplayError(ConflictError):
    """The bank has sent exactly this file before."""

    code = "account_file_replay"


def upload_account_file(file: BinaryIO, *, file_name: str, bank: Organisation, actor: User) -> AccountFile:
    """Seal a bank's file, store it and schedule its dry run; a refusal is audited and leaves nothing."""
    require(actor, "orders.upload_accounts", bank)
    try:
        return _take_in(file, plain_name(file_name), bank_profile(bank), actor)
    except PortalError as exc:
        record_alone("account_file.refused", actor=actor, subject=bank, code=exc.code)
        raise


def plain_name(file_name: str) -> str:
    """Return the last part of a name as somebody sent it: to be read, never a path nor somebody's number."""
    last = os.path.basename(file_name.replace("\\", "/"))  # noqa: PTH119 -- no path
    return without_numbers(last)[-200:] or "accounts"


def bank_profile(bank: Organisation) -> BankProfile:
    """Return the profile of an active bank of the programme; refuse anybody else (R-5)."""
    profile: BankProfile | None = (
        BankProfile.objects.select_related("organisation")
        .filter(organisation=bank, organisation__kind=OrganisationKind.BANK, organisation__is_active=True)
        .first()
    )
    if profile is None:
        raise BankUnknownError("该单位不是本项目的合作银行", got=str(bank))
    return profile


def _take_in(file: BinaryIO, file_name: str, profile: BankProfile, actor: User) -> AccountFile:
    file.seek(0)
    with undone_on_error() as undo:
        upload = store_upload(undo, profile.organisation, file_name, iter(partial(file.read, _BLOCK), b""))
        with unit_of_work(actor):
            return register_upload(upload, profile.organisation, actor=actor)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is stored sealed and has no row yet."""

    file_name: str
    key_id: str
    digest: bytes
    size: int


def store_upload(undo: ExitStack, bank: Organisation, file_name: str, blocks: Iterable[bytes]) -> Upload:
    """Copy a file into storage, sealed under a key of its own; `undo` takes both back."""
    store = keystore()
    key_id = store.create(KeyPurpose.ACCOUNT_FILE, f"accounts {bank.code}")
    undo.callback(store.destroy, key_id)
    undo.callback(remove, upload_name(key_id))
    digest, size = _seal(blocks, upload_name(key_id), key_id)
    return Upload(file_name, key_id, digest, size)


def register_upload(
    upload: Upload, bank: Organisation, *, actor: User, package: AccountPackage | None = None
) -> AccountFile:
    """Write the row of a stored file and schedule its dry run, inside the caller's unit of work.

    A file of a sealed package is checked by the system: whoever handed the package in cannot read it.
    """
    with unit_of_work(actor) as work:
        row = _new_row(upload, bank, actor=actor, package=package)
        work.record("account_file.received", row, bank=bank.code, size=upload.size)
        schedule(CHECK_FILE, row, actor=User.objects.system() if package else actor)
    return row


def _seal(blocks: Iterable[bytes], stored_name: str, key_id: str) -> tuple[bytes, int]:
    """Copy blocks into a sealed file; return SM3 digest and size. Nothing of it lies in the clear."""
    hasher, size = sm3_hasher(), 0
    with write_sealed(stored_name, key_id) as target:
        for block in blocks:
            size += len(block)
            if size > settings.MAX_ACCOUNT_FILE_BYTES:
                limit = f"不超过 {settings.MAX_ACCOUNT_FILE_BYTES} 字节"
                raise AccountFileTooLargeError("账号文件过大", expected=limit)
            hasher.update(block)
            target.write(block)
        if not size:
            raise AccountFileEmptyError("账号文件是空的", got="0 字节")
    return hasher.finalize(), size


def _new_row(
    upload: Upload, bank: Organisation, *, actor: User, package: AccountPackage | None
) -> AccountFile:
    try:
        with transaction.atomic():
            row: AccountFile = AccountFile.objects.create(
                bank=bank,
                package=package,
                file_name=upload.file_name,
                digest=upload.digest,
                size=upload.size,
                key_id=upload.key_id,
                stored_name=upload_name(upload.key_id),
                uploaded_by=actor,
            )
    except IntegrityError as exc:
        earlier = AccountFile.objects.filter(bank=bank, digest=upload.digest).order_by("pk").first()
        where = f"{earlier.file_name}（{format_moment(earlier.uploaded_at)}）" if earlier else ""
        raise AccountFileReplayError("相同的账号文件已上传过", where=where) from exc
    return row


def upload_name(key_id: str) -> str:
    """Return the stored name of a file as it came."""
    return f"{FOLDER}/{key_id}/upload"


def rows_name(key_id: str) -> str:
    """Return the stored name of the checked rows, which wait between dry run and load."""
    return f"{FOLDER}/{key_id}/rows"


def check_account_file(account_file: AccountFile, *, actor: User) -> list[Task]:
    """Schedule the dry run; an upload has done so already, and a second time adds nothing."""
    require(actor, "orders.upload_accounts", account_file)
    with unit_of_work(actor) as work:
        fresh = locked(account_file)
        check_move(fresh, AccountFileStatus.CHECKED)
        tasks = schedule(CHECK_FILE, fresh, actor=actor)
        work.record("account_file.check_requested", fresh)
    return tasks


def load_account_file(account_file: AccountFile, *, actor: User) -> list[Task]:
    """Schedule loading of the good rows of a checked file; matching of the bank follows by itself."""
    require(actor, "orders.upload_accounts", account_file)
    with unit_of_work(actor) as work:
        fresh = locked(account_file)
        check_move(fresh, AccountFileStatus.LOADED)
        tasks = schedule(LOAD_FILE, fresh, actor=actor, queue="bulk")
        work.record("account_file.load_requested", fresh)
    return tasks


def set_account_layout(profile: BankProfile, mapping: Mapping[str, Any], *, actor: User) -> BankProfile:
    """Save which column of a bank's files holds what; {} returns to recognising the common labels."""
    require(actor, "orders.upload_accounts", profile)
    parse_layout(mapping)
    with unit_of_work(actor) as work:
        fresh = locked(profile)
        before, fresh.account_layout = fresh.account_layout, dict(mapping)
        fresh.save(update_fields=["account_layout"])
        work.record("bankprofile.layout_set", fresh, before=before, after=fresh.account_layout)
    return fresh


PROBLEM_COLUMNS: Final = (
    Column("行号", 8),
    Column("列", 16),
    Column("问题", 26),
    Column("应为", 40),
    Column("实为", 40),
    Column("问题代码", 20),
)


def problem_workbook(account_file: AccountFile, target: Path | BinaryIO, *, actor: User) -> int:
    """Write the dry run's findings as Excel for the bank that sent the file; return how many."""
    require(actor, "orders.upload_accounts", account_file)
    with unit_of_work(actor) as work:
        fresh = locked(account_file)
        report = account_report(fresh)
        count = write_list(
            target,
            title=told(f"{fresh.bank.name} 账号文件问题清单"),
            columns=told_columns(PROBLEM_COLUMNS),
            rows=(_problem_row(problem) for problem in report.problems),
            header_lines=_problem_head(fresh, len(report.problems), actor),
            sheet_name=told("问题"),
        )
        work.record("account_file.problems_exported", fresh, rows=count)
    return count


def _problem_head(account_file: AccountFile, listed: int, actor: User) -> list[str]:
    counted = (
        f"共 {account_file.row_count or 0} 行，有效 {account_file.good_count or 0} 行，"
        f"问题 {account_file.refused_count or 0} 行；列出问题 {listed} 条"
    )
    return [told(f"文件：{account_file.file_name}　导出人：{actor}"), told(counted)]


def _problem_row(problem: AccountProblem) -> list[str]:
    label = account_problem_label(problem.code)
    return [str(problem.row_number), problem.column, label, told(problem.expected), problem.got, problem.code]


def destroy_account_file(account_file: AccountFile, *, actor: User) -> AccountFile:
    """Destroy a file's rows, key and what is stored; matched records keep their account (R-22)."""
    require(actor, "orders.destroy_accounts", account_file)
    with unit_of_work(actor):
        fresh = locked(account_file)
        check_move(fresh, AccountFileStatus.DESTROYED)
        rows, _ = fresh.rows.all().delete()
        discard(fresh)
        return move(
            fresh,
            AccountFileStatus.DESTROYED,
            actor=actor,
            details={"rows": rows},
            problems_sealed=None,
            stored_name="",
            ring_key_id="",
        )


def discard(account_file: AccountFile) -> None:
    """Have what is stored of a file removed after the commit, and its keys destroyed."""
    key_id, ring = account_file.key_id, account_file.ring_key_id
    stored = [upload_name(key_id), rows_name(key_id), ring_name(ring) if ring else ""]
    remove_after_commit(keys=[key_id, ring], files=stored)


def refuse_file(account_file: AccountFile, refusal: PortalError, *, actor: User) -> AccountFile:
    """Move a file that cannot be used to REFUSED; only the reason stays, its key is destroyed."""
    with unit_of_work(actor):
        discard(account_file)
        return move(
            account_file,
            AccountFileStatus.REFUSED,
            actor=actor,
            details={"code": refusal.code},
            result="refused",
            refusal_code=refusal.code,
            refusal_text=str(refusal)[:500],
            stored_name="",
        )


def clear_strays(older_than: timedelta = STRAY_AFTER) -> int:
    """Remove uploads whose process was killed before their row stood, with their keys; return how many."""
    if not default_storage.exists(FOLDER):
        return 0
    limit = timezone.now() - older_than
    folders = set(default_storage.listdir(FOLDER)[0])
    folders -= set(AccountFile.objects.filter(key_id__in=folders).values_list("key_id", flat=True))
    strays = [key_id for key_id in sorted(folders) if _is_older(upload_name(key_id), limit)]
    for key_id in strays:
        if keystore().exists(key_id):
            keystore().destroy(key_id)
        remove(upload_name(key_id))
    return len(strays)


def _is_older(name: str, limit: datetime) -> bool:
    return default_storage.exists(name) and default_storage.get_modified_time(name) < limit
