"""Matching records with the banks' accounts by number, name and bank (R-9)."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from orders import jobs_accounts, personal
from orders.choices import RecordStatus, UnmatchedReason
from orders.models import AccountFile, AccountRow, CardholderRecord, Package
from orders.selectors.accounts import account_context, unmatched_counts
from orders.services.matching import match_bank, match_records, unmatched_report
from portal.core.crypto import TamperedError
from portal.core.errors import PermissionRefusedError
from portal.core.keystore import KeyPurpose
from portal.files import cipher, keystore
from portal.models import AuditEntry, Organisation, Task
from portal.queue import run_task
from tests.orders.scene import Person, Scene, make_package, person


@dataclass
class Ledger:
    """Account rows of a bank, as loading leaves them."""

    file: AccountFile

    @classmethod
    def of(cls, scene: Scene, bank: Organisation) -> Ledger:
        key_id = keystore().create(KeyPurpose.ACCOUNT_FILE, bank.code)
        place = scene.banks.index(bank)
        return cls(
            AccountFile.objects.create(
                bank=bank,
                file_name="a.csv",
                digest=key_id.encode(),
                size=1,
                status=AccountFile.Status.LOADED,
                key_id=key_id,
                uploaded_by=scene.bank_clerks[place],
            )
        )

    def add(self, each: Person, *, refused: bool = False) -> AccountRow:
        row = AccountRow.objects.create(
            account_file=self.file,
            bank=self.file.bank,
            row_number=self.file.rows.count() + 1,
            number_index=personal.number_index(each.number),
            name_index=b"" if refused else personal.name_index(each.name),
            account_index=b"" if refused else personal.account_index(each.account),
            account_sealed=b"",
            is_current=not refused,
        )
        if not refused:
            row.account_sealed = cipher(self.file.key_id).seal(each.account.encode(), account_context(row.pk))
            row.save(update_fields=["account_sealed"])
        return row


def outcome(record: CardholderRecord) -> tuple[str, str, str]:
    fresh = CardholderRecord.objects.select_related("package").get(pk=record.pk)
    assert (fresh.matched_at is not None) == (fresh.status == RecordStatus.MATCHED)
    return fresh.status, fresh.unmatched_reason, personal.open_account(fresh)


class TestMatchBank:
    def test_number_name_and_bank_agree(self, scene: Scene) -> None:
        """R-9: the account moves under the record's own key."""
        (record,) = scene.add_records([person(1)], scene.banks[0])
        Ledger.of(scene, scene.banks[0]).add(person(1))
        result = match_bank(scene.banks[0], actor=scene.clerk)
        assert (result.matched, result.unmatched) == (1, {})
        assert outcome(record) == ("matched", "", person(1).account)

    def test_each_reason(self, scene: Scene) -> None:
        """R-9: whoever is not matched waits with the reason."""
        people = [person(serial) for serial in range(5)]
        records = scene.add_records(people, scene.banks[0])
        own, other = (Ledger.of(scene, bank) for bank in scene.banks)
        own.add(Person(people[1].number, "王某", people[1].account))
        other.add(people[2])
        own.add(people[3], refused=True)
        other.add(people[3])
        own.add(people[4], refused=True)
        own.add(people[4])
        result = match_bank(scene.banks[0], actor=scene.clerk)
        assert [outcome(record) for record in records] == [
            ("accepted", "no_account", ""),
            ("accepted", "name_differs", ""),
            ("accepted", "other_bank", ""),
            ("accepted", "account_refused", ""),
            ("matched", "", people[4].account),
        ]
        reasons = {"account_refused": 1, "name_differs": 1, "no_account": 1, "other_bank": 1}
        assert (result.matched, result.unmatched, result.examined) == (1, reasons, 5)
        assert unmatched_counts(scene.clerk) == reasons
        assert unmatched_counts(scene.bank_clerks[1]) == {}
        entry = AuditEntry.objects.get(action="records.matched")
        assert entry.details == {"matched": 1, "unmatched": reasons}

    def test_a_second_run_changes_nothing(self, scene: Scene) -> None:
        """R-9: idempotent, so a run that was killed may simply run again."""
        records = scene.add_records([person(1), person(2)], scene.banks[0])
        Ledger.of(scene, scene.banks[0]).add(person(1))
        match_bank(scene.banks[0], actor=scene.clerk)
        before = list(CardholderRecord.objects.order_by("pk").values())
        result = match_bank(scene.banks[0], actor=scene.clerk)
        assert (result.matched, result.unmatched) == (0, {"no_account": 1})
        assert list(CardholderRecord.objects.order_by("pk").values()) == before
        assert outcome(records[0])[0] == "matched"

    def test_a_reason_changes_when_the_bank_delivers(self, scene: Scene) -> None:
        (record,) = scene.add_records([person(1)], scene.banks[0])
        match_bank(scene.banks[0], actor=scene.clerk)
        assert outcome(record)[1] == UnmatchedReason.NO_ACCOUNT
        Ledger.of(scene, scene.banks[0]).add(person(1))
        match_bank(scene.banks[0], actor=scene.clerk)
        assert outcome(record) == ("matched", "", person(1).account)

    def test_other_banks_and_other_states_are_left_alone(self, scene: Scene) -> None:
        (mine,) = scene.add_records([person(1)], scene.banks[0])
        (theirs,) = scene.add_records([person(2)], scene.banks[1])
        CardholderRecord.objects.filter(pk=mine.pk).update(status=RecordStatus.CANCELLED)
        for bank in scene.banks:
            ledger = Ledger.of(scene, bank)
            ledger.add(person(1))
            ledger.add(person(2))
        assert match_bank(scene.banks[0], actor=scene.clerk).examined == 0
        assert [CardholderRecord.objects.get(pk=each.pk).status for each in (mine, theirs)] == [
            RecordStatus.CANCELLED,
            RecordStatus.ACCEPTED,
        ]
        assert not AuditEntry.objects.filter(action="records.matched").exists()

    def test_more_than_one_chunk_in_several_packages(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("orders.services.matching.CHUNK", 3)
        ledger = Ledger.of(scene, scene.banks[0])
        people = [person(serial) for serial in range(8)]
        second = make_package(scene.purchaser, scene.clerk, "P2")
        records = scene.add_records(people[:4], scene.banks[0])
        records += scene.add_records(people[4:], scene.banks[0], package=second)
        for each in people:
            ledger.add(each)
        assert match_bank(scene.banks[0], actor=scene.clerk).matched == 8
        assert [outcome(record)[2] for record in records] == [each.account for each in people]

    def test_an_account_sealed_for_another_row_stops_the_run_and_changes_nothing(self, scene: Scene) -> None:
        """R-45: an account moved between rows does not open, and no card gets it."""
        scene.add_records([person(1), person(2)], scene.banks[0])
        ledger = Ledger.of(scene, scene.banks[0])
        first, second = ledger.add(person(1)), ledger.add(person(2))
        AccountRow.objects.filter(pk=second.pk).update(account_sealed=first.account_sealed)
        with pytest.raises(TamperedError):
            match_bank(scene.banks[0], actor=scene.clerk)
        assert set(CardholderRecord.objects.values_list("status", flat=True)) == {RecordStatus.ACCEPTED}
        assert not AuditEntry.objects.filter(action="records.matched").exists()

    def test_banks_do_not_match(self, scene: Scene) -> None:
        (record,) = scene.add_records([person(1)], scene.banks[0])
        for actor in (scene.bank_clerks[0], scene.approver):
            with pytest.raises(PermissionRefusedError):
                match_bank(scene.banks[0], actor=actor)
            with pytest.raises(PermissionRefusedError):
                match_records(actor=actor)
        assert outcome(record) == ("accepted", "", "")
        assert not Task.objects.exists()


NAMES = ("王样", "李样")


def naive(
    records: list[tuple[int, int, int]], rows: list[tuple[int, int, int, bool]]
) -> dict[tuple[int, int], tuple[str, str]]:
    """Join plain lists: (person, bank, name) with (person, bank, name, refused), the last good row counts."""
    good = {
        (who, bank): (name, place) for place, (who, bank, name, refused) in enumerate(rows) if not refused
    }
    spoilt = {(who, bank) for who, bank, _, refused in rows if refused}
    found = {}
    for who, bank, name in records:
        if (who, bank) in good:
            theirs, place = good[who, bank]
            found[who, bank] = ("matched", f"{place:016d}") if theirs == name else ("name_differs", "")
        elif (who, bank) in spoilt:
            found[who, bank] = ("account_refused", "")
        else:
            elsewhere = any(owner == who and at != bank for owner, at in good)
            found[who, bank] = ("other_bank" if elsewhere else "no_account", "")
    return found


class TestProperty:
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        records=st.lists(
            st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 1)),
            max_size=6,
            unique_by=lambda record: record[0],
        ),
        rows=st.lists(
            st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 1), st.booleans()), max_size=10
        ),
    )
    def test_matching_is_the_naive_join(
        self,
        scene: Scene,
        records: list[tuple[int, int, int]],
        rows: list[tuple[int, int, int, bool]],
    ) -> None:
        """R-9."""
        with transaction.atomic():
            ledgers = [Ledger.of(scene, bank) for bank in scene.banks]
            for place, (who, bank, name, refused) in enumerate(rows):
                older = AccountRow.objects.filter(
                    bank=scene.banks[bank],
                    number_index=personal.number_index(person(who).number),
                    is_current=not refused,
                )
                if not refused:
                    older.update(is_current=False)
                ledgers[bank].add(Person(person(who).number, NAMES[name], f"{place:016d}"), refused=refused)
            stored = {}
            for who, bank, name in records:
                each = Person(person(who).number, NAMES[name], "")
                stored[who, bank] = scene.add_records([each], scene.banks[bank])[0]
            for bank_row in scene.banks:
                match_bank(bank_row, actor=scene.clerk)
            found = {}
            for key, record in stored.items():
                status, reason, account = outcome(record)
                found[key] = (reason or status, account)
            assert found == naive(records, rows)
            transaction.set_rollback(True)


class TestTasks:
    def test_each_bank_with_waiting_records_gets_a_task_of_its_own(self, scene: Scene) -> None:
        (record,) = scene.add_records([person(1)], scene.banks[1])
        Ledger.of(scene, scene.banks[1]).add(person(1))
        (task,) = match_records(actor=scene.clerk)
        assert (task.subject_id, task.part, task.queue) == (scene.banks[1].pk, 1, "bulk")
        assert run_task(task.pk)
        assert outcome(record)[0] == "matched"
        assert match_records(actor=scene.clerk) == []

    def test_a_later_run_is_a_new_task(self, scene: Scene) -> None:
        """A done task never runs again, so every request needs one of its own."""
        scene.add_records([person(1)], scene.banks[0])
        (first,) = match_records(actor=scene.clerk)
        assert run_task(first.pk)
        (second,) = match_records(actor=scene.clerk, bank=scene.banks[0])
        assert (second.part, second.status) == (2, "queued")

    def test_records_of_a_validated_package_are_matched_without_being_asked_for(self, scene: Scene) -> None:
        """R-9, R-10: the clock never waits for somebody to press a button."""
        scene.add_records([person(1)], scene.banks[0])
        jobs_accounts.advance()
        jobs_accounts.advance()
        (task,) = Task.objects.all()
        assert run_task(task.pk)
        jobs_accounts.advance()
        assert Task.objects.count() == 1

    def test_records_of_an_unfinished_package_wait(self, scene: Scene) -> None:
        scene.add_records([person(1)], scene.banks[0])
        Package.objects.update(status=Package.Status.VALIDATING)
        jobs_accounts.advance()
        assert not Task.objects.exists()

    def test_the_command(self, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        scene.add_records([person(1), person(2)], scene.banks[0])
        Ledger.of(scene, scene.banks[0]).add(person(1))
        call_command("match")
        call_command("match", "--now")
        call_command("match", "--now", "--bank", "BANK2")
        assert capsys.readouterr().out.splitlines() == [
            "已安排 1 家银行的匹配",
            "BANK1：匹配 1，未匹配 银行未提供账号 1",
            "BANK2：匹配 0，未匹配 0",
            "BANK2：匹配 0，未匹配 0",
        ]
        with pytest.raises(CommandError, match="account_bank_unknown"):
            call_command("match", "--bank", "SUP1")


class TestUnmatchedReport:
    def test_it_lists_the_banks_own_rows_masked(self, scene: Scene) -> None:
        """R-9: the bank learns whom it has to deliver, and nothing about other banks' people."""
        scene.add_records([person(1), person(2)], scene.banks[0])
        scene.add_records([person(3)], scene.banks[1])
        Ledger.of(scene, scene.banks[0]).add(Person(person(2).number, "别名", person(2).account))
        match_bank(scene.banks[0], actor=scene.clerk)
        target = io.BytesIO()
        assert unmatched_report(scene.banks[0], target, actor=scene.bank_clerks[0]) == 2
        target.seek(0)
        rows = [[cell.value or "" for cell in row] for row in load_workbook(target).active.iter_rows()]
        masked = [f"4406{'*' * 10}{person(serial).number[-4:]}" for serial in (1, 2)]
        assert rows[3:] == [
            [
                "1",
                "P1",
                "1",
                masked[0],
                "王*张",
                "首发",
                "成品卡",
                "BANK1一支行",
                "银行未提供账号",
            ],
            ["2", "P1", "2", masked[1], "李*张", "首发", "成品卡", "BANK1一支行", "姓名不一致"],
        ]
        text = str(rows)
        assert person(1).number not in text
        assert person(1).name not in text
        entry = AuditEntry.objects.get(action="unmatched.exported")
        assert (entry.object_id, entry.details) == (str(scene.banks[0].pk), {"rows": 2})

    def test_another_bank_is_refused_and_writes_nothing(self, scene: Scene) -> None:
        scene.add_records([person(1)], scene.banks[0])
        target = io.BytesIO()
        with pytest.raises(PermissionRefusedError):
            unmatched_report(scene.banks[0], target, actor=scene.bank_clerks[1])
        assert target.getvalue() == b""
        assert not AuditEntry.objects.filter(action="unmatched.exported").exists()

    def test_nobody_waiting_is_an_empty_list(self, scene: Scene) -> None:
        target = io.BytesIO()
        assert unmatched_report(scene.banks[0], target, actor=scene.clerk) == 0
        assert target.getvalue().startswith(b"PK")
