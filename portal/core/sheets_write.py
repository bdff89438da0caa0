"""Write the lists people work with: each value a text cell, so no account is rounded and no formula runs.

Long lists go through rustpy-xlsxwriter, which takes rows from a generator and keeps one in memory (its
temporary file has no name); small reports that need comments and colours per cell go through openpyxl.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import rustpy_xlsxwriter
from openpyxl import Workbook
from openpyxl.cell.cell import Cell as OpenpyxlCell
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from portal.core.errors import PortalError

MAX_ROWS: Final = 1_048_576
MAX_TEXT: Final = 32_767
TEXT_FORMAT: Final = "@"
_A4: Final = 9
_HEAD_COLOUR: Final = "D9E1F2"
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]|\r\n?")
_SHEET_NAME: Final = re.compile(r"[\[\]:*?/\\]")

Tint = Literal["", "red", "amber", "green"]
_TINTS: Final[dict[str, str]] = {"red": "FFC7CE", "amber": "FFEB9C", "green": "C6EFCE"}
Value = str | int | Decimal | None
Range = tuple[int, int, int, int, Any] | tuple[int, int, int, int, Any, rustpy_xlsxwriter.Format | None]


class ListRefusedError(PortalError):
    """A list that a worksheet cannot hold; `where` names the row."""

    code = "list_refused"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its label, unique in the list, and its width in characters."""

    label: str
    width: float = 14.0


@dataclass(frozen=True, slots=True)
class ReportCell:
    """A value with a comment that shows on hovering and a tint behind it."""

    text: str
    comment: str = ""
    tint: Tint = ""


def write_list(
    target: Path | BinaryIO,
    *,
    title: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Value]],
    header_lines: Sequence[str] = (),
    sheet_name: str = "清单",
    landscape: bool = True,
) -> int:
    """Write rows as they come, in constant memory, and return how many there were.

    Title and header lines (who, when) stand above the heading; it stays on screen and on each printed page.
    Line ends become \\n and characters XML cannot hold U+FFFD; a list of no rows has one blank row.
    """
    labels = _labels(columns)
    heading_row = 1 + len(header_lines)
    count = _Count(MAX_ROWS - heading_row - 1)
    records = count.of(_records(labels, rows))
    first = next(records, None)
    body = chain([dict.fromkeys(labels, "") if first is None else first], records)
    rustpy_xlsxwriter.write_worksheet(
        body,
        os.fspath(target) if isinstance(target, Path) else target,
        sheet_name=_SHEET_NAME.sub("_", sheet_name)[:31],
        header_row=heading_row,
        header_format=_heading_format(),
        freeze_row=heading_row + 1,
        autofilter=True,
        column_widths=[column.width for column in columns],
        column_formats=[rustpy_xlsxwriter.Format().set_num_format(TEXT_FORMAT) for _ in columns],
        merge_ranges=_head_ranges([title, *header_lines], len(columns)),
        ignore_errors=labels,
        page_setup=_page_setup(heading_row, landscape),
    )
    return count.value


def write_report(
    target: Path | BinaryIO,
    *,
    title: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Value | ReportCell]],
    header_lines: Sequence[str] = (),
    sheet_name: str = "报告",
) -> int:
    """Write a small workbook with comments and tints, such as the problems of a dry run; return its rows.

    openpyxl holds it in memory whole: for more than about 20,000 rows use `write_list`.
    """
    book = Workbook()
    sheet = book.active
    if not isinstance(sheet, Worksheet):
        raise TypeError("a new workbook has a worksheet")
    sheet.title = _SHEET_NAME.sub("_", sheet_name)[:31]
    heading_row = 2 + len(header_lines)
    for number, line in enumerate([title, *header_lines], start=1):
        _put(sheet, number, 1, ReportCell(line)).font = Font(bold=number == 1, size=14 if number == 1 else 11)
    _put_heading(sheet, heading_row, columns)
    count = 0
    for count, row in enumerate(rows, start=1):
        for column, value in enumerate(row, start=1):
            _put(sheet, heading_row + count, column, value)
    sheet.freeze_panes = f"A{heading_row + 1}"
    book.save(target)
    return count


def cell_text(value: Value, where: str = "") -> str:
    """Return what a cell shows; floats are a programming error, for they are how accounts get lost."""
    if value is None:
        return ""
    if isinstance(value, float):
        raise TypeError(f"float in a list {where}")
    return _clean(str(value), where)


def _clean(text: str, where: str) -> str:
    """Make text fit for XML; raise where it is longer than a cell may be."""
    if len(text) > MAX_TEXT:
        raise ListRefusedError("单元格文字过长", where=where, expected=f"≤ {MAX_TEXT} 字", got=str(len(text)))
    return _UNPRINTABLE.sub(lambda match: "\n" if match[0][0] == "\r" else "\ufffd", text)


class _Count:
    """Count records on their way into the writer, and stop where the sheet is full."""

    def __init__(self, limit: int) -> None:
        self.value = 0
        self._limit = limit

    def of(self, records: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
        for record in records:
            if self.value == self._limit:
                raise ListRefusedError("清单行数超过工作表上限", expected=f"≤ {self._limit} 行")
            self.value += 1
            yield record


def _labels(columns: Sequence[Column]) -> list[str]:
    labels = [column.label for column in columns]
    if not labels or len(set(labels)) != len(labels):
        raise ValueError("column labels must be unique and at least one")
    return labels


def _records(labels: list[str], rows: Iterable[Sequence[Value]]) -> Iterator[dict[str, str]]:
    """Pair each row with the labels; searching the whole row at once for bad characters is the fast way."""
    for number, row in enumerate(rows, start=1):
        yield dict(zip(labels, _texts(row, number), strict=True))


def _texts(row: Sequence[Value], number: int) -> Sequence[str]:
    """Return the cells as clean text; a row that is so already is recognised by joining it, the fast way."""
    try:
        joined = "".join(row)  # type: ignore[arg-type]
    except TypeError:
        joined = None
    if joined is None or len(joined) > MAX_TEXT or _UNPRINTABLE.search(joined):
        return [cell_text(value, f"第 {number} 行") for value in row]
    return row  # type: ignore[return-value]


def _heading_format() -> rustpy_xlsxwriter.Format:
    style = rustpy_xlsxwriter.Format().set_bold().set_background_color(f"#{_HEAD_COLOUR}")
    return style.set_border("thin").set_align("center").set_num_format(TEXT_FORMAT)


def _head_ranges(lines: list[str], width: int) -> list[Range]:
    """Place each line in the first cell of its own row, merged over the columns; one column cannot merge."""
    ranges: list[Range] = []
    for number, line in enumerate(lines):
        style = rustpy_xlsxwriter.Format().set_num_format(TEXT_FORMAT).set_font_size(11 if number else 14)
        style = style if number else style.set_bold()
        ranges.append((number, 0, number, max(width, 2) - 1, _clean(line, "表头"), style))
    return ranges


def _page_setup(heading_row: int, landscape: bool) -> dict[str, object]:
    return {
        "landscape": landscape,
        "paper_size": _A4,
        "fit_to_pages": (1, 0),
        "repeat_rows": (heading_row, heading_row),
        "footer": "&C第 &P 页，共 &N 页",
    }


def _put(sheet: Worksheet, row: int, column: int, value: Value | ReportCell) -> OpenpyxlCell:
    """Write one text cell; the type is set after the value, or openpyxl would make =1+1 a formula."""
    wanted = value if isinstance(value, ReportCell) else ReportCell(cell_text(value, f"第 {row} 行"))
    cell = sheet.cell(row, column)
    if not isinstance(cell, OpenpyxlCell):
        raise TypeError("a merged cell takes no value")
    cell.value = _clean(wanted.text, f"第 {row} 行")
    cell.data_type = "s"
    cell.number_format = TEXT_FORMAT
    if wanted.comment:
        cell.comment = Comment(_clean(wanted.comment, f"第 {row} 行"), "", width=320, height=120)
    if wanted.tint:
        cell.fill = PatternFill("solid", fgColor=_TINTS[wanted.tint])
    return cell


def _put_heading(sheet: Worksheet, row: int, columns: Sequence[Column]) -> None:
    line = Side(style="thin")
    for number, column in enumerate(columns, start=1):
        cell = _put(sheet, row, number, ReportCell(column.label))
        cell.font = Font(bold=True)
        cell.fill = PatternFill("solid", fgColor=_HEAD_COLOUR)
        cell.border = Border(left=line, right=line, top=line, bottom=line)
        cell.alignment = Alignment(horizontal="center")
        sheet.column_dimensions[get_column_letter(number)].width = column.width
