"""Account files that must be refused whole, each with its own answer, or row by row (R-8, R-9)."""

from __future__ import annotations

import contextlib
import io
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from orders.account_rows import read_lines
from orders.choices import AccountFileStatus
from orders.models import AccountFile, AccountRow
from orders.services.accounts import AccountFileEmptyError, AccountFileTooLargeError, upload_account_file
from portal.core.errors import InputRefusedError
from portal.core.sheets import read_table
from portal.files import keystore
from portal.models import AuditEntry, Task
from portal.queue import run_task
from portal.removal import remove_pending
from tests.orders.scene import TODAY, Scene, csv_file, make_scene, person

HEAD = "证件号码,户名,账号\r\n"
OLE = bytes.fromhex("d0cf11e0a1b11ae1")


@pytest.fixture
def scene(db: None, own_folders: None) -> Scene:
    return make_scene(banks=1)


def submit(scene: Scene, content: bytes, name: str = "a.xlsx") -> AccountFile:
    """Upload and run the dry run; a refusal is no error of the task."""
    account_file = upload_account_file(
        io.BytesIO(content), file_name=name, bank=scene.banks[0], actor=scene.bank_clerks[0]
    )
    assert run_task(Task.objects.get(handler__endswith="check_account_file").pk)
    account_file.refresh_from_db()
    return account_file


def workbook(fill: Callable[[Workbook], object]) -> bytes:
    book, target = Workbook(), io.BytesIO()
    fill(book)
    book.save(target)
    return target.getvalue()


def far_cell() -> bytes:
    def fill(book: Workbook) -> None:
        book.active["A1"] = "证件号码"
        book.active["XFD1048576"] = "x"

    return workbook(fill)


def bomb() -> bytes:
    """Return a workbook whose sheet unpacks to 600 MB."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        with archive.open("xl/worksheets/sheet1.xml", "w") as sheet:
            for _ in range(600):
                sheet.write(b" " * (1 << 20))
    return target.getvalue()


def traversal() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("../../etc/passwd", "x")
    return target.getvalue()


def encrypted() -> bytes:
    return OLE + bytes(504) + "EncryptedPackage".encode("utf-16-le") + bytes(600)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut workbook": (lambda: far_cell()[:900], "zip_truncated"),
    "password": (encrypted, "sheet_password"),
    "far cell": (far_cell, "sheet_extent"),
    "bomb": (bomb, "zip_oversize"),
    "traversal": (traversal, "zip_path"),
    "web page": (lambda: b"<html><table><tr><td>1</td></tr></table></html>", "sheet_markup"),
    "picture": (lambda: b"%PDF-1.7\n" + bytes(64), "sheet_kind"),
    "utf-16": (lambda: HEAD.encode("utf-16"), "table_encoding"),
    "broken encoding": (lambda: HEAD.encode() + b"\xff\xff\x80\x80,\xfe\r\n", "table_encoding"),
    "open quote": ((HEAD + '"4406,a,b\r\n1,2,3\r\n').encode, "table_quoting"),
    "blank lines": (lambda: b"\r\n\r\n,,\r\n", "table_empty"),
    "headings only": (HEAD.encode, "account_file_empty"),
    "headings only in a workbook": (
        lambda: workbook(lambda book: book.active.append(["证件号码", "户名", "账号"])),
        "account_file_empty",
    ),
    "missing column": ("证件号码,户名,金额\r\n1,2,3\r\n".encode, "account_columns"),
    "ambiguous columns": (
        "证件号码,户名,账号,卡号\r\n1,2,3,4\r\n".encode,
        "account_columns_ambiguous",
    ),
    "no headings": (lambda: ",".join(person(1).row()).encode(), "account_columns"),
    "empty workbook": (lambda: workbook(lambda book: None), "table_empty"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_whole_file_is_refused_with_its_own_answer(scene: Scene, kind: str) -> None:
    """R-8: the reason stays, the file and its key do not."""
    make, code = REFUSED[kind]
    account_file = submit(scene, make())
    assert (account_file.status, account_file.refusal_code) == (AccountFileStatus.REFUSED, code)
    assert account_file.refusal_text
    remove_pending()
    assert not keystore().exists(account_file.key_id)
    assert not [path for path in Path(default_storage.location).rglob("*") if path.is_file()]  # type: ignore[attr-defined]
    assert AuditEntry.objects.get(action="accountfile.refused").details["code"] == code
    assert not AccountRow.objects.exists()


def test_the_answer_names_what_is_missing_and_what_was_found(scene: Scene) -> None:
    text = submit(scene, "证件号码,户名,金额\r\n1,2,3\r\n".encode()).refusal_text
    assert text == "找不到需要的列；位置：第 1 行；应为：账号；实为：证件号码、户名、金额"


def test_a_file_without_headings_shows_nobody_in_the_answer(scene: Scene) -> None:
    """R-45: the first row is a person's, so it stays out of message, audit and database."""
    account_file = submit(scene, ",".join(person(1).row()).encode())
    assert "没有表头" in account_file.refusal_text
    kept = account_file.refusal_text + str(list(AuditEntry.objects.values_list("details", "object_label")))
    for secret in person(1).row():
        assert secret not in kept


def test_an_empty_upload_and_one_too_large_leave_nothing(scene: Scene, settings: object) -> None:
    """R-8: N = 0 has its own answer."""
    settings.MAX_ACCOUNT_FILE_BYTES = 1000  # type: ignore[attr-defined]
    clerk, bank = scene.bank_clerks[0], scene.banks[0]
    with pytest.raises(AccountFileEmptyError):
        upload_account_file(io.BytesIO(), file_name="a.csv", bank=bank, actor=clerk)
    with pytest.raises(AccountFileTooLargeError):
        upload_account_file(io.BytesIO(bytes(1001)), file_name="a.csv", bank=bank, actor=clerk)
    assert not AccountFile.objects.exists()
    assert not Task.objects.exists()
    assert not [path for path in Path(default_storage.location).rglob("*") if path.is_file()]  # type: ignore[attr-defined]
    codes = AuditEntry.objects.filter(action="account_file.refused").order_by("position")
    assert [entry.details["code"] for entry in codes] == ["account_file_empty", "account_file_too_large"]


def test_bad_rows_do_not_stop_the_good_ones(scene: Scene) -> None:
    """R-9: a name of 10,000 characters, a null character, a broken quote, missing and surplus cells."""
    good = person(1)
    rows = [
        ",".join([person(2).number, "长" * 10_000, person(2).account]),
        f"{person(3).number},李\0样,{person(3).account}",
        f'{person(4).number},"李样"x,{person(4).account}',
        f"{person(5).number}",
        ",".join([*person(6).row(), "多", "余"]),
        ",".join(good.row()),
    ]
    account_file = submit(scene, (HEAD + "\r\n".join(rows)).encode(), "a.csv")
    assert (account_file.status, account_file.row_count) == (AccountFileStatus.CHECKED, 6)
    assert (account_file.good_count, account_file.refused_count) == (2, 4)


def test_a_name_for_the_file_never_becomes_a_path(scene: Scene) -> None:
    account_file = submit(scene, csv_file([person(1).row()]).getvalue(), "../../../etc/passwd\r\n.csv")
    assert account_file.file_name == "passwd\r\n.csv"
    assert account_file.stored_name == f"accounts/{account_file.key_id}/upload"


def test_no_personal_value_reaches_tables_storage_tasks_or_logs(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """R-45: searched as text in every row of every table and in every stored byte."""
    caplog.set_level(logging.DEBUG)
    secrets = [*person(1).row(), *person(2).row()[:2], "6222A20200"]
    submit(scene, csv_file([person(1).row(), [*person(2).row()[:2], "6222A20200"]]).getvalue(), "a.csv")
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE ANY(%s)', [
                [f"%{each}%" for each in secrets]
            ])  # fmt: skip
            assert cursor.fetchone() == (0,), table
    stored = [path.read_bytes() for path in Path(default_storage.location).rglob("*") if path.is_file()]  # type: ignore[attr-defined]
    assert len(stored) == 2
    for secret in secrets:
        assert not [content for content in stored if secret.encode() in content]
        assert secret not in caplog.text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=400),
        st.text(max_size=300).map(str.encode),
        st.lists(st.lists(st.text(max_size=12), max_size=5), max_size=5).map(
            lambda rows: (HEAD + "\n".join(",".join(row) for row in rows)).encode("utf-8", "replace")
        ),
    )
)
def test_whatever_comes_is_read_or_refused_by_name(content: bytes) -> None:
    """R-8: no other exception, and every row is good or has a problem."""
    if content.startswith((b"PK", OLE)):
        return
    lines = []
    with contextlib.suppress(InputRefusedError):
        lines = list(read_lines(read_table(io.BytesIO(content)), None, today=TODAY))
    for line in lines:
        assert line.problems or (line.number and line.name and line.account)
