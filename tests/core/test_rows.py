"""The streaming CSV reader against the csv module as its peer, and against broken files."""

from __future__ import annotations

import csv
import io
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.rows import Encoding, Row, TableRefusedError, iter_csv, iter_records

encodings = st.sampled_from(["utf-8", "gb18030"])
cells = st.text(st.sampled_from("ab,;\"'\n\t 1张峰𠀀·é\u2028\x85\x0b\x0c"), max_size=6)
tables = st.lists(st.lists(cells, min_size=2, max_size=4), max_size=12)


def cut(raw: bytes, size: int) -> list[bytes]:
    """Cut bytes into blocks of this size."""
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def rows_of(raw: bytes, encoding: Encoding = "utf-8", **options: object) -> list[Row]:
    """Read a table of the columns a and b from blocks of five bytes."""
    settings = {"required_columns": ["a", "b"], **options}
    return list(iter_csv(cut(raw, 5), encoding=encoding, **settings))  # type: ignore[arg-type]


def refusal(raw: bytes, encoding: Encoding = "utf-8", **options: object) -> TableRefusedError:
    """Return the error a table is refused with."""
    with pytest.raises(TableRefusedError) as refused:
        rows_of(raw, encoding, **options)
    return refused.value


def broken_byte(raw: bytes, encoding: Encoding) -> int | None:
    """Return where the codec itself says the bytes are no text."""
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        return error.start
    return None


def outcome(blocks: list[bytes], encoding: Encoding) -> TableRefusedError | None:
    """Read everything and return the refusal, if any; other errors escape."""
    try:
        list(iter_records(blocks, encoding=encoding))
    except TableRefusedError as error:
        return error
    return None


@given(tables, encodings, st.integers(1, 50), st.booleans(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_reads_what_csv_reads(
    table: list[list[str]], encoding: Encoding, size: int, mark: bool, ending: str
) -> None:
    """R-8: any cut into blocks, both encodings, with and without byte order mark, every line ending."""
    text = io.StringIO()
    csv.writer(text, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows(table)
    raw = (("\ufeff" if mark else "") + text.getvalue()).encode(encoding)
    records = list(iter_records(cut(raw, size), encoding=encoding))
    assert [record.cells for record in records] == table
    assert [record.number for record in records] == list(range(1, len(table) + 1))
    assert {record.flaw for record in records} <= {""}


def test_rows_are_numbered_as_a_spreadsheet_shows_them() -> None:
    """R-8: the heading is line 1, blank lines count, a cell with a line break is one row."""
    assert rows_of(b'a, b \n1,2\n\n"x\r\ny",4\n') == [
        Row(2, {"a": "1", "b": "2"}),
        Row(4, {"a": "x\ny", "b": "4"}),
    ]


def test_rows_of_the_wrong_width_are_marked_and_the_rest_goes_on() -> None:
    """R-9: a bad row is returned to its sender, the others are taken."""
    assert rows_of(b"a,b\n1\n1,2,3,4\n5,6") == [
        Row(2, {"a": "1"}, -1, "missing_cells"),
        Row(3, {"a": "1", "b": "2"}, 2, "surplus_cells"),
        Row(4, {"a": "5", "b": "6"}),
    ]


def test_null_long_and_badly_quoted_cells_are_marked_and_the_rest_goes_on() -> None:
    """R-9: NUL bytes, a 10,000-character name (fine), a 10 MB cell and text after a closing quote."""
    name = "张" * 10_000
    raw = f'a,b\n{name},1\nx\0y,2\n"{"z" * (10 << 20)}",3\n"p"q,4\n5,6\n'.encode()
    rows = list(iter_csv(cut(raw, 65536), encoding="utf-8", required_columns=["a", "b"]))
    assert [(row.number, row.flaw) for row in rows] == [
        (2, ""), (3, "null_character"), (4, "cell_too_long"), (5, "bad_quoting"), (6, ""),
    ]  # fmt: skip
    assert rows[0].values["a"] == name
    assert rows[1].values == {"a": "x\0y", "b": "2"}
    assert rows[2].values == {}
    assert rows[4].values == {"a": "5", "b": "6"}


def test_cells_may_be_limited_further() -> None:
    """R-9: a shorter limit marks the row."""
    assert [row.flaw for row in rows_of(b"a,b\nxxxx,1\nxxxxx,1\n", max_cell=4)] == ["", "cell_too_long"]


@pytest.mark.parametrize(
    ("raw", "code", "expected", "got"),
    [
        (b"", "table_empty", "", ""),
        (b"\n\n", "table_empty", "", ""),
        (b"a\n1\n", "table_columns", "b", "a"),
        (b"a,b,a\n", "table_columns", "", "a"),
        (b"a,b,,\n", "table_columns", "", ""),
        (b"a,b,c,d\n", "table_columns", "", "d"),
        ("姓名,号码\n".encode("gb18030").replace(b"\n", b",a\n"), "table_encoding", "utf-8", "d0 d5 c3 fb"),
    ],
)
def test_headings_that_do_not_fit(raw: bytes, code: str, expected: str, got: str) -> None:
    """R-8: the missing, repeated or unknown column is named."""
    error = refusal(raw, allowed_columns=["c"])
    assert (error.code, error.expected, error.got) == (code, expected, got)


def test_a_heading_of_many_names_is_refused_quickly() -> None:
    """R-46: no quadratic work on a hostile heading."""
    started = time.monotonic()
    error = refusal(("a,b," + ",".join(map(str, range(200_000)))).encode(), allowed_columns=[])
    assert error.code == "table_columns"
    assert time.monotonic() - started < 5


def test_wrong_encoding_names_the_byte_and_the_line() -> None:
    """R-8: GB18030 declared as UTF-8, found in the third line."""
    raw = b"a,b\n1,2\n3," + "峰".encode("gb18030") + b"\n"
    error = refusal(raw)
    assert error.code == "table_encoding"
    assert error.where == "第 10 字节，约第 3 行"


@given(st.binary(max_size=60), encodings, st.integers(1, 20))
def test_the_named_byte_is_the_one_a_decoder_of_the_whole_names(
    raw: bytes, encoding: Encoding, size: int
) -> None:
    """R-8: the offset does not depend on how the file was cut into blocks."""
    expected = broken_byte(raw, encoding)
    error = outcome(cut(raw, size), encoding)
    if expected is not None and error is not None and error.code == "table_encoding":
        assert error.where.startswith(f"第 {expected} 字节")


@given(st.binary(max_size=80), encodings)
def test_noise_gives_rows_or_our_error(raw: bytes, encoding: Encoding) -> None:
    """R-46: nothing else escapes."""
    error = outcome([b"a,b\n", raw], encoding)
    assert error is None or error.code in {"table_encoding", "table_quoting"}


@pytest.mark.parametrize("raw", [b'a,b\n1,"2\n3,4\n5,6\n', b'a,b\n1,2\n"x\ny"z,2\n', b'a,b\n1,"2'])
def test_an_unclosed_quote_stops_with_its_row(raw: bytes) -> None:
    """R-8: where the next row begins cannot be known, so the table is refused there."""
    error = refusal(raw)
    assert error.code == "table_quoting"
    assert error.where in {"第 2 行起", "第 3 行起"}


def test_rows_before_an_error_have_been_given_out() -> None:
    """R-9: the reader streams; the caller decides whether to keep what came before."""
    rows = iter_csv([b'a,b\n1,2\n"'], encoding="utf-8", required_columns=["a"])
    assert next(rows).number == 2
    with pytest.raises(TableRefusedError):
        next(rows)


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory() -> None:
    """R-46: one endless line."""
    with pytest.raises(TableRefusedError) as refused:
        list(iter_records((b"x" * (1 << 20) for _ in range(1000)), encoding="utf-8"))
    assert "过长" in refused.value.message


def test_memory_does_not_grow_with_the_table() -> None:
    """R-8: 20,000 rows cost no more than 2,000."""

    def blocks(count: int) -> Iterator[bytes]:
        yield b"a,b\n"
        for number in range(count // 1000):
            yield b"%d,\xe5\xbc\xa0\n" % number * 1000

    def peak(count: int) -> int:
        tracemalloc.start()
        assert sum(1 for _ in iter_csv(blocks(count), encoding="utf-8", required_columns=["a"])) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(20_000) < peak(2_000) * 1.2
