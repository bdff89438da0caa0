"""Read an account file's table: find the columns, check every row, and name what is wrong (R-9).

Plain values in, plain values out: no database and no settings. A bank may save which label stands over which
column; without that the common labels of banks are recognised.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Final

from portal.core.errors import InputRefusedError
from portal.core.excerpt import excerpt
from portal.core.idnumbers import normalise_number, parse_number
from portal.core.names import check_name, normalise_name
from portal.core.problems import Problem
from portal.core.rows import EmptyTableError
from portal.core.sheets import BLANK, Cell, SheetRow

FIELDS: Final[Mapping[str, str]] = {"number": "证件号码", "name": "户名", "account": "账号"}
HEADING_ROWS: Final = 20
TEXT_FORMAT: Final = "文本格式的完整号码（被电子表格改成了科学计数）"
_MAX_LABEL: Final = 60
_ENCODINGS: Final = frozenset({"", "utf-8", "utf-8-sig", "gb18030", "gbk", "gb2312"})

_TYPE_WORDS: Final = ("类型", "种类", "类别", "有效", "期限", "国别")
_NUMBER: Final = re.compile(
    "身份证|身份号|身份证件号|证件号|证件编号|社会保障号|社保号|公民身份|id_?(no|number|card)?|idno|aac002"
)
_NAME: Final = re.compile("姓名|户名|名称|账户名|持卡人|客户名|.*name|aac003")
_ACCOUNT: Final = re.compile(
    "账号|帐号|卡号|账户|帐户|一卡通号|acc(oun)?t(_?(no|number))?|card_?(no|number)|aae010"
)
_NO_ACCOUNT: Final = re.compile("社保卡号|社会保障卡号|社会保障卡卡号|aaz500")
_BLANKS: Final = re.compile(r"[\s*：:]|[(（【\[].*?[)）】\]]")
_ACCOUNT_DIGITS: Final = re.compile(r"\d{12,19}", re.ASCII)
_SPACES: Final = re.compile(r"\s+")
_CARD_PREFIX: Final = "62"
_CARD_DIGITS: Final = 16
_FLAWS: Final[Mapping[str, str]] = {
    "surplus_cells": "与表头列数相同",
    "missing_cells": "与表头列数相同",
    "null_character": "不含空字符",
    "cell_too_long": "不超过单元格长度上限",
    "bad_quoting": "成对的引号",
}


class AccountColumnsError(InputRefusedError):
    """No row of the file holds all the headings needed."""

    code = "account_columns"


class AccountHeadingError(InputRefusedError):
    """Two columns could be the same field, and guessing might put a wrong account on a card."""

    code = "account_columns_ambiguous"


class LayoutRefusedError(InputRefusedError):
    """A column mapping that cannot be saved."""

    code = "account_layout"


@dataclass(frozen=True, slots=True)
class Layout:
    """A bank's saved mapping: field to heading, and how many rows stand above the headings."""

    columns: Mapping[str, str]
    header_row: int | None = None
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class AccountLine:
    """One row of the file; `number` is "" unless it is a valid one, `problems` empty for a good row."""

    row_number: int
    number: str = field(repr=False)
    name: str = field(repr=False)
    account: str = field(repr=False)
    problems: tuple[Problem, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class _Heading:
    """Where each field stands, and the label over it."""

    places: Mapping[str, int]
    labels: Mapping[str, str]


def parse_layout(mapping: Mapping[str, Any]) -> Layout | None:
    """Check a mapping as it is saved; an empty one means the labels are recognised.

    `{"columns": {"number": …, "name": …, "account": …}, "header_row": rows above the heading, "sheet": …}`;
    an "encoding" may stand there for people, the file's own is found by reading it.
    """
    if not mapping:
        return None
    unknown = sorted(str(key)[:20] for key in mapping.keys() - {"columns", "header_row", "sheet", "encoding"})
    if unknown:
        raise LayoutRefusedError("列对应里有不认识的项", got="、".join(unknown[:5]))
    if str(mapping.get("encoding") or "").lower() not in _ENCODINGS:
        raise LayoutRefusedError("编码只能是 UTF-8 或 GB18030", got=str(mapping["encoding"])[:20])
    sheet = mapping.get("sheet")
    if sheet is not None and not isinstance(sheet, str):
        raise LayoutRefusedError("工作表名须为文字")
    return Layout(
        _layout_columns(mapping.get("columns")), _header_row(mapping.get("header_row")), sheet or None
    )


def _layout_columns(columns: Any) -> dict[str, str]:
    if not isinstance(columns, Mapping) or columns.keys() != FIELDS.keys():
        raise LayoutRefusedError("须指明三列", expected="number、name、account")
    labels = {key: _plain(value) if isinstance(value, str) else "" for key, value in columns.items()}
    if not all(labels.values()) or max(map(len, columns.values())) > _MAX_LABEL:
        raise LayoutRefusedError("列名须为 1–60 字")
    if len(set(labels.values())) != len(FIELDS):
        raise LayoutRefusedError("同一列不能对应两项")
    return {key: columns[key].strip() for key in FIELDS}


def _header_row(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < HEADING_ROWS:
        raise LayoutRefusedError("表头前的行数不对", expected=f"0–{HEADING_ROWS - 1}", got=str(value)[:20])
    return value


def read_lines(rows: Iterable[SheetRow], layout: Layout | None, *, today: dt.date) -> Iterator[AccountLine]:
    """Yield every row below the heading, checked; raise an InputRefusedError where there is no heading."""
    remaining = iter(rows)
    head = list(islice(remaining, HEADING_ROWS))
    if not head:
        raise EmptyTableError("文件里没有任何内容")
    at, heading = _find_heading(head, layout)
    for row in chain(head[at + 1 :], remaining):
        yield _line(row, heading, today)


def _find_heading(head: list[SheetRow], layout: Layout | None) -> tuple[int, _Heading]:
    """Return the first row that names all three fields, trying the saved place first."""
    found = [_heading_of(row, layout) for row in head]
    order = sorted(range(len(head)), key=lambda at: (not _is_saved_place(head[at], layout), at))
    for at in order:
        if len(found[at].places) == len(FIELDS):
            return at, found[at]
    best = max(range(len(head)), key=lambda at: (len(found[at].places), -at))
    wanted = layout.columns if layout else FIELDS
    missing = [label for key, label in wanted.items() if key not in found[best].places]
    raise AccountColumnsError(
        "找不到需要的列",
        where=f"第 {head[best].number} 行",
        expected="、".join(missing),
        got=_shown(head[best].cells),
    )


def _is_saved_place(row: SheetRow, layout: Layout | None) -> bool:
    return layout is not None and layout.header_row is not None and row.number == layout.header_row + 1


def _heading_of(row: SheetRow, layout: Layout | None) -> _Heading:
    places: dict[str, int] = {}
    labels: dict[str, str] = {}
    for at, cell in enumerate(row.cells):
        key = _field_of(cell.text, layout)
        if key is None:
            continue
        if key in places:
            both = f"{excerpt(labels[key], 20)}、{excerpt(cell.text, 20)}"
            raise AccountHeadingError(
                "有两列都可能是同一项，请先保存列对应",
                where=f"第 {row.number} 行",
                expected=FIELDS[key],
                got=both,
            )
        places[key], labels[key] = at, cell.text
    return _Heading(places, labels)


def _field_of(text: str, layout: Layout | None) -> str | None:
    label = _plain(text[: _MAX_LABEL + 1])
    if not label or len(text) > _MAX_LABEL:
        return None
    if layout is not None:
        return next((key for key, wanted in layout.columns.items() if _plain(wanted) == label), None)
    return _recognised(label)


def _recognised(label: str) -> str | None:
    """Tell the field from a label banks use; 账户名称 is a name and 证件类型 is nothing."""
    if any(word in label for word in _TYPE_WORDS) or _NO_ACCOUNT.search(label):
        return None
    if _NUMBER.search(label) if not label.isascii() else _NUMBER.fullmatch(label):
        return "number"
    if _NAME.search(label) if not label.isascii() else _NAME.fullmatch(label):
        return "name"
    if _ACCOUNT.search(label) if not label.isascii() else _ACCOUNT.fullmatch(label):
        return "account"
    return None


def _plain(label: str) -> str:
    """Leave out blanks, stars, colons and remarks in brackets, so that "姓 名（必填）*" is 姓名."""
    return _BLANKS.sub("", normalise_number(label)).lower()


def _shown(cells: list[Cell]) -> str:
    """List the headings found; a row with digits is a person's, and nothing of it may be shown."""
    texts = [cell.text for cell in cells if cell.text]
    if sum(char.isdigit() for text in texts for char in text) >= 6 or any(cell.was_number for cell in cells):
        return "没有表头（看起来是数据行）"
    shown = "、".join(excerpt(text, 20) for text in texts[:12])
    return shown or "空行"


def _line(row: SheetRow, heading: _Heading, today: dt.date) -> AccountLine:
    if row.flaw:
        return AccountLine(row.number, "", "", "", (Problem("", f"row_{row.flaw}", _FLAWS[row.flaw]),))
    cells = {key: row.cells[at] if at < len(row.cells) else BLANK for key, at in heading.places.items()}
    number, wrong_number = _number(cells["number"], heading.labels["number"], today)
    name, wrong_name = _name(cells["name"], heading.labels["name"])
    account, wrong_account = _account(cells["account"], heading.labels["account"])
    problems = tuple(problem for problem in (wrong_number, wrong_name, wrong_account) if problem)
    return AccountLine(row.number, number, name, account, problems)


def _number(cell: Cell, label: str, today: dt.date) -> tuple[str, Problem | None]:
    if not cell.exact:
        return "", Problem(label, "number_rounded", TEXT_FORMAT, excerpt(cell.text))
    found = parse_number(cell.text, today=today, column=label)
    return ("", found) if isinstance(found, Problem) else (found.value, None)


def _name(cell: Cell, label: str) -> tuple[str, Problem | None]:
    name = normalise_name(cell.text)
    return name, check_name(name, column=label)


def _account(cell: Cell, label: str) -> tuple[str, Problem | None]:
    if not cell.exact:
        return "", Problem(label, "account_rounded", TEXT_FORMAT, excerpt(cell.text))
    return checked_account(cell.text, label)


def checked_account(text: str, label: str) -> tuple[str, Problem | None]:
    """Return a bank account in its one spelling, or what is wrong: 12 to 19 digits, a card (62…) 16 to 19."""
    account = _SPACES.sub("", normalise_number(text))
    if not account:
        return "", Problem(label, "account_missing", "银行账号")
    too_short = account.startswith(_CARD_PREFIX) and len(account) < _CARD_DIGITS
    if not _ACCOUNT_DIGITS.fullmatch(account) or too_short or len(set(account)) == 1:
        shown = f"{len(account)}位：{excerpt(account)}"
        return "", Problem(label, "account_format", "12–19 位数字（银行卡 16–19 位）", shown)
    return account, None


class Contradictions:
    """Finds people and accounts that stand in a file more than once.

    An exact repetition costs only the later row. Two different rows for one person cost both, since nobody
    can tell which is right; an account already given to somebody else costs the later person.
    """

    def __init__(self) -> None:
        self._people: dict[str, tuple[int, int]] = {}
        self._accounts: dict[str, str] = {}
        self.withdrawn: set[int] = set()

    def check(self, line: AccountLine) -> list[tuple[int, Problem]]:
        """Return what a good row contradicts, by row number; an earlier row may be among them."""
        content = hash((line.name, line.account))
        known = self._people.setdefault(line.number, (line.row_number, content))
        if known[0] != line.row_number:
            return self._repeated(line, known, content)
        holder = self._accounts.setdefault(line.account, line.number)
        if holder != line.number:
            del self._people[line.number]
            expected = "每人一个账号，不与他人相同"
            return [(line.row_number, Problem(FIELDS["account"], "account_repeated", expected, line.account))]
        return []

    def _repeated(self, line: AccountLine, known: tuple[int, int], content: int) -> list[tuple[int, Problem]]:
        expected = f"每人一行（另见第 {known[0]} 行）"
        if known[1] == content:
            return [(line.row_number, Problem(FIELDS["number"], "number_repeated", expected, line.number))]
        found = [(line.row_number, Problem(FIELDS["number"], "number_conflict", expected, line.number))]
        if known[0] not in self.withdrawn:
            self.withdrawn.add(known[0])
            other = f"每人一行（另见第 {line.row_number} 行）"
            found.append((known[0], Problem(FIELDS["number"], "number_conflict", other, line.number)))
        return found
