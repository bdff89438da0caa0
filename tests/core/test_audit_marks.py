"""Marks of the audit's end: kept by many at once, torn by crashes, dropped when an anchor covers them."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.audit_findings import ChainFault, Reason
from portal.core.audit_marks import AuditMarks, Mark, held_by_marks, joined
from portal.core.audit_walk import ChainReport


def mark(position: int, seed: int = 0) -> Mark:
    return Mark(position, bytes([seed]) * 28 + position.to_bytes(4, "big"))


@pytest.fixture
def marks(tmp_path: Path) -> AuditMarks:
    return AuditMarks(tmp_path / "keys" / "audit-marks")


def test_what_is_added_is_read_and_private(marks: AuditMarks) -> None:
    assert marks.read() == []
    for each in (mark(3), mark(9), mark(5), mark(3)):
        marks.add(each)
    assert marks.read() == [mark(3), mark(5), mark(9)]
    assert stat.S_IMODE(marks.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(marks.path.parent.stat().st_mode) == 0o700


def test_one_position_may_have_been_reached_twice(marks: AuditMarks) -> None:
    """That is what cutting off and writing anew looks like."""
    marks.add(mark(3))
    marks.add(mark(3, seed=1))
    assert marks.read() == [mark(3), mark(3, seed=1)]


@given(kept=st.lists(st.integers(1, 50), max_size=20), through=st.integers(0, 60), torn=st.integers(0, 85))
def test_dropping_leaves_what_is_later(
    tmp_path_factory: pytest.TempPathFactory, kept: list[int], through: int, torn: int
) -> None:
    """Whatever a crash tore in the middle of a line."""
    marks = AuditMarks(tmp_path_factory.mktemp("marks") / "audit-marks")
    for position in kept:
        marks.add(mark(position))
    if kept and torn:
        with marks.path.open("r+b") as file:
            file.truncate(marks.path.stat().st_size - torn)
        kept = kept[:-1]
    marks.drop(through)
    assert marks.read() == sorted({mark(position) for position in kept if position > through})
    marks.add(mark(99))
    assert marks.read()[-1:] == [mark(99)]


def test_marks_set_aside_stay(marks: AuditMarks) -> None:
    for number in (1, 2):
        marks.add(mark(number))
        assert marks.set_aside().name == f"audit-marks.{number}"
        assert marks.read() == []
    assert AuditMarks(marks.path.with_name("audit-marks.1")).read() == [mark(1)]


def _write(path: Path, first: int) -> None:
    for position in range(first, first + 200):
        AuditMarks(path).add(mark(position))


def test_nothing_is_lost_between_writers_and_whoever_drops(marks: AuditMarks) -> None:
    """Two processes write while a third drops what an anchor covers."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(marks.path, first)) for first in (1001, 2001)]
    for position in range(1, 200):
        marks.add(mark(position))
    for writer in writers:
        writer.start()
    for through in range(1, 200):
        marks.drop(through)
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [each.position for each in marks.read()] == [*range(1001, 1201), *range(2001, 2201)]


def report(last: int, *known: Mark) -> ChainReport:
    return ChainReport(last, last, b"", marks={each.position: each.digest for each in known})


class TestVerdict:
    def test_an_end_that_is_there_says_nothing(self) -> None:
        assert held_by_marks([mark(3), mark(5)], report(9, mark(3), mark(5))) == []

    def test_a_cut_end_is_named_as_far_as_it_is_known(self) -> None:
        found = held_by_marks([mark(3), mark(7), mark(9)], report(5, mark(3)))
        assert found == [ChainFault(6, Reason.MISSING, 9)]

    def test_an_end_written_anew_is_named(self) -> None:
        found = held_by_marks([mark(3), mark(5)], report(9, mark(3), mark(5, seed=1)))
        assert found == [ChainFault(4, Reason.FORGOTTEN, 5)]
        assert found[0].text == "第 4–5 条：末尾被删去后重写（与链尾标记不符）"

    @pytest.mark.parametrize("seeds", [(1, 2), (2, 1)])
    def test_the_new_ends_own_marks_do_not_hide_it(self, seeds: tuple[int, int]) -> None:
        """Whichever digest sorts first."""
        old, new = seeds
        known = [mark(3), *(mark(at, seed) for at in (4, 5) for seed in sorted(seeds)), mark(6, new)]
        chain = report(6, mark(3), mark(4, new), mark(5, new), mark(6, new))
        assert held_by_marks(known, chain) == [ChainFault(4, Reason.FORGOTTEN, 5)]
        assert old != new

    def test_of_several_missing_ends_the_longest_counts(self) -> None:
        ends = [
            ChainFault(2, Reason.CHANGED),
            ChainFault(6, Reason.MISSING, 7),
            ChainFault(6, Reason.MISSING, 9),
        ]
        assert joined(ends, report(5)) == (ends[0], ends[2])
