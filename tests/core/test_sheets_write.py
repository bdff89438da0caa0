"""Lists and reports written for people, reopened cell by cell with two independent readers."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest
import python_calamine
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.sheets import Column, ListRefusedError, ReportCell, cell_text, write_list, write_report
from portal.core.sheets_write import Value

COLUMNS = [Column("账号", 24), Column("姓名"), Column("备注", 30)]
HARMLESS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "=cmd|'/c calc'!A0", "\t=1", "0001", "1.1E+17", "6222021234567890123",
    "TRUE", "2026-09-28", "http://example.com", "<&>\"'", " 前后空格 ", "多\n行", "𠀀·é", "#N/A",
    "x" * 32_767,
]  # fmt: skip
plain = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="_\ufffe\uffff")
texts = st.text(plain, max_size=20)


def calamine_rows(raw: bytes) -> list[list[object]]:
    """Reopen with python-calamine, from the first row on."""
    sheet = python_calamine.load_workbook(io.BytesIO(raw)).get_sheet_by_index(0)
    return [list(row) for row in sheet.to_python(skip_empty_area=False)]


def openpyxl_rows(raw: bytes) -> list[list[object]]:
    """Reopen with openpyxl, blank cells as empty text."""
    sheet = openpyxl.load_workbook(io.BytesIO(raw)).worksheets[0]
    return [["" if value is None else value for value in row] for row in sheet.iter_rows(values_only=True)]


def listed(rows: Sequence[Sequence[Value]], lines: Sequence[str] = ()) -> bytes:
    """Return the bytes of a list of these rows."""
    target = io.BytesIO()
    assert write_list(target, title="交接清单", columns=COLUMNS, rows=iter(rows), header_lines=lines) == len(
        rows
    )
    return target.getvalue()


@pytest.mark.parametrize("value", HARMLESS)
def test_every_value_stays_the_text_it_was(value: str) -> None:
    """R-23: accounts keep their digits and a formula is text, for both readers."""
    raw = listed([[value, "z", "z"]])
    assert calamine_rows(raw)[2][0] == value
    assert openpyxl_rows(raw)[2][0] == value
    cell = openpyxl.load_workbook(io.BytesIO(raw)).worksheets[0]["A3"]
    assert (cell.data_type, cell.number_format) == ("s", "@")


@settings(max_examples=40)
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=8))
def test_reopened_cell_by_cell_identical(rows: list[tuple[str, str, str]]) -> None:
    """R-23: any text, in order, none lost."""
    raw = listed([(first, second, third + ".") for first, second, third in rows], ["制表人：甲"])
    expected = [[first, second, third + "."] for first, second, third in rows]
    assert calamine_rows(raw)[3:] == expected
    assert openpyxl_rows(raw)[3:] == expected


def test_head_lines_heading_and_settings() -> None:
    """R-23: title, who and when above; heading frozen, filtered and repeated in print; widths set."""
    raw = listed([["1", "张", ""]], ["制表人：=HYPERLINK()", "2026年11月23日 16:00"])
    sheet = openpyxl.load_workbook(io.BytesIO(raw)).worksheets[0]
    assert [sheet.cell(row, 1).value for row in range(1, 5)] == [
        "交接清单", "制表人：=HYPERLINK()", "2026年11月23日 16:00", "账号",
    ]  # fmt: skip
    assert {sheet.cell(row, 1).data_type for row in range(1, 6)} == {"s"}
    assert (sheet.title, sheet.freeze_panes, sheet.print_title_rows) == ("清单", "A5", "$4:$4")
    assert sheet.auto_filter.ref == "A4:C5"
    assert round(sheet.column_dimensions["A"].width) == 25
    assert (sheet.page_setup.orientation, sheet.page_setup.paperSize) == ("landscape", 9)


def test_characters_xml_cannot_hold_are_replaced_visibly() -> None:
    """R-23: a control character or half a surrogate never breaks the file; line ends become one kind."""
    raw = listed([["a\x00b\x1f", "\ud800", "a\r\nb\rc"]])
    for rows in (calamine_rows(raw), openpyxl_rows(raw)):
        assert rows[2] == ["a\ufffdb\ufffd", "\ufffd", "a\nb\nc"]


def test_text_that_looks_like_an_escape() -> None:
    """R-23: _x0041_ is escaped (ECMA-376 22.9.2.19); openpyxl does not undo that inline."""
    assert calamine_rows(listed([["_x0041_", "", "."]]))[2][0] == "_x0041_"


def test_other_types() -> None:
    """R-23: counts and amounts are written as text, floats are refused."""
    assert [cell_text(value) for value in (None, 12, Decimal("1.50"), "a")] == ["", "12", "1.50", "a"]
    assert calamine_rows(listed([[12, Decimal("1.50"), "."]]))[2] == ["12", "1.50", "."]
    with pytest.raises(TypeError, match="float"):
        listed([[1.1e17, "", ""]])  # type: ignore[list-item]


def test_a_list_of_no_rows_has_its_heading() -> None:
    """N = 0: a list with nothing in it is still a list."""
    assert calamine_rows(listed([]))[1] == ["账号", "姓名", "备注"]


def test_one_column() -> None:
    """R-23: the smallest list; the title has nothing to merge with."""
    target = io.BytesIO()
    assert write_list(target, title="t", columns=[Column("号")], rows=[["1"]]) == 1
    assert [row[0] for row in calamine_rows(target.getvalue())] == ["t", "号", "1"]


def test_too_long_and_wrong_shapes_are_refused(tmp_path: Path) -> None:
    """R-23: refused by row, and nothing is left behind."""
    path = tmp_path / "list.xlsx"

    def rows() -> Iterator[list[str]]:
        yield ["1", "2", "3"]
        yield ["1", "2", "x" * 32_768]

    with pytest.raises(ListRefusedError) as refused:
        write_list(path, title="t", columns=COLUMNS, rows=rows())
    assert (refused.value.code, refused.value.where) == ("list_refused", "第 2 行")
    with pytest.raises(ValueError, match="zip"):
        write_list(path, title="t", columns=COLUMNS, rows=[["1", "2"]])
    with pytest.raises(ValueError, match="unique"):
        write_list(path, title="t", columns=[Column("a"), Column("a")], rows=[])
    assert list(tmp_path.iterdir()) == []


def test_a_full_sheet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-23: more rows than a sheet has, here with a small sheet."""
    monkeypatch.setattr("portal.core.sheets_write.MAX_ROWS", 5)
    assert len(calamine_rows(listed([["1", "", ""]] * 3))) == 5
    with pytest.raises(ListRefusedError):
        listed([["1", "", ""]] * 4)


def test_a_path_works_as_well_and_the_sheet_name_is_made_valid(tmp_path: Path) -> None:
    """R-23: bank and place names may hold what a sheet name may not."""
    path = tmp_path / "list.xlsx"
    write_list(path, title="t", columns=COLUMNS, rows=[], sheet_name="佛山/南海[1]" + "行" * 40)
    assert openpyxl.load_workbook(path).sheetnames == [("佛山_南海_1_" + "行" * 40)[:31]]


def test_report_has_comments_tints_and_text_only() -> None:
    """R-9: the error workbook a bank gets back."""
    target = io.BytesIO()
    rows: list[list[Value | ReportCell]] = [
        ["2", ReportCell("=1+1", comment="应为 19 位数字\x01", tint="red"), ReportCell("张", tint="amber")],
        [3, "x", None],
    ]
    assert write_report(target, title="问题", columns=COLUMNS, rows=rows, header_lines=["共 2 行"]) == 2
    sheet = openpyxl.load_workbook(io.BytesIO(target.getvalue())).worksheets[0]
    assert [[cell.value for cell in row] for row in sheet.iter_rows(min_row=3)] == [
        ["账号", "姓名", "备注"], ["2", "=1+1", "张"], ["3", "x", None],
    ]  # fmt: skip
    assert (sheet["B4"].data_type, sheet["B4"].number_format) == ("s", "@")
    assert sheet["B4"].fill.fgColor.rgb == "00FFC7CE"
    assert sheet["B4"].comment is not None
    assert sheet["B4"].comment.text == "应为 19 位数字\ufffd"
    assert (sheet.freeze_panes, sheet.column_dimensions["A"].width) == ("A4", 24)
    assert calamine_rows(target.getvalue())[3][:2] == ["2", "=1+1"]


def test_written_files_hold_no_formula() -> None:
    """R-46: no formula element in any part."""
    target = io.BytesIO()
    write_report(target, title="=1", columns=COLUMNS, rows=[["=1", "+1", "@1"]])
    for raw in (target.getvalue(), listed([[value, value, value] for value in HARMLESS])):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            parts = [archive.read(name) for name in archive.namelist()]
        assert not any(b"<f>" in part or b"<f " in part for part in parts)
