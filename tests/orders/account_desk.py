"""What a bank's clerk does with account files, in a few words, for the tests."""

from __future__ import annotations

import io
from pathlib import Path

from django.core.files.storage import default_storage

from orders import personal
from orders.models import AccountFile, AccountRow
from orders.selectors.accounts import account_report, open_account_row
from orders.services.accounts import load_account_file, upload_account_file
from portal.models import Organisation, Task
from portal.queue import run_task
from tests.orders.scene import Scene, person_number


def upload(scene: Scene, content: io.BytesIO, bank: int = 0, name: str = "accounts.csv") -> AccountFile:
    return upload_account_file(content, file_name=name, bank=scene.banks[bank], actor=scene.bank_clerks[bank])


def run_tasks(handler: str) -> None:
    for task in Task.objects.filter(handler=handler, status="queued").order_by("pk"):
        assert run_task(task.pk), task.error_code


def checked(scene: Scene, content: io.BytesIO, bank: int = 0) -> AccountFile:
    account_file = upload(scene, content, bank)
    run_tasks("orders.jobs_accounts.check_account_file")
    account_file.refresh_from_db()
    return account_file


def loaded(scene: Scene, content: io.BytesIO, bank: int = 0) -> AccountFile:
    account_file = checked(scene, content, bank)
    load_account_file(account_file, actor=scene.bank_clerks[bank])
    run_tasks("orders.jobs_accounts.load_account_file")
    account_file.refresh_from_db()
    return account_file


def current(bank: Organisation) -> dict[str, str]:
    """Return the accounts on hand by number, opened."""
    rows = AccountRow.objects.filter(bank=bank, is_current=True).select_related("account_file")
    known = {personal.number_index(person_number(serial)): person_number(serial) for serial in range(60)}
    return {known[bytes(row.number_index)]: open_account_row(row) for row in rows}


def stored_files() -> list[Path]:
    root = Path(default_storage.location)  # type: ignore[attr-defined]
    return [path for path in root.rglob("*") if path.is_file()]


def problems(account_file: AccountFile) -> list[tuple[int, str, str]]:
    return [(each.row_number, each.column, each.code) for each in account_report(account_file).problems]
