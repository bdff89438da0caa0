"""Read a CSV of any length row by row in constant memory, so that one bad row never stops the others."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from portal.core.errors import InputRefusedError

Encoding = Literal["utf-8", "gb18030"]
Flaw = Literal["", "surplus_cells", "missing_cells", "null_character", "cell_too_long", "bad_quoting"]

MAX_CELL: Final = 131_072
"""Characters of one cell: the csv module's own limit, which is global to the process and so left alone."""

_MAX_LINE: Final = 16 << 20
_BOM: Final = "\ufeff"


class TableRefusedError(InputRefusedError):
    """A table that cannot be read as a whole."""

    code = "table_refused"


class EncodingRefusedError(TableRefusedError):
    """Bytes that are not text in the declared encoding."""

    code = "table_encoding"


class ColumnsRefusedError(TableRefusedError):
    """A heading that lacks a column, repeats one or has one nobody knows."""

    code = "table_columns"


class QuotingRefusedError(TableRefusedError):
    """A quotation mark that is never closed: where the next row begins cannot be known."""

    code = "table_quoting"


class EmptyTableError(TableRefusedError):
    """A table without even a heading."""

    code = "table_empty"


@dataclass(frozen=True, slots=True)
class Record:
    """One line of cells; `number` counts as spreadsheets do, the first line being 1."""

    number: int
    cells: list[str]
    flaw: Flaw = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row by column name; with a flaw the sender gets it back, and `values` holds what could be read.

    `surplus` is the number of cells beyond the heading, negative where cells are missing.
    """

    number: int
    values: dict[str, str]
    surplus: int = 0
    flaw: Flaw = ""


def iter_csv(
    blocks: Iterable[bytes],
    *,
    encoding: Encoding,
    required_columns: Collection[str],
    allowed_columns: Collection[str] | None = None,
    max_cell: int = MAX_CELL,
) -> Iterator[Row]:
    """Yield the rows below the heading; blank lines are passed over but counted.

    Raises a TableRefusedError where nothing further can be read. `allowed_columns` None allows any.
    """
    records = iter_records(blocks, encoding=encoding, max_cell=max_cell)
    heading = next(records, None)
    if heading is None:
        raise EmptyTableError("表格是空的，没有表头")
    columns = [cell.strip() for cell in heading.cells]
    check_columns(columns, required_columns, allowed_columns)
    for record in records:
        yield _named(record, columns)


def check_columns(
    columns: Collection[str], required: Collection[str], allowed: Collection[str] | None = None
) -> None:
    """Refuse a heading that does not fit, naming the first columns that are wrong."""
    if "" in columns:
        raise ColumnsRefusedError("表头有空白的列名", where="表头")
    repeated = _first(name for name, times in Counter(columns).items() if times > 1)
    if repeated:
        raise ColumnsRefusedError("表头有重复的列", where="表头", got=repeated)
    missing = _first(name for name in required if name not in columns)
    if missing:
        raise ColumnsRefusedError("表头缺少必需的列", where="表头", expected=missing, got=_first(columns))
    unknown = [] if allowed is None else [n for n in columns if n not in allowed and n not in required]
    if unknown:
        raise ColumnsRefusedError("表头有不认识的列", where="表头", got=_first(unknown))


def iter_records(
    blocks: Iterable[bytes], *, encoding: Encoding, max_cell: int = MAX_CELL
) -> Iterator[Record]:
    """Yield each line that is not blank as its cells, flawed where the line cannot be read as CSV."""
    lines = _Lines(_decoded(blocks, encoding))
    reader = csv.reader(lines, strict=True)
    number = 0
    while True:
        lines.begin()
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(number, [], _flaw_of(error, lines, number))
            continue
        if cells:
            yield Record(number, cells, _flaw_within(cells, lines, max_cell))


def _named(record: Record, columns: list[str]) -> Row:
    surplus = len(record.cells) - len(columns)
    values = dict(zip(columns, record.cells, strict=False))
    flaw = record.flaw
    if not flaw and surplus:
        flaw = "surplus_cells" if surplus > 0 else "missing_cells"
    return Row(record.number, values, surplus if record.cells else 0, flaw)


def _first(names: Iterable[str]) -> str:
    """List at most five names, each shortened, for a message."""
    shown = [repr(name[:40])[1:-1] for name, _ in zip(names, range(5), strict=False)]
    return "、".join(shown)


def _flaw_within(cells: list[str], lines: _Lines, max_cell: int) -> Flaw:
    text = lines.last if lines.taken == 1 else "".join(cells)
    if len(text) > max_cell and max(map(len, cells)) > max_cell:
        return "cell_too_long"
    return "null_character" if "\0" in text else ""


def _flaw_of(error: csv.Error, lines: _Lines, number: int) -> Flaw:
    """Name what is wrong with one line, or refuse the table where its end cannot be told.

    The csv module drops the rest of the line it fails in. If the record began on that line and the line's
    quotation marks come in pairs, the next line is a new record; else the reader may be inside a cell.
    """
    if lines.taken != 1 or lines.last.count('"') % 2:
        raise QuotingRefusedError("引号没有闭合，后面的行无法读取", where=f"第 {number} 行起") from None
    return "cell_too_long" if "field limit" in str(error) else "bad_quoting"


class _Lines(Iterator[str]):
    r"""Cut text into lines at \n, \r\n and \r only, and remember what the current record has used."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self._ready: list[str] = []
        self._parts: list[str] = []
        self._held = 0
        self.taken = 0
        self.last = ""

    def begin(self) -> None:
        """Start counting the lines of a new record."""
        self.taken = 0

    def __next__(self) -> str:
        while not self._ready:
            self._refill()
        self.taken += 1
        self.last = self._ready.pop()
        return self.last

    def _refill(self) -> None:
        """Gather text up to one with a line's end; joined only then, so a long line costs linear time."""
        text = next(self._texts, None)
        if text is None:
            if not self._parts:
                raise StopIteration
            self._ready, self._parts = ["".join(self._parts)], []
            return
        ended = "\n" in text or "\r" in text or (text and self._parts and self._parts[-1].endswith("\r"))
        self._parts.append(text)
        self._held += len(text)
        if ended:
            self._split("".join(self._parts))
        elif self._held > _MAX_LINE:
            raise TableRefusedError("表格里有一行过长", expected=f"≤ {_MAX_LINE} 字符")

    def _split(self, text: str) -> None:
        """Keep the piece after the last line end; a final \\r waits, for \\n may follow."""
        waits = text.endswith("\r")
        lines = text[: len(text) - waits].replace("\r\n", "\n").replace("\r", "\n").split("\n")
        rest = lines.pop() + "\r" * waits
        self._parts, self._held = ([rest] if rest else []), len(rest)
        self._ready = [line + "\n" for line in reversed(lines)]


def _decoded(blocks: Iterable[bytes], encoding: Encoding) -> Iterator[str]:
    """Decode strictly across block borders; a byte order mark at the start is dropped."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    offset, line, first = 0, 1, True
    for block, final in _with_last(blocks):
        try:
            text = decoder.decode(block, final)
        except UnicodeDecodeError as error:
            at = offset + len(block) - len(error.object) + error.start
            line += error.object[: error.start].count(b"\n")
            where = f"第 {at} 字节，约第 {line} 行"
            got = error.object[error.start : error.start + 4].hex(" ")
            raise EncodingRefusedError(
                "文字编码与声明不符", where=where, expected=encoding, got=got
            ) from None
        offset += len(block)
        line += text.count("\n")
        if first and text:
            text, first = text.removeprefix(_BOM), False
        yield text


def _with_last(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for block in blocks:
        yield block, False
    yield b"", True
