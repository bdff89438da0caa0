"""Account files: 18 shapes a plain reader opens, unique accounts, and slips where the report says."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from python_calamine import CalamineWorkbook
from stdnum import luhn

from portal.core.idnumbers import normalise_number
from portal.core.names import normalise_name
from portal.samples.accounts import (
    AccountFault,
    AccountReport,
    fault_of,
    write_account_file,
    write_account_files,
)
from portal.samples.banks import BANKS
from portal.samples.layouts import LAYOUTS, Layout
from portal.samples.people import SamplePerson, people

Row = dict[str, object]


@pytest.fixture(scope="module")
def crowd(issue_date: date) -> list[SamplePerson]:
    return list(people(6000, 7, BANKS, issue_date=issue_date))


@pytest.fixture(scope="module")
def reports(crowd: list[SamplePerson], tmp_path_factory: pytest.TempPathFactory) -> dict[str, AccountReport]:
    return write_account_files(tmp_path_factory.mktemp("accounts"), iter(crowd), seed=7)


def lines_of(path: Path, layout: Layout) -> list[list[object]]:
    if layout.kind == "xlsx":
        return CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
    encoding = "utf-8-sig" if layout.byte_order_mark else layout.encoding
    with path.open(encoding=encoding, newline="") as source:
        return [list(line) for line in csv.reader(source)]


def read(path: Path, layout: Layout) -> list[Row]:
    """Read number, name and account of each row by the layout's saved mapping."""
    lines = lines_of(path, layout)
    places = {field: lines[layout.header_row].index(label) for field, label in layout.mapping.items()}
    return [
        {field: line[place] for field, place in places.items()} for line in lines[layout.header_row + 1 :]
    ]


def numbers_of(report: AccountReport, fault: AccountFault) -> list[str]:
    return [expectation.number for expectation in report.bad if expectation.fault is fault]


def test_eighteen_layouts_none_like_another() -> None:
    """R-5: one for each bank, both formats, both encodings, headers on different rows."""
    assert list(LAYOUTS) == [bank.code for bank in BANKS]
    assert len({tuple(layout.columns.values()) for layout in LAYOUTS.values()}) == 18
    assert {layout.kind for layout in LAYOUTS.values()} == {"xlsx", "csv"}
    assert {layout.encoding for layout in LAYOUTS.values()} == {"utf-8", "gb18030"}
    assert {layout.header_row for layout in LAYOUTS.values()} == {0, 1, 2, 3}
    assert {layout.account_length for layout in LAYOUTS.values()} == {16, 17, 18, 19}


@pytest.mark.parametrize("bank_code", LAYOUTS)
def test_file_reads_back(bank_code: str, reports: dict[str, AccountReport]) -> None:
    layout, report = LAYOUTS[bank_code], reports[bank_code]
    lines = lines_of(report.path, layout)
    assert lines[layout.header_row] == list(layout.columns.values())
    assert len(lines) - layout.header_row - 1 == report.row_count
    assert all(len(line) == len(layout.columns) for line in lines[layout.header_row :])


def test_good_rows_belong_to_people_of_the_bank(
    crowd: list[SamplePerson], reports: dict[str, AccountReport]
) -> None:
    """R-9: number and name match after normalisation; the account has its BIN, length and Luhn digit."""
    by_number = {person.number: person for person in crowd}
    accounts: list[str] = []
    for code, report in reports.items():
        bad = {expectation.number for expectation in report.bad}
        for row in read(report.path, LAYOUTS[code]):
            number = normalise_number(str(row["number"]))
            if number in bad:
                continue
            person, account = by_number[number], str(row["account"])
            assert (person.bank_code, person.name) == (code, normalise_name(str(row["name"])))
            assert account.startswith(LAYOUTS[code].bin)
            assert len(account) == LAYOUTS[code].account_length
            assert luhn.is_valid(account)
            accounts.append(account)
    assert len(accounts) == len(set(accounts))
    assert len(accounts) == sum(fault_of(person) is None for person in crowd)


def test_one_person_in_a_hundred_is_missing(
    crowd: list[SamplePerson], reports: dict[str, AccountReport]
) -> None:
    missing = [number for report in reports.values() for number in numbers_of(report, AccountFault.MISSING)]
    assert len(missing) == len(crowd) // 100
    for code, report in reports.items():
        present = {normalise_number(str(row["number"])) for row in read(report.path, LAYOUTS[code])}
        assert not present & set(numbers_of(report, AccountFault.MISSING))


def test_every_slip_occurs_and_has_its_reason(reports: dict[str, AccountReport]) -> None:
    counts = Counter(expectation.fault for report in reports.values() for expectation in report.bad)
    assert set(counts) == set(AccountFault)
    assert {fault.value: fault.reason for fault in AccountFault} == {
        "missing": "no_account",
        "name_differs": "name_differs",
        "other_bank": "other_bank",
        "scientific": "account_refused",
        "blank": "account_refused",
        "repeated": "account_refused",
        "stranger": "",
    }


def test_slips_look_as_their_name_says(crowd: list[SamplePerson], reports: dict[str, AccountReport]) -> None:
    by_number = {person.number: person for person in crowd}
    for code, report in reports.items():
        rows = read(report.path, LAYOUTS[code])
        found = {normalise_number(str(row["number"])): row for row in rows}
        times = Counter(row["account"] for row in rows)
        for expectation in report.bad:
            row = found.get(expectation.number, {})
            person = by_number.get(expectation.number)
            assert _looks(expectation.fault, row, person, code, times), expectation.fault


def _looks(
    fault: AccountFault, row: Row, person: SamplePerson | None, code: str, times: Counter[object]
) -> bool:
    account = row.get("account")
    if person is None:
        return fault is AccountFault.STRANGER and bool(row)
    looks = {
        AccountFault.MISSING: row == {},
        AccountFault.NAME_DIFFERS: row.get("name") not in (person.name, None),
        AccountFault.OTHER_BANK: person.bank_code != code,
        AccountFault.SCIENTIFIC: isinstance(account, float) or "E+1" in str(account),
        AccountFault.BLANK: account == "",
        AccountFault.REPEATED: account == "" or times[account] == 2,
    }
    return looks[fault]


def test_one_file_alone_equals_the_one_written_with_all(
    crowd: list[SamplePerson], reports: dict[str, AccountReport], tmp_path: Path
) -> None:
    for code in ("CCB", "FSRCB"):
        alone = write_account_file(tmp_path / code, LAYOUTS[code], crowd, seed=7)
        assert (alone.row_count, alone.bad) == (reports[code].row_count, reports[code].bad)
        assert read(alone.path, LAYOUTS[code]) == read(reports[code].path, LAYOUTS[code])


def test_without_faults_everybody_is_there(crowd: list[SamplePerson], tmp_path: Path) -> None:
    clean = write_account_files(tmp_path, crowd, seed=7, faults=False)
    assert sum(report.row_count for report in clean.values()) == len(crowd)
    assert [report.bad for report in clean.values()] == [[]] * 18


@pytest.mark.parametrize("bank_code", ["ICBC", "PSBC", "NHRCB", "CEB"])
def test_nobody_at_all_leaves_the_header(bank_code: str, tmp_path: Path) -> None:
    """N = 0."""
    layout = LAYOUTS[bank_code]
    report = write_account_file(tmp_path / layout.file_name, layout, [])
    assert report.row_count == 0
    assert lines_of(report.path, layout)[-1] == list(layout.columns.values())


def test_report_keeps_numbers_out_of_its_repr(reports: dict[str, AccountReport]) -> None:
    expectation = reports["ICBC"].bad[0]
    assert expectation.number not in repr(expectation)
