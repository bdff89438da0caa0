"""Accounts without a purpose go by themselves: replaced ones, and those nobody's record came for (R-22)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from orders.choices import AccountFileStatus
from orders.models import AccountFile, AccountRow
from orders.selectors.accounts import open_account_row
from orders.services.account_destruction import destroy_retired_rows
from portal.core.key_refusals import KeyDestroyedError
from portal.files import keystore
from tests.orders.account_desk import loaded, stored_files
from tests.orders.scene import Scene, csv_file, person


@pytest.fixture
def committed(django_capture_on_commit_callbacks: Any) -> Any:
    """Do what follows a commit at the end of the block."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


class TestAccounts:
    def test_nobodys_account_goes_after_its_time(self, scene: Scene, settings: Any, committed: Any) -> None:
        """R-22: an account waits for its person's record, not for ever; who has a record keeps it."""
        settings.ACCOUNT_RETENTION_DAYS = 30
        scene.add_records([person(1)], scene.banks[0])
        file = loaded(scene, csv_file([person(1).row(), person(2).row()]))
        rows = {row.row_number: row for row in AccountRow.objects.select_related("account_file")}
        assert destroy_retired_rows(timezone.now() + dt.timedelta(days=29)) == 0
        with committed():
            assert destroy_retired_rows(timezone.now() + dt.timedelta(days=31)) == 1
        first, second = (rows[number] for number in sorted(rows))
        assert open_account_row(first) == person(1).account
        with pytest.raises(KeyDestroyedError):
            open_account_row(second)
        file.refresh_from_db()
        assert file.status == AccountFileStatus.LOADED

    def test_a_file_nobody_of_has_a_record_goes_whole(
        self, scene: Scene, settings: Any, committed: Any
    ) -> None:
        settings.ACCOUNT_RETENTION_DAYS = 30
        file = loaded(scene, csv_file([person(1).row(), person(2).row()]))
        with committed():
            assert destroy_retired_rows(timezone.now() + dt.timedelta(days=31)) == 2
        fresh = AccountFile.objects.get()
        assert (fresh.status, fresh.ring_key_id) == (AccountFileStatus.DESTROYED, "")
        assert not keystore().exists(file.ring_key_id)
        assert not keystore().exists(file.key_id)
        assert stored_files() == []

    def test_what_a_newer_file_replaced_goes_at_once(self, scene: Scene, committed: Any) -> None:
        """R-22: the older account has no purpose left; the newer one stays."""
        older = loaded(scene, csv_file([person(1).row(), person(2).row()]))
        newer = loaded(scene, csv_file([(person(1).number, person(1).name, person(9).account)]))
        dumped = list(older.rows.select_related("account_file").order_by("row_number"))
        with committed():
            assert destroy_retired_rows() == 1
        with pytest.raises(KeyDestroyedError):
            open_account_row(dumped[0])
        assert open_account_row(dumped[1]) == person(2).account
        assert open_account_row(newer.rows.select_related("account_file").get()) == person(9).account
