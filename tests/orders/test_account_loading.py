"""Loading account rows, replacing older ones, and destroying them (R-9, R-22)."""

from __future__ import annotations

import datetime as dt

import pytest

from orders import jobs_accounts, personal
from orders.choices import AccountFileStatus, RecordStatus
from orders.models import AccountFile, AccountRow, CardholderRecord
from orders.selectors.accounts import account_report
from orders.services import account_loading
from orders.services.accounts import (
    clear_strays,
    destroy_account_file,
    load_account_file,
)
from orders.services.matching import match_bank
from portal.core.errors import PermissionRefusedError, TransitionRefusedError
from portal.files import keystore
from portal.models import AuditEntry, Task, User
from portal.queue import run_task
from portal.removal import remove_pending
from tests.orders.account_desk import checked, current, loaded, run_tasks, stored_files, upload
from tests.orders.scene import (
    Scene,
    csv_file,
    person,
)


class TestLoad:
    def test_it_loads_then_matches_and_keeps_no_file(self, scene: Scene) -> None:
        """R-9, R-22: after the load only the sealed rows are left, and the ring of their keys."""
        (record,) = scene.add_records([person(1)], scene.banks[0])
        account_file = loaded(scene, csv_file([person(1).row(), person(2).row()]))
        assert account_file.status == AccountFileStatus.LOADED
        assert current(scene.banks[0]) == {person(n).number: person(n).account for n in (1, 2)}
        run_tasks("orders.jobs_accounts.match_bank")
        assert CardholderRecord.objects.get(pk=record.pk).status == RecordStatus.MATCHED
        remove_pending()
        assert [path.parent.name for path in stored_files()] == ["rings"]
        assert AuditEntry.objects.get(action="accountfile.loaded").details["rows"] == 2

    def test_the_upload_goes_with_its_key(self, scene: Scene) -> None:
        """R-22: the key of the file as the bank sent it opened everybody's row; the findings stay."""
        account_file = checked(scene, csv_file([person(1).row(), ("x", "y", "z")]))
        found = account_report(account_file)
        load_account_file(account_file, actor=scene.bank_clerks[0])
        run_tasks("orders.jobs_accounts.load_account_file")
        remove_pending()
        fresh = AccountFile.objects.get()
        assert [keystore().exists(key) for key in (account_file.key_id, fresh.key_id, fresh.ring_key_id)] == [
            False,
            True,
            True,
        ]
        assert account_report(fresh) == found != account_report(AccountFile())

    def test_a_newer_row_replaces_the_older(self, scene: Scene) -> None:
        """R-9: one current account for each bank and person, the last one."""
        loaded(scene, csv_file([person(1).row(), person(2).row()]))
        loaded(scene, csv_file([[person(1).number, person(1).name, person(7).account]]))
        loaded(scene, csv_file([person(2).row()]), bank=1)
        assert current(scene.banks[0]) == {
            person(1).number: person(7).account,
            person(2).number: person(2).account,
        }
        assert current(scene.banks[1]) == {person(2).number: person(2).account}
        assert AccountRow.objects.filter(is_current=False).count() == 1

    def test_a_changed_account_is_matched_again_an_unchanged_one_is_not(self, scene: Scene) -> None:
        """R-9: a corrected account reaches the card as long as nothing is ordered."""
        records = scene.add_records([person(1), person(2)], scene.banks[0])
        loaded(scene, csv_file([person(1).row(), person(2).row()]))
        match_bank(scene.banks[0], actor=scene.clerk)
        before = CardholderRecord.objects.get(pk=records[1].pk).matched_at
        loaded(scene, csv_file([[person(1).number, person(1).name, person(7).account], person(2).row()]))
        waiting = CardholderRecord.objects.get(pk=records[0].pk)
        assert (waiting.status, waiting.account_sealed, waiting.matched_at) == ("accepted", None, None)
        match_bank(scene.banks[0], actor=scene.clerk)
        fresh = CardholderRecord.objects.select_related("package").get(pk=records[0].pk)
        assert personal.open_account(fresh) == person(7).account
        assert CardholderRecord.objects.get(pk=records[1].pk).matched_at == before
        details = AuditEntry.objects.filter(action="accountfile.loaded").first()
        assert details is not None
        assert details.details | {"before": "", "after": ""} == {
            "before": "", "after": "", "rows": 2, "replaced": 2, "rematched": 1,
        }  # fmt: skip

    def test_a_refused_row_gives_the_record_its_reason_and_spares_an_older_account(
        self, scene: Scene
    ) -> None:
        """R-9: account_refused."""
        records = scene.add_records([person(1), person(2)], scene.banks[0])
        loaded(scene, csv_file([person(2).row()]))
        loaded(scene, csv_file([[person(1).number, "张样", "12"], [person(2).number, "王样", "6.2E+18"]]))
        match_bank(scene.banks[0], actor=scene.clerk)
        found = [CardholderRecord.objects.get(pk=record.pk) for record in records]
        assert [(each.status, each.unmatched_reason) for each in found] == [
            ("accepted", "account_refused"),
            ("matched", ""),
        ]

    def test_an_unchecked_file_cannot_be_loaded(self, scene: Scene) -> None:
        account_file = upload(scene, csv_file([person(1).row()]))
        with pytest.raises(TransitionRefusedError):
            load_account_file(account_file, actor=scene.bank_clerks[0])
        assert not Task.objects.filter(handler__endswith="load_account_file").exists()

    def test_a_load_that_breaks_off_leaves_nothing_and_succeeds_the_next_time(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-9: a worker that dies half-way loses and doubles nothing."""
        monkeypatch.setattr("orders.services.account_loading.CHUNK", 2)
        account_file = checked(scene, csv_file([person(serial).row() for serial in range(5)]))
        (task,) = load_account_file(account_file, actor=scene.bank_clerks[0])
        whole, calls = account_loading.copy_rows, iter(range(9))

        def breaking(*args: object) -> int:
            if next(calls) == 1:
                raise OSError("gone")
            return whole(*args)  # type: ignore[arg-type]

        monkeypatch.setattr("orders.services.account_loading.copy_rows", breaking)
        assert not run_task(task.pk)
        assert not AccountRow.objects.exists()
        assert AccountFile.objects.get().status == AccountFileStatus.CHECKED
        assert run_task(task.pk)
        assert len(current(scene.banks[0])) == 5


class TestDestruction:
    def test_key_rows_and_files_go(self, scene: Scene) -> None:
        """R-22."""
        account_file = loaded(scene, csv_file([person(1).row()]))
        with pytest.raises(PermissionRefusedError):
            destroy_account_file(account_file, actor=scene.clerk)
        assert AccountRow.objects.count() == 1
        destroyed = destroy_account_file(account_file, actor=User.objects.system())
        remove_pending()
        assert (destroyed.status, destroyed.problems_sealed) == (AccountFileStatus.DESTROYED, None)
        assert not AccountRow.objects.exists()
        assert not keystore().exists(account_file.key_id)
        assert stored_files() == []

    def test_a_loaded_file_without_rows_is_destroyed_by_itself(self, scene: Scene) -> None:
        """R-22: when the last person's batch is destroyed, the file's key has no purpose left."""
        kept = loaded(scene, csv_file([person(1).row()]))
        emptied = loaded(scene, csv_file([person(2).row()]))
        emptied.rows.all().delete()
        jobs_accounts.advance()
        remove_pending()
        assert AccountFile.objects.get(pk=emptied.pk).status == AccountFileStatus.DESTROYED
        assert AccountFile.objects.get(pk=kept.pk).status == AccountFileStatus.LOADED
        assert [keystore().exists(each.key_id) for each in (kept, emptied)] == [True, False]

    def test_an_upload_killed_before_its_row_stood_is_removed_later(self, scene: Scene) -> None:
        """R-22: young ones are spared, for their upload may still be under way."""
        kept = upload(scene, csv_file([person(1).row()]))
        lost = upload(scene, csv_file([person(2).row()]))
        AccountFile.objects.filter(pk=lost.pk).delete()
        assert clear_strays() == 0
        assert clear_strays(dt.timedelta(seconds=-5)) == 1
        assert [path.parent.name for path in stored_files()] == [kept.key_id]
        assert [keystore().exists(each.key_id) for each in (kept, lost)] == [True, False]
