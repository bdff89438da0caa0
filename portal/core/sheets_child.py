"""The process that parses a workbook under limits; nothing but rows or one refusal comes out of it.

Standard input is the file, the first argument the limits as JSON. Each line written is a JSON object: `rows`
(a list of [number, cells, flaw]), `refused` (code and fields of the error) or `end`. A cell is its text, or
[text, kind, exact] where it was not text.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Any, BinaryIO, Final

import python_calamine as calamine

from portal.core.errors import PortalError
from portal.core.sheets_guard import (
    SheetExtentError,
    SheetLimits,
    SheetMemoryError,
    SheetMissingError,
    SheetPasswordError,
    SheetRefusedError,
    check_kind,
    check_workbook,
)

BATCH: Final = 500
MAX_TEXT: Final = 32_767
EXACT_LIMIT: Final = 10**15
"""Excel keeps 15 significant digits: whole numbers below this are what the person typed."""

WireCell = str | list[str | bool]
WireRow = tuple[int, list[WireCell], str]


def main(arguments: Sequence[str]) -> None:
    """Read standard input under the limits of the first argument and write the answer lines."""
    options = json.loads(arguments[0])
    limits = SheetLimits(**options["limits"])
    _limit_process(limits)
    with os.fdopen(os.dup(0), "rb") as file:
        try:
            for rows in _batches(_rows(file, options["sheet"], limits)):
                _answer({"rows": rows})
            _answer({"end": True})
        except PortalError as error:
            _refuse(error)
        except MemoryError:
            _refuse(SheetMemoryError("读取表格所需内存过大"))


def wire_cell(value: object) -> WireCell:
    """Turn what calamine gives into text and, where it was no text, its kind and whether it is exact."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return ["TRUE" if value else "FALSE", "bool", True]
    if isinstance(value, int | float):
        return _number(value)
    return [_moment(value), "date", True]


def _number(value: float) -> WireCell:
    if not math.isfinite(value) or abs(value) >= EXACT_LIMIT:
        return [f"{value:.15G}", "number", False]
    whole = int(value)
    return [str(whole) if whole == value else f"{value:.15G}", "number", True]


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return value.isoformat("seconds")
    if isinstance(value, timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    raise TypeError(type(value).__name__)


def _limit_process(limits: SheetLimits) -> None:
    memory = limits.memory_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _rows(file: BinaryIO, name: str | None, limits: SheetLimits) -> Iterator[WireRow]:
    """Guard the file, parse the worksheet and yield its rows that are not blank."""
    if check_kind(file, None, limits) == "xlsx":
        check_workbook(file, limits)
    try:
        file.seek(0)
        with calamine.load_workbook(file) as book:
            sheet = book.get_sheet_by_name(name or _first_visible(book))
            yield from _numbered(sheet, limits)
    except calamine.PasswordError:
        raise SheetPasswordError("工作簿有打开密码，请去掉密码后再上传") from None
    except calamine.WorksheetNotFound:
        raise SheetMissingError("没有这个工作表", expected=str(name)) from None
    except calamine.CalamineError as error:
        raise SheetRefusedError("工作簿已损坏，无法读取", got=type(error).__name__) from None


def _first_visible(book: Any) -> str:
    for sheet in book.sheets_metadata:
        worksheet = sheet.typ == calamine.SheetTypeEnum.WorkSheet
        if worksheet and sheet.visible == calamine.SheetVisibleEnum.Visible:
            return str(sheet.name)
    raise SheetMissingError("工作簿里没有可见的工作表")


def _numbered(sheet: Any, limits: SheetLimits) -> Iterator[WireRow]:
    """Yield rows with their number on the sheet; calamine leaves out blank columns at the left, not rows."""
    if sheet.start is None:
        return
    last, widest = sheet.end
    if last >= limits.max_rows or widest >= limits.max_columns:
        got = f"{last + 1} 行、{widest + 1} 列"
        raise SheetExtentError("表格超出允许的范围", expected=limits.extent, got=got)
    margin: list[WireCell] = [""] * sheet.start[1]
    for number, values in enumerate(sheet.iter_rows(), start=1):
        cells = margin + [wire_cell(value) for value in values]
        while cells and cells[-1] == "":
            cells.pop()
        if cells:
            yield (number, [], "cell_too_long") if _too_long(cells) else (number, cells, "")


def _too_long(cells: list[WireCell]) -> bool:
    return any(isinstance(cell, str) and len(cell) > MAX_TEXT for cell in cells)


def _batches(rows: Iterator[WireRow]) -> Iterator[list[WireRow]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _refuse(error: PortalError) -> None:
    fields = {"message": error.message, "where": error.where, "expected": error.expected, "got": error.got}
    _answer({"refused": error.code, **fields})


def _answer(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    main(sys.argv[1:])
