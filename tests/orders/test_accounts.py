"""Account files of the banks: upload, dry run, load, and what the bank gets back (R-5, R-8, R-9)."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from openpyxl import Workbook, load_workbook

from orders import jobs_accounts, personal
from orders.account_rows import LayoutRefusedError
from orders.choices import AccountFileStatus, RecordStatus
from orders.models import AccountFile, AccountRow, BankProfile, CardholderRecord
from orders.selectors.accounts import account_context, account_report, problem_counts
from orders.services import account_loading
from orders.services.accounts import (
    AccountFileReplayError,
    BankUnknownError,
    check_account_file,
    destroy_account_file,
    load_account_file,
    problem_workbook,
    set_account_layout,
    upload_account_file,
)
from orders.services.matching import match_bank
from portal.core.errors import PermissionRefusedError, TransitionRefusedError
from portal.files import cipher, keystore
from portal.models import AuditEntry, Organisation, Task, User
from portal.queue import run_task
from portal.removal import remove_pending
from portal.samples.accounts import AccountFault, write_account_files
from portal.samples.banks import BANKS
from portal.samples.layouts import LAYOUTS
from portal.samples.people import people
from tests.orders.scene import (
    TODAY,
    Person,
    Scene,
    csv_file,
    make_bank,
    make_user,
    person,
    person_number,
)


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
    return {
        known[bytes(row.number_index)]: cipher(row.account_file.key_id)
        .open(bytes(row.account_sealed), account_context(row.pk))
        .decode()
        for row in rows
    }


def stored_files() -> list[Path]:
    root = Path(default_storage.location)  # type: ignore[attr-defined]
    return [path for path in root.rglob("*") if path.is_file()]


def problems(account_file: AccountFile) -> list[tuple[int, str, str]]:
    return [(each.row_number, each.column, each.code) for each in account_report(account_file).problems]


class TestUpload:
    def test_the_file_is_sealed_and_its_dry_run_scheduled(self, scene: Scene) -> None:
        """R-8: nothing of the file lies readable in storage."""
        account_file = upload(scene, csv_file([person(1).row()]), name="C:\\开户\\九月.csv")
        assert (account_file.status, account_file.file_name) == ("received", "九月.csv")
        assert account_file.size == len(csv_file([person(1).row()]).getvalue())
        (stored,) = stored_files()
        assert person(1).account.encode() not in stored.read_bytes()
        (task,) = Task.objects.all()
        assert task.handler == "orders.jobs_accounts.check_account_file"
        assert check_account_file(account_file, actor=scene.bank_clerks[0]) == [task]
        entry = AuditEntry.objects.get(action="account_file.received")
        assert entry.details == {"bank": "BANK1", "size": account_file.size}

    def test_only_the_banks_own_clerk_uploads(self, scene: Scene) -> None:
        """R-45: no bank touches another's files, the purchaser uploads none."""
        for actor in (scene.bank_clerks[1], scene.clerk, scene.approver):
            with pytest.raises(PermissionRefusedError):
                upload_account_file(
                    csv_file([person(1).row()]), file_name="a.csv", bank=scene.banks[0], actor=actor
                )
        assert not AccountFile.objects.exists()
        assert stored_files() == []

    def test_another_bank_cannot_work_on_it(self, scene: Scene) -> None:
        account_file = checked(scene, csv_file([person(1).row()]))
        other = scene.bank_clerks[1]
        with pytest.raises(PermissionRefusedError):
            load_account_file(account_file, actor=other)
        with pytest.raises(PermissionRefusedError):
            check_account_file(account_file, actor=other)
        with pytest.raises(PermissionRefusedError):
            problem_workbook(account_file, io.BytesIO(), actor=other)
        with pytest.raises(PermissionRefusedError):
            set_account_layout(BankProfile.objects.get(organisation=scene.banks[0]), {}, actor=other)
        assert AccountFile.objects.get().status == AccountFileStatus.CHECKED
        assert not AccountRow.objects.exists()

    def test_the_same_file_again_is_refused_unless_the_first_was(self, scene: Scene) -> None:
        upload(scene, csv_file([person(1).row()]))
        with pytest.raises(AccountFileReplayError) as refusal:
            upload(scene, csv_file([person(1).row()]))
        assert "accounts.csv" in refusal.value.where
        assert len(stored_files()) == AccountFile.objects.count() == 1
        assert AuditEntry.objects.get(action="account_file.refused").details == {
            "code": "account_file_replay"
        }
        upload(scene, csv_file([person(1).row()]), bank=1)
        AccountFile.objects.update(status=AccountFileStatus.REFUSED)
        assert upload(scene, csv_file([person(1).row()])).status == "received"

    def test_an_organisation_that_is_no_bank_is_refused(self, scene: Scene) -> None:
        """R-5."""
        system = User.objects.system()
        with pytest.raises(BankUnknownError):
            upload_account_file(
                csv_file([person(1).row()]), file_name="a.csv", bank=scene.suppliers[0], actor=system
            )
        Organisation.objects.filter(pk=scene.banks[0].pk).update(is_active=False)
        with pytest.raises(BankUnknownError):
            upload_account_file(
                csv_file([person(1).row()]), file_name="a.csv", bank=scene.banks[0], actor=system
            )
        assert not AccountFile.objects.exists()


class TestDryRun:
    def test_good_rows_are_counted_and_nothing_is_loaded(self, scene: Scene) -> None:
        account_file = checked(scene, csv_file([person(serial).row() for serial in range(3)]))
        assert (account_file.status, account_file.row_count) == ("checked", 3)
        assert (account_file.good_count, account_file.refused_count) == (3, 0)
        assert problems(account_file) == []
        assert not AccountRow.objects.exists()

    def test_every_row_fault_is_named_by_row_and_column(self, scene: Scene) -> None:
        """R-9: row, column, expected, got; the good row goes on."""
        good = person(1)
        account_file = checked(
            scene,
            csv_file(
                [
                    good.row(),
                    ["1.1E+17", "李样", person(2).account],
                    [
                        person(3).number[:-1] + ("0" if person(3).number[-1] != "0" else "1"),
                        "李样",
                        person(3).account,
                    ],
                    [person(4).number, "", person(4).account],
                    [person(5).number, "李样", ""],
                    [person(6).number, "李样", "62220200"],
                    [person(7).number, "李样", "6.2220200000E+15"],
                    [person(8).number, "=1+1", "622202000000A008"],
                    good.row(),
                    [person(9).number, "李样", good.account],
                    ["", "李样", person(10).account],
                ]
            ),
        )
        assert problems(account_file) == [
            (3, "证件号码", "number_rounded"),
            (4, "证件号码", "number_checksum"),
            (5, "户名", "name_missing"),
            (6, "账号", "account_missing"),
            (7, "账号", "account_format"),
            (8, "账号", "account_rounded"),
            (9, "户名", "name_symbol"),
            (9, "账号", "account_format"),
            (10, "证件号码", "number_repeated"),
            (11, "账号", "account_repeated"),
            (12, "证件号码", "number_missing"),
        ]
        assert (account_file.row_count, account_file.good_count, account_file.refused_count) == (11, 1, 10)
        rounded = account_report(account_file).problems[0]
        assert (rounded.expected, rounded.got) == (
            "文本格式的完整号码（被电子表格改成了科学计数）",
            "1.1E+17",
        )
        assert person(6).number not in repr(account_report(account_file))
        assert problem_counts(account_file)["account_format"] == 2

    def test_contradicting_rows_of_one_person_are_all_refused(self, scene: Scene) -> None:
        """R-9: nobody can tell which of two accounts is right."""
        twice = person(1)
        account_file = loaded(
            scene,
            csv_file([twice.row(), person(2).row(), [twice.number, twice.name, person(3).account]]),
        )
        assert problems(account_file) == [
            (2, "证件号码", "number_conflict"),
            (4, "证件号码", "number_conflict"),
        ]
        assert (account_file.good_count, account_file.refused_count) == (1, 2)
        assert current(scene.banks[0]) == {person(2).number: person(2).account}

    def test_a_number_that_excel_rounded_is_named(self, scene: Scene) -> None:
        """R-9: a numeric cell of 18 digits lost its last three; one of 12 digits lost nothing."""
        book = Workbook()
        sheet = book.active
        sheet.append(["身份证号", "姓名", "卡号"])
        sheet.append([float(person(1).number[:17] + "0"), person(1).name, person(1).account])
        sheet.append([person(2).number, person(2).name, 123456789012])
        sheet.append([person(3).number, person(3).name, float(person(3).account)])
        content = io.BytesIO()
        book.save(content)
        account_file = loaded(scene, content)
        assert problems(account_file) == [
            (2, "身份证号", "number_rounded"),
            (4, "卡号", "account_rounded"),
        ]
        assert current(scene.banks[0]) == {person(2).number: "123456789012"}

    def test_spellings_of_typists_still_match(self, scene: Scene) -> None:
        """R-9, R-12: full-width digits, lower-case x, spaces, another middle dot."""
        who = Person(person_number(8), "买买提·艾力", person(8).account)
        (record,) = scene.add_records([who], scene.banks[0])
        wide = who.number.translate({ord(str(digit)): 0xFF10 + digit for digit in range(10)}).lower()
        spaced = " ".join(who.account[at : at + 4] for at in range(0, 19, 4))
        loaded(scene, csv_file([[wide, "买买提•艾力 ", spaced]]))
        match_bank(scene.banks[0], actor=scene.clerk)
        record = CardholderRecord.objects.select_related("package").get(pk=record.pk)
        assert personal.open_account(record) == who.account

    def test_running_it_again_changes_nothing(self, scene: Scene) -> None:
        account_file = checked(scene, csv_file([person(1).row()]))
        with pytest.raises(TransitionRefusedError):
            check_account_file(account_file, actor=scene.bank_clerks[0])
        task = Task.objects.get()
        jobs_accounts.check_account_file(task)
        assert AccountFile.objects.get().status == AccountFileStatus.CHECKED
        assert AuditEntry.objects.filter(action="accountfile.checked").count() == 1


class TestLayout:
    def test_a_saved_mapping_finds_columns_nobody_would_recognise(self, scene: Scene) -> None:
        """R-9: 18 banks, 18 layouts."""
        profile = BankProfile.objects.get(organisation=scene.banks[0])
        mapping = {
            "header_row": 1,
            "columns": {"number": "甲", "name": "乙", "account": "丙"},
            "encoding": "gb18030",
        }
        set_account_layout(profile, mapping, actor=scene.bank_clerks[0])
        rows = f"开户清单\n丙,甲,乙,卡号\n{person(1).account},{person(1).number},{person(1).name},9"
        loaded(scene, io.BytesIO(rows.encode("gb18030")))
        assert current(scene.banks[0]) == {person(1).number: person(1).account}
        assert AuditEntry.objects.get(action="bankprofile.layout_set").details["after"] == mapping

    @pytest.mark.parametrize(
        "mapping",
        [
            {"columns": {"number": "甲", "name": "乙"}},
            {"columns": {"number": "甲", "name": "乙", "account": " 甲"}},
            {"columns": {"number": "甲", "name": "乙", "account": ""}},
            {"columns": {"number": "甲", "name": "乙", "account": "长" * 61}},
            {"columns": {"number": "甲", "name": "乙", "account": 3}},
            {"columns": ["甲", "乙", "丙"]},
            {"header_row": 1},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "header_row": -1},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "header_row": True},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "encoding": "utf-16"},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "sheet": 1},
            {"columns": {"number": "甲", "name": "乙", "account": "丙"}, "other": 1},
        ],
    )
    def test_a_mapping_that_makes_no_sense_is_refused(self, scene: Scene, mapping: dict[str, object]) -> None:
        profile = BankProfile.objects.get(organisation=scene.banks[0])
        with pytest.raises(LayoutRefusedError):
            set_account_layout(profile, mapping, actor=scene.bank_clerks[0])
        profile.refresh_from_db()
        assert profile.account_layout == {}

    def test_the_18_layouts_are_recognised_and_every_slip_gets_its_reason(
        self, scene: Scene, tmp_path: Path
    ) -> None:
        """R-5, R-9: the sample files of all banks, with and without a saved mapping."""
        everyone = list(people(700, 7, BANKS, issue_date=TODAY))
        reports = write_account_files(tmp_path, everyone, seed=7)
        for place, (code, report) in enumerate(reports.items()):
            bank = make_bank(code)
            scene.banks.append(bank)
            scene.bank_clerks.append(make_user(f"c-{code}", bank, "bank_clerk"))
            mine = [Person(each.number, each.name, "") for each in everyone if each.bank_code == code]
            scene.add_records(mine, bank)
            if place % 2:
                layout = LAYOUTS[code]
                mapping = {"columns": layout.mapping, "header_row": layout.header_row}
                profile = BankProfile.objects.get(organisation=bank)
                set_account_layout(profile, mapping, actor=scene.bank_clerks[-1])
            account_file = loaded(scene, io.BytesIO(report.path.read_bytes()), bank=len(scene.banks) - 1)
            assert (account_file.status, account_file.refusal_text) == ("loaded", "")
            assert account_file.row_count == report.row_count
        for bank in scene.banks:
            match_bank(bank, actor=scene.clerk)
        slips = {
            personal.number_index(each.number): each.fault.reason
            for report in reports.values()
            for each in report.bad
            if each.fault is not AccountFault.STRANGER
        }
        waiting = CardholderRecord.objects.filter(status=RecordStatus.ACCEPTED)
        found = {bytes(each.number_index): each.unmatched_reason for each in waiting}
        assert found == slips
        assert len(found) == 14
        assert CardholderRecord.objects.filter(status=RecordStatus.MATCHED).count() == 686


class TestLoad:
    def test_it_loads_then_matches_and_keeps_no_file(self, scene: Scene) -> None:
        """R-9, R-22: after the load only the sealed rows are left."""
        (record,) = scene.add_records([person(1)], scene.banks[0])
        account_file = loaded(scene, csv_file([person(1).row(), person(2).row()]))
        assert account_file.status == AccountFileStatus.LOADED
        assert current(scene.banks[0]) == {person(n).number: person(n).account for n in (1, 2)}
        run_tasks("orders.jobs_accounts.match_bank")
        assert CardholderRecord.objects.get(pk=record.pk).status == RecordStatus.MATCHED
        remove_pending()
        assert stored_files() == []
        assert AuditEntry.objects.get(action="accountfile.loaded").details["rows"] == 2

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


class TestProblemWorkbook:
    def test_the_bank_gets_row_column_expected_and_got(self, scene: Scene) -> None:
        """R-9: the bank's own data back to itself, formulas harmless, audited."""
        account_file = checked(scene, csv_file([[person(1).number, "=cmd()", "12"], person(2).row()]))
        target = io.BytesIO()
        assert problem_workbook(account_file, target, actor=scene.bank_clerks[0]) == 2
        target.seek(0)
        cells = [[cell.value for cell in row] for row in load_workbook(target).active.iter_rows()]
        assert cells[1][0] == "文件：accounts.csv　导出人：clerk-BANK1"
        assert cells[2][0] == "共 2 行，有效 1 行，问题 1 行；列出问题 2 条"
        assert cells[4:] == [
            ["2", "户名", "户名含不应有的符号", "只含文字和间隔号·", "=cmd()", "name_symbol"],
            ["2", "账号", "账号格式不对", "12–19 位数字（银行卡 16–19 位）", "2位：12", "account_format"],
        ]
        assert AuditEntry.objects.get(action="account_file.problems_exported").details == {"rows": 2}

    def test_the_purchaser_never_sees_accounts(self, scene: Scene) -> None:
        """R-45."""
        account_file = checked(scene, csv_file([[person(1).number, "张样", "12"]]))
        target = io.BytesIO()
        with pytest.raises(PermissionRefusedError):
            problem_workbook(account_file, target, actor=scene.clerk)
        assert target.getvalue() == b""


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
