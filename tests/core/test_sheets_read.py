"""Tables as people send them: what Excel did to the numbers, and files that are not what they say."""

from __future__ import annotations

import base64
import datetime
import io
import re
import subprocess
import time
import zipfile
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.worksheet.worksheet import Worksheet

from portal.core.errors import InputRefusedError
from portal.core.sheets import BLANK, Cell, Column, SheetLimits, SheetRow, read_table, text_cell, write_list
from portal.core.sheets_guard import SheetKind

OLD_WORKBOOK = zlib.decompress(
    base64.b85decode(
        b"c-rk)O=uHA6#izDG(R+H(xyTylu$5g?V;IdTMzB3MSC(-EBJ#@Q@fzFq!N13i`ANAK@bGROQ9DpRWJUa2fcX^sursVLZU}cf"
        b"})2u>zkKdO{#|mY*CqSnKy6Wyf^bQ^X6@4p3g_}Gk2N`Sb<)+P_+E0DU%5*e&;0&YPT%OI<=3ArSMO|@1upR@!(<bnOCl%T<"
        b"-!j+;%@93cROs9A}Uk&zP}w#2)q`Eu;@UL<Me;B!njRs-EddrVUJQvF0PDyI3;Kw1;%_;uz+QR9m+l#YePOZVN&7dyj42vLt"
        b"~<Je5&={<0|PdayftIz9GxHng~FF$-F^elufc(_?u=X#r>P#fkx+ot^qPrsV4@7a;k!O1bwp@++Dfn1pqL13X6o`Nmb+goCF"
        b"{b0V>XBuIk`X~d_$4pOynG<b-r*pNTf0CeiQ-k~S-<n|q%UEMo7hzrO(&HFlBv9E(1@3llnP{(|PqdrWTd+Fw<m-~kYj3Jgx"
        b"axO1r{7uqHShyf9$T-9;>?iBCG2O=WBKNwH`DUh3idCxP1C2JbZ;Ev;aci8$Nir6U&1L)+;&UGl+;7Q!Ft!pu*IzgnoqKJ}p"
        b"q0KrBV;e1DYT1ras8Ua1H-9>ogLmWZTcls__VO?yJdgY>adIevk|7HH#s}P))y=ET{H`V^<OM@E%se~)hBJlj~SIV8uw8-hQ"
        b">B>?s~O)+?B7Ct$rc^1qB5K1qB5K1%<VQu>Zxo>|=(<J}Y?bd!1z}MRiT`-{K&~>6xH|>0V^0&f;uU@v{LQ;q)a|Y2(}%N*t"
        b"!qvlzuN`!QN|{L)!Zl>eSp8;1Yf7OHmqVl{rQ@%Y~X{eQ}O"
    )
)
SHEET = "xl/worksheets/sheet1.xml"
ROUNDED = Cell("6.22202123456789E+18", "number", exact=False)


def workbook(fill: Callable[[Worksheet], object]) -> bytes:
    """Return an .xlsx whose first sheet was filled by this function."""
    book = openpyxl.Workbook()
    fill(book.worksheets[0])
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def replaced(raw: bytes, part: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return a copy of a workbook with one part changed."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name == part else old.read(name))
    return target.getvalue()


def rows_of(raw: bytes, kind: SheetKind | None = None, sheet: str | None = None) -> list[SheetRow]:
    """Read a table from bytes."""
    return list(read_table(io.BytesIO(raw), kind=kind, sheet=sheet))


def refusal(
    raw: bytes, kind: SheetKind | None = None, *, limits: SheetLimits | None = None
) -> InputRefusedError:
    """Return the error that a table is refused with."""
    with pytest.raises(InputRefusedError) as refused:
        list(read_table(io.BytesIO(raw), kind=kind, limits=limits))
    return refused.value


def test_what_excel_did_to_the_values() -> None:
    """R-9: an account turned into a number shows itself, and that its digits are lost."""
    moment = datetime.datetime(2026, 9, 28, 1, 2, 3)
    values = [
        "6222021234567890123", 6222021234567890123, 1.1e17, 999999999999999, 0.1 + 0.2, True,
        datetime.date(2026, 9, 28), moment, datetime.time(3, 4), " 张 三\u3000", None, "x",
    ]  # fmt: skip
    (row,) = rows_of(workbook(lambda sheet: sheet.append(values)))
    assert row.cells == [
        Cell("6222021234567890123"), ROUNDED, Cell("1.1E+17", "number", exact=False),
        Cell("999999999999999", "number"), Cell("0.3", "number"), Cell("TRUE", "bool"),
        Cell("2026-09-28", "date"), Cell("2026-09-28 01:02:03", "date"), Cell("03:04:00", "date"),
        Cell("张 三"), BLANK, Cell("x"),
    ]  # fmt: skip
    assert [cell.was_number for cell in row.cells[:5]] == [False, True, True, True, True]


def test_rows_keep_their_numbers_and_columns() -> None:
    """R-9: a table that begins at C3, hidden and merged rows, blank rows and blank cells at the end."""

    def fill(sheet: Worksheet) -> None:
        sheet["C3"], sheet["D5"], sheet["A9"] = "号", 12, "  "
        sheet["C6"] = "合并"
        sheet.merge_cells("C6:D7")
        sheet.row_dimensions[5].hidden = True

    assert rows_of(workbook(fill)) == [
        SheetRow(3, [BLANK, BLANK, Cell("号")]),
        SheetRow(5, [BLANK, BLANK, BLANK, Cell("12", "number")]),
        SheetRow(6, [BLANK, BLANK, Cell("合并")]),
    ]


def test_formulas_give_their_stored_value() -> None:
    """R-9: the value Excel stored; a formula never calculated is blank."""
    raw = workbook(lambda sheet: sheet.append(["=1+1", "=2+2", "x"]))
    raw = replaced(raw, SHEET, lambda part: part.replace(b"<v />", b"<v>2</v>", 1))
    (row,) = rows_of(raw)
    assert row.cells == [Cell("2", "number"), BLANK, Cell("x")]


def test_the_first_visible_sheet_is_read_and_any_by_name() -> None:
    """R-9: a hidden sheet in front is passed over."""
    book = openpyxl.Workbook()
    book.worksheets[0].sheet_state = "hidden"
    book.worksheets[0].append(["hidden"])
    book.create_sheet("账户").append(["shown"])
    target = io.BytesIO()
    book.active = 1
    book.save(target)
    assert rows_of(target.getvalue())[0].cells == [Cell("shown")]
    assert rows_of(target.getvalue(), sheet="Sheet")[0].cells == [Cell("hidden")]
    with pytest.raises(InputRefusedError) as refused:
        rows_of(target.getvalue(), sheet="没有")
    assert refused.value.code == "sheet_missing"


def test_old_workbooks_are_read() -> None:
    """R-9: BIFF files of older systems."""
    assert rows_of(OLD_WORKBOOK, "xls") == [
        SheetRow(1, [Cell("账号"), Cell("姓名")]),
        SheetRow(2, [ROUNDED, Cell("张三")]),
        SheetRow(3, [Cell("6222021234567890123")]),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_csv_in_each_encoding(encoding: str) -> None:
    """R-9: recognised by content; what Excel rounded before saving shows itself too."""
    raw = '账号,姓名,\r\n6.22E+18, 张三 \r\n\r\n\'0012,="007",,\r\n'.encode(encoding)
    assert rows_of(raw, "csv") == [
        SheetRow(1, [Cell("账号"), Cell("姓名")]),
        SheetRow(2, [Cell("6.22E+18", "number", exact=False), Cell("张三")]),
        SheetRow(4, [Cell("0012"), Cell("007")]),
    ]


@given(st.text(max_size=20))
def test_text_cells_lose_nothing_but_wrapping(text: str) -> None:
    """R-9: the characters of a CSV cell survive, blanks and Excel's tricks aside."""
    cell = text_cell(text)
    assert cell.text in text
    assert set(text) - set(cell.text) <= set("'=\"") | {char for char in text if char.isspace()}


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("1.1E+17", Cell("1.1E+17", "number", exact=False)),
        ("6e18", Cell("6e18", "number", exact=False)),
        ("1E5X", Cell("1E5X")),
        ("'张", Cell("'张")),
        ("1234567890123456789", Cell("1234567890123456789")),
        ("\t0012", Cell("0012")),
        ("", BLANK),
    ],
)
def test_text_cells(text: str, cell: Cell) -> None:
    """R-9: rounding and wrapping recognised exactly."""
    assert text_cell(text) == cell


def test_a_bad_csv_row_is_marked_and_the_rest_goes_on() -> None:
    """R-9: one row with broken quoting."""
    assert rows_of(b'a,b\n"x"y,1\n2,3\n') == [
        SheetRow(1, [Cell("a"), Cell("b")]),
        SheetRow(2, [], "bad_quoting"),
        SheetRow(3, [Cell("2"), Cell("3")]),
    ]


ENCRYPTED = OLD_WORKBOOK[:600] + "EncryptedPackage".encode("utf-16-le") + bytes(600)
BOOK = workbook(lambda sheet: sheet.append(["a"]))


@pytest.mark.parametrize(
    ("raw", "kind", "code"),
    [
        (b"", None, "table_empty"),
        (ENCRYPTED, "xlsx", "sheet_password"),
        (OLD_WORKBOOK, "xlsx", "sheet_kind"),
        (BOOK, "csv", "sheet_kind"),
        (b"a,b\n", "xlsx", "sheet_kind"),
        (b"<html><table><tr><td>1</td></tr></table></html>", "xls", "sheet_markup"),
        (b"\xef\xbb\xbf\r\n <?xml version='1.0'?><Workbook/>", None, "sheet_markup"),
        (b"MIME-Version: 1.0\r\n", None, "sheet_markup"),
        (b"%PDF-1.7", None, "sheet_kind"),
        (b"\x7fELF\0\0\0", None, "sheet_kind"),
        ("a,张".encode("utf-16"), None, "table_encoding"),
        (b"a,\xff\xff\n", None, "table_encoding"),
        (b'a,"b\n', None, "table_quoting"),
        (BOOK[:-10], None, "zip_truncated"),
        (BOOK[: len(BOOK) // 2], None, "zip_truncated"),
        (OLD_WORKBOOK[:700], None, "sheet_damaged"),
    ],
)
def test_files_that_are_not_what_they_say(raw: bytes, kind: SheetKind | None, code: str) -> None:
    """R-9: each gets its own clear answer."""
    error = refusal(raw, kind)
    assert error.code == code
    assert re.search("[一-鿿]", error.message)


def test_other_archives_are_refused() -> None:
    """R-9: a ZIP that holds no workbook, and one whose sheet is no XML."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    assert refusal(target.getvalue()).code == "sheet_kind"
    cut = replaced(BOOK, "xl/workbook.xml", lambda part: part[:40])
    assert refusal(cut).code in {"sheet_damaged", "sheet_missing"}
    assert refusal(replaced(BOOK, SHEET, lambda part: b"<<<")).code == "sheet_damaged"


@pytest.mark.parametrize("place", ["XFD1048576", "A1048576", "CW2", "A200001"])
def test_a_stray_far_cell_is_named_before_it_costs_memory(place: str) -> None:
    """R-46: calamine would allocate everything between; D14."""

    def fill(sheet: Worksheet) -> None:
        sheet["A1"], sheet[place] = "a", "x"

    started = time.monotonic()
    error = refusal(workbook(fill))
    assert (error.code, error.where) == ("sheet_extent", place)
    assert time.monotonic() - started < 5


def test_a_far_format_without_value_is_harmless() -> None:
    """R-9: whole columns formatted to the end of the sheet are common."""

    def fill(sheet: Worksheet) -> None:
        sheet["A1"] = "a"
        sheet["XFD9"].number_format = "@"
        sheet["A1048576"].number_format = "@"

    assert rows_of(workbook(fill)) == [SheetRow(1, [Cell("a")])]


def test_a_far_cell_the_search_cannot_see_meets_the_memory_limit() -> None:
    """R-46: its reference is in small letters, which calamine reads; the child dies, the portal answers."""
    raw = workbook(lambda sheet: sheet.append(["a", "b"]))
    raw = replaced(raw, SHEET, lambda part: part.replace(b'r="B1"', b'r="xfd1048576"'))
    assert refusal(raw).code == "sheet_memory"


def test_a_table_within_the_limits_may_still_need_too_much_memory() -> None:
    """R-46: two far corners, 640 MB to calamine; the child is stopped at its limit, the portal answers."""

    def fill(sheet: Worksheet) -> None:
        sheet["A1"], sheet["CV200000"] = "a", "x"

    assert refusal(workbook(fill), limits=SheetLimits(memory_mb=300)).code == "sheet_memory"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (SheetLimits(max_bytes=1000), "sheet_too_large"),
        (SheetLimits(max_unpacked=1000), "zip_oversize"),
        (SheetLimits(max_rows=9), "sheet_extent"),
        (SheetLimits(max_rows=100), "sheet_extent"),
        (SheetLimits(max_columns=2), "sheet_extent"),
    ],
)
def test_limits_of_a_workbook(limits: SheetLimits, code: str) -> None:
    """R-46: bytes, unpacked bytes, rows and columns."""

    def fill(sheet: Worksheet) -> None:
        for number in range(200):
            sheet.append([f"{number}" * 50, "b", "c"])

    assert refusal(workbook(fill), limits=limits).code == code


def test_limits_of_a_csv() -> None:
    """R-46: rows are counted as they stream."""
    limits = SheetLimits(max_rows=3)
    assert len(list(read_table(io.BytesIO(b"a\n1\n2\n"), limits=limits))) == 3
    assert refusal(b"a\n1\n2\n3\n", limits=limits).code == "sheet_extent"


def test_a_bomb_is_refused_unread() -> None:
    """R-46: a sheet of 40 MiB of blanks in a few kilobytes."""
    raw = replaced(BOOK, SHEET, lambda part: part + b" " * (40 << 20))
    assert refusal(raw, limits=SheetLimits(max_unpacked=32 << 20)).code == "zip_oversize"


def test_an_overlong_cell_marks_its_row() -> None:
    """R-9: more text than Excel allows, made by a program."""
    raw = workbook(lambda sheet: sheet.append(["a", "b"]))
    long = b"<t>" + b"x" * 40_000
    raw = replaced(raw, SHEET, lambda part: part.replace(b"<t>a", long))
    assert rows_of(raw) == [SheetRow(1, [], "cell_too_long")]


def test_a_workbook_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """R-46: one second of processor time for a list that needs more."""
    path = tmp_path / "list.xlsx"
    rows = ([f"{number}"] * 40 for number in range(20_000))
    write_list(path, title="t", columns=[Column(f"{number}") for number in range(40)], rows=rows)
    with pytest.raises(InputRefusedError) as refused:
        list(read_table(path, limits=SheetLimits(cpu_seconds=1)))
    assert refused.value.code == "sheet_time"


def test_our_own_list_reads_back_by_path(tmp_path: Path) -> None:
    """R-23: what goes out can come in again."""
    path = tmp_path / "list.xlsx"
    rows = [[f"{number:019d}", "张·三"] for number in range(3000)]
    write_list(path, title="清单", columns=[Column("账号"), Column("姓名")], rows=rows)
    assert [[cell.text for cell in row.cells] for row in read_table(path)][2:] == rows


def test_stopping_half_way_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-46: a caller that stops early ends the reading process."""
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)

    def fill(sheet: Worksheet) -> None:
        for _ in range(3000):
            sheet.append(["张"])

    raw = workbook(fill)
    rows = cast("Generator[SheetRow, None, None]", read_table(io.BytesIO(raw)))
    assert next(rows).cells == [Cell("张")]
    rows.close()
    assert [process.poll() is None for process in started] == [False]
