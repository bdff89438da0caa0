"""One row of a package against every rule (R-8, R-9, R-12, R-13, R-17)."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Mapping

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum.iso7064 import mod_11_2

from orders.dictionary import COLUMN_CODES, COLUMNS, ETHNICITIES, CardKind, IssueKind, check_header
from orders.validation import Checked, Rules, validate_row
from portal.core.glyphs import FontChain, default_chain
from portal.core.idnumbers import DocumentKind
from portal.core.images import PhotoRule

TODAY = dt.date(2026, 11, 23)
RULES = Rules(
    today=TODAY,
    bank_codes={"B01": 11, "B02": 12},
    delivery_points={(11, "B01-1"): 101, (12, "B02-1"): 201},
    photo=PhotoRule(min_bytes=1024),
    fonts=FontChain(default_chain().fonts[:1]),  # without whatever this machine has installed
    area_codes=frozenset({"440604", "440605"}),
)


def with_check(body: str) -> str:
    """Append the MOD 11-2 character to 17 digits."""
    return body + mod_11_2.calc_check_digit(body)


NUMBER = with_check("44060419900307001")
PHOTO = simplejpeg.encode_jpeg(
    np.random.default_rng(2).integers(200, 255, (441, 358, 3), dtype=np.uint8), quality=10
)
GOOD = dict(
    zip(
        COLUMN_CODES,
        (
            "1", NUMBER, "张三", "1", "01", "19900307", "01", "440604", "B01", "B01-1",
            "E7", "某某公司", "first", "finished", "A12345678", "20261123", "20361123",
        ),
        strict=True,
    )
)  # fmt: skip
FOREIGNER = GOOD | {
    "AAC002": "FRA12AB34567000000",
    "AAC003": "Zoë O'Neil",
    "AAC005": "",
    "AAC058": "08",
    "AAC006": "1985-06-12",
    "AAC004": "2",
}


def check(row: Mapping[str, str], photo: bytes | None = PHOTO, rules: Rules = RULES) -> Checked:
    return validate_row(row, photo=photo, rules=rules)


def found(**cells: str) -> list[tuple[str, str]]:
    """Return (field, code) of every problem of the good row with these cells changed."""
    checked = check(GOOD | cells)
    assert (checked.values is None) == bool(checked.problems)
    return [(problem.field, problem.code) for problem in checked.problems]


def test_a_good_row_comes_out_in_normal_form() -> None:
    """R-8."""
    checked = check(
        GOOD | {"AAC003": " 张　三 ", "AAC005": "1", "AAZ500": "a12345678", "AAC006": "1990-03-07"}
    )
    assert checked.problems == ()
    record = checked.values
    assert record is not None
    assert {name: getattr(record, name) for name in record.__slots__} == {
        "seq": 1,
        "number": NUMBER,
        "document_kind": DocumentKind.RESIDENT,
        "document_type": "01",
        "name": "张三",
        "sex": "1",
        "ethnicity": "01",
        "birth_on": dt.date(1990, 3, 7),
        "area": "440604",
        "bank_id": 11,
        "delivery_point_id": 101,
        "employer_code": "E7",
        "employer_name": "某某公司",
        "issue_kind": IssueKind.FIRST,
        "card_kind": CardKind.FINISHED,
        "card_number": "A12345678",
        "issue_on": TODAY,
        "expires_on": dt.date(2036, 11, 23),
    }
    assert checked.number == NUMBER


def test_the_same_row_gives_equal_records() -> None:
    assert check(GOOD).values == check(dict(GOOD)).values


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ({}, DocumentKind.FOREIGNER),
        ({"AAC002": "USA440112345678", "AAC058": "07"}, DocumentKind.PERMANENT_RESIDENT_OLD),
        ({"AAC002": with_check("94425019850612002"), "AAC058": "07"}, DocumentKind.PERMANENT_RESIDENT),
        ({"AAC002": with_check("81000019850612002"), "AAC058": "16"}, DocumentKind.HMT_RESIDENT),
        ({"AAC002": with_check("83000019850612002"), "AAC058": "06"}, DocumentKind.HMT_RESIDENT),
    ],
)
def test_holders_who_are_not_residents_pass(cells: dict[str, str], kind: DocumentKind) -> None:
    """R-12: no ethnicity, Latin names, birth date and sex from the row where the number has none."""
    checked = check(FOREIGNER | cells)
    assert checked.problems == ()
    assert checked.values is not None
    assert checked.values.document_kind is kind
    assert checked.values.birth_on == dt.date(1985, 6, 12)
    assert (checked.values.name, checked.values.ethnicity) == ("Zoë O'Neil", "")


@pytest.mark.parametrize("code", [column.code for column in COLUMNS if column.required])
def test_each_required_value_is_missed(code: str) -> None:
    """R-9: an empty cell and a missing column are both reported, under the column's code."""
    without = {key: value for key, value in GOOD.items() if key != code}
    for row in (GOOD | {code: ""}, GOOD | {code: " \u3000"}, without):
        problems = check(row).problems
        assert (code, "value_missing") in [(problem.field, problem.code) for problem in problems]


@pytest.mark.parametrize("code", ["employer_code", "employer_name"])
def test_employer_may_be_empty(code: str) -> None:
    assert found(**{code: ""}) == []


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("seq", "1.0", "sequence_format"),
        ("seq", "-1", "sequence_format"),
        ("AAC002", NUMBER[:-1] + ("0" if NUMBER[-1] != "0" else "1"), "number_checksum"),
        ("AAC002", "1.1E+17", "number_scientific"),
        ("AAC003", "张*三", "name_symbol"),
        ("AAC003", "张\x00三", "name_control"),
        ("AAC003", "Zhang San", "name_script"),
        ("AAC003", "张" * 26, "name_too_long"),
        ("AAC003", "张" * 10_000, "name_too_long"),
        ("AAC003", "张\U0002ceff", "name_no_glyph"),
        ("AAC004", "2", "sex_mismatch"),
        ("AAC004", "9", "sex_mismatch"),
        ("AAC004", "男", "sex_unknown"),
        ("AAC005", "57", "ethnicity_unknown"),
        ("AAC005", "", "value_missing"),
        ("AAC006", "19900308", "birth_mismatch"),
        ("AAC006", "19900230", "date_format"),
        ("AAC006", "1990-0307", "date_format"),
        ("AAC058", "08", "document_type_mismatch"),
        ("AAC058", "16", "document_type_mismatch"),
        ("AAC058", "77", "document_type_unknown"),
        ("AAB301", "440103", "area_unknown"),
        ("AAB301", "佛山", "area_unknown"),
        ("AAE008", "B99", "bank_unknown"),
        ("branch", "B02-1", "delivery_point_unknown"),
        ("branch", "nowhere", "delivery_point_unknown"),
        ("employer_name", "公司\x07", "value_control"),
        ("employer_name", "公" * 101, "value_too_long"),
        ("issue_kind", "again", "issue_kind_unknown"),
        ("card_kind", "golden", "card_kind_unknown"),
        ("AAZ500", "A1234567", "card_number_format"),
        ("AAZ500", "A1234567８９", "card_number_format"),
        ("AAZ500", "=12345678", "card_number_format"),
        ("issue_date", "20270301", "issue_date_ahead"),
        ("issue_date", "tomorrow", "date_format"),
        ("expiry_date", "20261123", "expiry_date_past"),
        ("expiry_date", "20360230", "date_format"),
    ],
)
def test_each_broken_rule_is_the_only_finding(field: str, value: str, code: str) -> None:
    """R-9: field, stable code, expected and got for every kind of error."""
    checked = check(GOOD | {field: value})
    assert checked.values is None
    assert [(problem.field, problem.code) for problem in checked.problems] == [(field, code)]
    assert checked.codes == (code,)
    assert checked.problems[0].expected
    assert len(checked.problems[0].got) < 100


def test_birth_and_sex_of_a_number_that_tells_neither_are_still_held_plausible() -> None:
    """R-12."""
    checked = check(FOREIGNER | {"AAC006": "20270101", "AAC004": "3"})
    assert checked.codes == ("sex_unknown", "birth_implausible")


def test_all_problems_of_a_row_are_reported_at_once() -> None:
    """R-9: one correction round is enough."""
    checked = check(dict.fromkeys(COLUMN_CODES, "?"), photo=b"GIF89a" + bytes(2000))
    silent = {"branch", "employer_code", "employer_name"}  # a branch cannot be judged without its bank
    assert {problem.field for problem in checked.problems} == {*COLUMN_CODES, "photo"} - silent


def test_photo_is_required_for_finished_cards_only() -> None:
    """R-11, R-13, R-17: a pre-made, test or sample card has no personal face."""
    outcome = {kind: check(GOOD | {"card_kind": kind}, photo=None).codes for kind in CardKind}
    assert outcome == {
        CardKind.FINISHED: ("photo_missing",),
        CardKind.PREMADE: (),
        CardKind.TEST: (),
        CardKind.SAMPLE: (),
    }


def test_a_broken_photo_is_refused_even_where_none_is_needed() -> None:
    assert check(GOOD | {"card_kind": "premade"}, photo=PHOTO[:-300] + b"\xff\xd9").codes == (
        "photo_damaged",
    )
    assert check(GOOD, photo=b"").codes == ("photo_missing",)


@pytest.mark.parametrize("kind", list(IssueKind))
def test_every_issue_kind_is_known(kind: IssueKind) -> None:
    """R-13."""
    values = check(GOOD | {"issue_kind": kind}).values
    assert values is not None
    assert values.issue_kind is kind


def test_kinds_may_be_written_in_chinese() -> None:
    """R-13."""
    values = check(GOOD | {"issue_kind": "换卡", "card_kind": "预制卡"}).values
    assert values is not None
    assert (values.issue_kind, values.card_kind) == (IssueKind.RENEWAL, CardKind.PREMADE)


def read_csv(line: str) -> dict[str, str]:
    return next(csv.DictReader(io.StringIO(",".join(COLUMN_CODES) + "\n" + line)))


def test_surplus_cells_make_the_row_too_long() -> None:
    """R-9: a stray comma shifts everything; the row says so."""
    checked = check(read_csv(",".join(GOOD.values()) + ",x,y"))
    assert [(problem.field, problem.code, problem.got) for problem in checked.problems] == [
        ("row", "row_too_long", "多出2列")
    ]


def test_a_short_row_misses_its_last_columns() -> None:
    checked = check(read_csv(",".join(list(GOOD.values())[:15])))
    assert [problem.field for problem in checked.problems] == ["issue_date", "expiry_date"]
    assert checked.codes == ("value_missing",)


CELLS = st.none() | st.text(max_size=30) | st.sampled_from([*GOOD.values(), "1.1E+17", "\ud800", "٣" * 8])


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from([*COLUMN_CODES, "other"]) | st.text(max_size=8), CELLS, max_size=20),
    st.none() | st.binary(max_size=40),
)
def test_arbitrary_rows_yield_problems_and_never_raise(row: dict[str, str], photo: bytes | None) -> None:
    """R-9: hostile rows are returned, the rest goes on."""
    checked = check(row, photo)
    assert (checked.values is None) == bool(checked.problems)
    assert checked.values is None


@settings(max_examples=150)
@given(st.sampled_from(COLUMN_CODES), CELLS | st.integers() | st.floats() | st.lists(st.text(max_size=3)))
def test_one_arbitrary_cell_never_raises(code: str, value: object) -> None:
    checked = check({**GOOD, code: value})  # type: ignore[dict-item]
    assert (checked.values is None) == bool(checked.problems)
    assert {problem.field for problem in checked.problems} <= {
        code,
        "AAC004",
        "AAC005",
        "AAC006",
        "AAC058",
        "expiry_date",
    }


def test_repr_shows_nobody() -> None:
    """A row must not reach a log through its repr."""
    checked = check(GOOD)
    for value in (NUMBER, "张三", "19900307", "A12345678"):
        assert value not in f"{checked!r}{checked.values!r}"


def test_header_problems_are_named() -> None:
    """R-9: a missing column is a finding about the file, not about each row."""
    assert check_header(COLUMN_CODES) == ()
    assert check_header([*COLUMN_CODES, "extra"]) == ()
    header = [code for code in COLUMN_CODES if code != "AAC003"] + ["seq"]
    assert [(problem.field, problem.code, problem.expected) for problem in check_header(header)] == [
        ("header", "column_missing", "AAC003（姓名）"),
        ("header", "column_doubled", "seq 只出现一次"),
    ]


def test_ethnicities_are_the_56_and_two_more() -> None:
    """GB/T 3304."""
    assert len(ETHNICITIES) == 58
    assert (ETHNICITIES["01"], ETHNICITIES["05"], ETHNICITIES["56"]) == ("汉族", "维吾尔族", "基诺族")
