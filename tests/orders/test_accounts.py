"""Account files of the banks: upload, dry run and what the bank gets back (R-5, R-8, R-9)."""

from __future__ import annotations

import io

import pytest
from openpyxl import Workbook, load_workbook

from orders import jobs_accounts, personal
from orders.choices import AccountFileStatus
from orders.models import AccountFile, AccountRow, BankProfile, CardholderRecord
from orders.selectors.accounts import account_report, problem_counts
from orders.services.accounts import (
    AccountFileReplayError,
    BankUnknownError,
    check_account_file,
    load_account_file,
    problem_workbook,
    set_account_layout,
    upload_account_file,
)
from orders.services.matching import match_bank
from portal.core.errors import PermissionRefusedError, TransitionRefusedError
from portal.models import AuditEntry, Organisation, Task, User
from tests.orders.account_desk import checked, current, loaded, problems, stored_files, upload
from tests.orders.scene import (
    Person,
    Scene,
    csv_file,
    person,
    person_number,
)


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
