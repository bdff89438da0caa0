"""Account files of the 18 banks for invented people, with the slips that matching must name (R-9)."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from openpyxl import Workbook
from rustpy_xlsxwriter import write_worksheet
from stdnum import luhn

from portal.samples.banks import BANKS
from portal.samples.layouts import LAYOUTS, Layout
from portal.samples.names import NAME_SEPARATOR, han_name
from portal.samples.numbers import ResidentNumbers, Spread
from portal.samples.people import SamplePerson

FAULT_EVERY: Final = 50
STRANGER_EVERY: Final = 200
# Areas no record is ever drawn from, and an index no record ever has.
_STRANGER_AREAS: Final = ("620102", "640104")
_STRANGER_INDEX: Final = 900_000_000
_BANK_NAMES: Final = {bank.code: bank.name for bank in BANKS}
_SHEET: Final = "账号"
_BULLET: Final = "\u2022"


class AccountFault(StrEnum):
    """What is wrong with somebody's account; `reason` is what the waiting record must say."""

    MISSING = "missing"
    NAME_DIFFERS = "name_differs"
    OTHER_BANK = "other_bank"
    SCIENTIFIC = "scientific"
    BLANK = "blank"
    REPEATED = "repeated"
    STRANGER = "stranger"

    @property
    def reason(self) -> str:
        """Return the reason a record waits for; a stranger has no record."""
        return _REASONS[self]


_REASONS: Final = {
    AccountFault.MISSING: "no_account",
    AccountFault.NAME_DIFFERS: "name_differs",
    AccountFault.OTHER_BANK: "other_bank",
    AccountFault.SCIENTIFIC: "account_refused",
    AccountFault.BLANK: "account_refused",
    AccountFault.REPEATED: "account_refused",
    AccountFault.STRANGER: "",
}
# Every second one is missing: one person in a hundred.
_TURNS: Final = (
    AccountFault.MISSING,
    AccountFault.NAME_DIFFERS,
    AccountFault.MISSING,
    AccountFault.OTHER_BANK,
    AccountFault.MISSING,
    AccountFault.SCIENTIFIC,
    AccountFault.MISSING,
    AccountFault.BLANK,
    AccountFault.MISSING,
    AccountFault.REPEATED,
)


@dataclass(frozen=True, slots=True)
class AccountExpectation:
    """Whose account is wrong: `bank_code` is the bank whose file shows it or lacks it."""

    bank_code: str
    number: str = field(repr=False)
    fault: AccountFault


@dataclass(slots=True)
class AccountReport:
    """What went into one file."""

    path: Path
    row_count: int = 0
    bad: list[AccountExpectation] = field(default_factory=list)


class Entry(NamedTuple):
    """What an account file needs of a person, and no more, so that 100,000 of them stay small."""

    person_index: int
    number: str
    name: str
    branch: str
    fault: AccountFault | None


Cells = dict[str, str | float]


class AccountNumbers:
    """Accounts of one bank: BIN, a body no other index has, Luhn digit."""

    def __init__(self, layout: Layout, seed: int) -> None:
        self._layout = layout
        self._digits = layout.account_length - len(layout.bin) - 1
        self._spread = Spread.seeded(10**self._digits, f"account:{layout.bank_code}:{seed}")

    def at(self, index: int) -> str:
        """Return the account of person `index`."""
        body = f"{self._layout.bin}{self._spread.at(index):0{self._digits}d}"
        return body + str(luhn.calc_check_digit(body))


def fault_of(person: SamplePerson) -> AccountFault | None:
    """Return the slip that befalls this person's account: one person in FAULT_EVERY, the slips in turn."""
    turn, rest = divmod(person.index, FAULT_EVERY)
    return None if rest != FAULT_EVERY // 2 else _TURNS[turn % len(_TURNS)]


def _bank_after(code: str) -> str:
    codes = list(LAYOUTS)
    return codes[(codes.index(code) + 1) % len(codes)]


def _routed(people: Iterable[SamplePerson], *, faults: bool) -> Iterator[tuple[str, Entry]]:
    """Yield each person with the bank whose file the row belongs to."""
    for person in people:
        fault = fault_of(person) if faults else None
        astray = fault is AccountFault.OTHER_BANK
        bank_code = _bank_after(person.bank_code) if astray else person.bank_code
        yield bank_code, Entry(person.index, person.number, person.name, person.branch, fault)


def write_account_files(
    folder: Path, people: Iterable[SamplePerson], *, seed: int = 1, faults: bool = True
) -> dict[str, AccountReport]:
    """Write a file for every bank of LAYOUTS, also where it has nobody; `people` is read once."""
    entries: dict[str, list[Entry]] = {code: [] for code in LAYOUTS}
    for bank_code, entry in _routed(people, faults=faults):
        entries[bank_code].append(entry)
    return {
        code: _write(folder / layout.file_name, layout, entries[code], seed=seed, faults=faults)
        for code, layout in LAYOUTS.items()
    }


def write_account_file(
    path: Path, layout: Layout, people: Iterable[SamplePerson], *, seed: int = 1, faults: bool = True
) -> AccountReport:
    """Write one bank's file from all people; those of other banks are left out, but for ones gone astray."""
    routed = _routed(people, faults=faults)
    mine = (entry for bank_code, entry in routed if bank_code == layout.bank_code)
    return _write(path, layout, mine, seed=seed, faults=faults)


def _write(path: Path, layout: Layout, entries: Iterable[Entry], *, seed: int, faults: bool) -> AccountReport:
    report = AccountReport(path)
    rows = _rows(layout, _FileRows(layout, seed, report, faults=faults).of(entries))
    if layout.kind == "csv":
        _write_csv(path, layout, rows)
    else:
        _write_xlsx(path, layout, rows)
    return report


class _FileRows:
    """Turns people into number, name and account of one bank's file, slips and strangers included."""

    def __init__(self, layout: Layout, seed: int, report: AccountReport, *, faults: bool) -> None:
        self._layout = layout
        self._report = report
        self._faults = faults
        self._accounts = AccountNumbers(layout, seed)
        self._strangers = ResidentNumbers(_STRANGER_AREAS, f"stranger:{seed}")
        self._rng = random.Random(f"accounts:{layout.bank_code}:{seed}")
        self._last_account = ""

    def of(self, entries: Iterable[Entry]) -> Iterator[Cells]:
        """Yield the rows in order, and note each slip in the report."""
        for entry in entries:
            if entry.fault is not None:
                self._expect(entry.number, entry.fault)
            if entry.fault is not AccountFault.MISSING:
                self._report.row_count += 1
                yield self._cells(entry)
            if self._faults and self._report.row_count % STRANGER_EVERY == STRANGER_EVERY // 4:
                self._report.row_count += 1
                yield self._stranger()

    def _cells(self, entry: Entry) -> Cells:
        account = self._accounts.at(entry.person_index)
        name = _as_typed(entry.name, entry.person_index)
        cells: Cells = {
            "number": _as_typed(entry.number, entry.person_index),
            "name": name,
            "branch": entry.branch,
        }
        cells["account"] = self._spoilt(account, entry.fault)
        if entry.fault is AccountFault.NAME_DIFFERS:
            cells["name"] = f"{entry.name[:-1]}某"
        if entry.fault is None:
            self._last_account = account
        return cells

    def _spoilt(self, account: str, fault: AccountFault | None) -> str | float:
        if fault is AccountFault.BLANK:
            return ""
        if fault is AccountFault.REPEATED:
            return self._last_account
        if fault is AccountFault.SCIENTIFIC:
            return float(account) if self._layout.kind == "xlsx" else f"{float(account):.5E}"
        return account

    def _stranger(self) -> Cells:
        ordinal = list(LAYOUTS).index(self._layout.bank_code) * 1_000_000 + self._report.row_count
        identity = self._strangers.at(ordinal)
        self._expect(identity.number, AccountFault.STRANGER)
        name = han_name(self._rng, male=identity.male)
        account = self._accounts.at(_STRANGER_INDEX + self._report.row_count)
        return {"number": identity.number, "name": name, "account": account, "branch": ""}

    def _expect(self, number: str, fault: AccountFault) -> None:
        self._report.bad.append(AccountExpectation(self._layout.bank_code, number, fault))


def _as_typed(text: str, index: int) -> str:
    """Spell a number or name as careless typists do, in ways that must still match."""
    if index % 3:
        return text
    return text.removesuffix("X") + "x" if text.endswith("X") else text.replace(NAME_SEPARATOR, _BULLET)


_FILLERS: Final[Cells] = {
    "currency": "人民币",
    "opened": "2026-11-16",
    "product": "社保借记卡",
    "document": "身份证",
}


def _rows(layout: Layout, found: Iterable[Cells]) -> Iterator[Cells]:
    """Yield rows by label in the order of the layout."""
    for ordinal, cells in enumerate(found, 1):
        known: Cells = _FILLERS | {"seq": str(ordinal)} | cells
        yield {label: known[column] for column, label in layout.columns.items()}


def _decoration(layout: Layout) -> list[str]:
    """Return the text of each row above the header."""
    lines = [f"{_BANK_NAMES[layout.bank_code]}社会保障卡金融账户清单", "编制：样例数据（虚构）", ""]
    return lines[: layout.header_row]


def _write_csv(path: Path, layout: Layout, rows: Iterable[Cells]) -> None:
    encoding = "utf-8-sig" if layout.byte_order_mark else layout.encoding
    with path.open("w", encoding=encoding, newline="") as target:
        table = csv.writer(target)
        table.writerows([line] for line in _decoration(layout))
        table.writerow(layout.columns.values())
        table.writerows(row.values() for row in rows)


def _write_xlsx(path: Path, layout: Layout, rows: Iterator[Cells]) -> None:
    first = next(rows, None)
    if first is None:
        _write_empty_xlsx(path, layout)
        return
    last_column = len(layout.columns) - 1
    lines = enumerate(_decoration(layout))
    write_worksheet(
        _chained(first, rows),
        path,
        sheet_name=_SHEET,
        header_row=layout.header_row,
        merge_ranges=[(row, 0, row, last_column, line) for row, line in lines if line],
    )


def _chained(first: Cells, rest: Iterable[Cells]) -> Iterator[Cells]:
    yield first
    yield from rest


def _write_empty_xlsx(path: Path, layout: Layout) -> None:
    """Write the header alone, which the streaming writer leaves out when there are no rows."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet(_SHEET)
    for line in _decoration(layout):
        sheet.append([line])
    sheet.append(list(layout.columns.values()))
    book.save(path)
