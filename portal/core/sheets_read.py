"""Read the tables people send: Excel through a limited process, CSV as a stream, both as the same rows.

The parent needs constant memory. A number that Excel made out of an account shows itself: `was_number`, and
`exact` is false where digits beyond the fifteenth are lost (1.1E+17), also in a CSV saved from a workbook.
A formula gives its stored value; one never calculated is blank, and so is an error such as #N/A. Of merged
cells the first holds the value. Hidden rows and columns are read, hidden sheets only by name.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, Literal, NamedTuple, cast

from portal.core import sheets_guard as guard
from portal.core import ziprefusals
from portal.core.errors import InputRefusedError
from portal.core.rows import EncodingRefusedError, Flaw, Record, TableRefusedError, iter_records
from portal.core.sheets_guard import SheetKind, SheetLimits

CellKind = Literal["text", "number", "date", "bool", "blank"]

_BLOCK: Final = 1 << 16
_ROOT: Final = Path(__file__).resolve().parents[2]
_ROUNDED: Final = re.compile(r"[+-]?[0-9](\.[0-9]+)?[eE]\+?[0-9]{1,3}", re.ASCII)
_QUOTED: Final = re.compile(r"=\"([^\"]*)\"|'(?=[0-9])(.*)", re.DOTALL)


class Cell(NamedTuple):
    """One cell as text without blanks around it; dates as 2026-09-28, truth as TRUE and FALSE."""

    text: str
    kind: CellKind = "text"
    exact: bool = True

    @property
    def was_number(self) -> bool:
        """Tell whether the file holds a number here: leading zeros and long digits may be lost."""
        return self.kind == "number"


class SheetRow(NamedTuple):
    """One row that is not blank, by its number on the sheet; blank cells at its end are left out."""

    number: int
    cells: list[Cell]
    flaw: Flaw = ""


BLANK: Final = Cell("", "blank")


def read_table(
    source: Path | BinaryIO,
    *,
    kind: SheetKind | Sequence[SheetKind] | None = None,
    sheet: str | None = None,
    limits: SheetLimits | None = None,
) -> Iterator[SheetRow]:
    """Yield a table's rows, the heading among them; None takes any kind, and the first visible sheet.

    Raises an InputRefusedError subclass that says why nothing (further) can be read. A source that is no path
    is copied into memory outside the heap, at most `limits.max_bytes`, never onto a disk where that exists.
    """
    limits = limits or SheetLimits()
    with _opened(source, limits) as file:
        found = guard.check_kind(file, kind, limits)
        rows = _csv_rows(file) if found == "csv" else _workbook_rows(file, sheet, limits)
        for count, row in enumerate(rows, start=1):
            if count > limits.max_rows:
                raise guard.SheetExtentError("表格行数过多", expected=limits.extent)
            yield row


def text_cell(text: str) -> Cell:
    """Read a CSV cell: undo the tricks against Excel (="1", '1) and recognise what Excel has rounded."""
    text = text.strip()
    wrapped = _QUOTED.fullmatch(text)
    if wrapped:
        return Cell((wrapped[1] if wrapped[1] is not None else wrapped[2]).strip())
    if _ROUNDED.fullmatch(text):
        return Cell(text, "number", exact=False)
    return Cell(text) if text else BLANK


@contextmanager
def _opened(source: Path | BinaryIO, limits: SheetLimits) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
        return
    with _unnamed_file() as copy:
        source.seek(0)
        while copy.tell() <= limits.max_bytes and (block := source.read(_BLOCK)):
            copy.write(block)
        copy.flush()
        yield copy


def _unnamed_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("table"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def _csv_rows(file: BinaryIO) -> Iterator[SheetRow]:
    encoding = _encoding_of(file)
    for record in iter_records(guard.file_blocks(file), encoding=encoding):
        if row := _csv_row(record):
            yield row


def _csv_row(record: Record) -> SheetRow | None:
    cells = [text_cell(cell) for cell in record.cells]
    while cells and cells[-1] is BLANK:
        cells.pop()
    return SheetRow(record.number, cells, record.flaw) if cells or record.flaw else None


def _encoding_of(file: BinaryIO) -> Literal["utf-8", "gb18030"]:
    """Return the first encoding the whole file is valid in; UTF-8 first, for GB18030 accepts much of it."""
    refused = _decoding_fault(file, "utf-8")
    if refused is None:
        return "utf-8"
    if _decoding_fault(file, "gb18030") is None:
        return "gb18030"
    where, got = f"第 {refused} 字节", "其他编码"
    raise EncodingRefusedError("文字编码无法识别", where=where, expected="utf-8、gb18030", got=got)


def _decoding_fault(file: BinaryIO, encoding: str) -> int | None:
    """Return about where the file stops being text in this encoding, None if it never does."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    at = 0
    try:
        for block in guard.file_blocks(file):
            decoder.decode(block)
            at += len(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return at + error.start
    return None


def _workbook_rows(file: BinaryIO, sheet: str | None, limits: SheetLimits) -> Iterator[SheetRow]:
    with _child(file, sheet, limits) as process:
        finished = False
        for line in cast("IO[bytes]", process.stdout):
            answer = json.loads(line)
            finished = "end" in answer
            if "refused" in answer:
                raise _refusal(answer)
            for number, cells, flaw in answer.get("rows", ()):
                yield SheetRow(number, [_received(cell) for cell in cells], flaw)
        if not finished:
            raise _death(process.wait())


@contextmanager
def _child(file: BinaryIO, sheet: str | None, limits: SheetLimits) -> Iterator[subprocess.Popen[bytes]]:
    """Run the reading process on the open file; leaving ends it, also when the caller stops half-way."""
    options = json.dumps({"limits": asdict(limits), "sheet": sheet})
    command = [sys.executable, "-P", "-m", "portal.core.sheets_child", options]
    surroundings = {"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=surroundings
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _received(cell: str | list[Any]) -> Cell:
    if isinstance(cell, str):
        return Cell(cell) if cell else BLANK
    return Cell(*cell)


def _refusal(answer: dict[str, str]) -> InputRefusedError:
    """Rebuild the error the child described, by its code."""
    error = _REFUSALS.get(answer.pop("refused"), guard.SheetRefusedError)
    return error(answer.pop("message"), **answer)


def _death(status: int) -> guard.SheetRefusedError:
    """Name what a child died of: an allocation that fails aborts it, the time limit kills it."""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return guard.SheetTimeError("读取表格用时过长")
    if status in (-signal.SIGABRT, -signal.SIGSEGV):
        return guard.SheetMemoryError("读取表格所需内存过大")
    return guard.SheetRefusedError("工作簿已损坏，无法读取")


def _with_subclasses(base: type[InputRefusedError]) -> Iterator[type[InputRefusedError]]:
    yield base
    for each in base.__subclasses__():
        yield from _with_subclasses(each)


_REFUSALS: Final = {
    error.code: error
    for base in (guard.SheetRefusedError, ziprefusals.ZipRefusedError, TableRefusedError)
    for error in _with_subclasses(base)
}
