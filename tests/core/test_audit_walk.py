"""The walk along the audit's chain names what was done to it, and only that (issue 3, Audit; R-46)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.audit_findings import ChainFault, Reason
from portal.core.audit_forms import (
    COLUMNS,
    GENESIS,
    Entry,
    RowFormatError,
    details_text,
    pack,
)
from portal.core.audit_walk import NEAR
from portal.core.crypto import sm3
from tests.core.audit_chains import BEGIN, chain, chained_anew, changed, sealed_anew, texts, walk

COUNT = 12
SOUND = chain(COUNT)
LONG = chain(400)
OTHER_VALUES = {
    "form": b"\0\7",
    "at": b"\0" * 8,
    "actor_id": None,
    "actor_name": b"other",
    "organisation_code": b"",
    "address": b"198.51.100.1",
    "action": b"batch.cancelled",
    "object_type": b"orders.order",
    "object_id": b"77",
    "object_label": "别的".encode(),
    "details": b"{}",
    "result": b"refused",
}
positions = st.integers(1, COUNT)


def faults(entries: list[Entry], **options: int) -> list[ChainFault]:
    return list(walk(entries, **options).faults)


def at(entries: list[Entry], position: int) -> Entry:
    return entries[position - 1]


class TestForm:
    def test_an_entry_is_its_row_in_postgresqls_binary_copy(self) -> None:
        row, digest = pack(previous=GENESIS, position=1, at=BEGIN, actor_id=None, texts=texts(1))
        moment = (BEGIN - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000
        head = [b"\0\x0f", b"\0\0\0\2\0\2", b"\0\0\0\x20" + GENESIS, b"\0\0\0\x08" + (1).to_bytes(8, "big")]
        head += [b"\0\0\0\x08" + int(moment).to_bytes(8, "big"), b"\xff\xff\xff\xff"]
        rest = [len(text.encode()).to_bytes(4, "big") + text.encode() for text in texts(1)]
        covered = b"".join(head + rest)
        assert row == covered + b"\0\0\0\x20" + sm3(covered)
        assert digest == sm3(covered)

    @given(st.lists(st.text(), min_size=9, max_size=9), st.none() | st.integers(-(2**63), 2**63 - 1))
    def test_what_is_packed_comes_apart_again(self, words: list[str], actor: int | None) -> None:
        words = [word.encode("utf-8", "replace").decode() for word in words]
        row, _ = pack(previous=GENESIS, position=3, at=BEGIN, actor_id=actor, texts=words)
        entry = Entry.parse(row)
        assert (entry.raw(), entry.holds(), entry.position, entry.at) == (row, True, 3, BEGIN)
        assert (entry.number("actor_id"), [entry.text(name) for name in COLUMNS[5:14]]) == (actor, words)

    @given(st.binary(max_size=200))
    def test_bytes_that_are_no_row_are_refused_or_do_not_hold(self, row: bytes) -> None:
        with pytest.raises(RowFormatError):
            Entry.parse(row)

    def test_an_entry_of_the_first_form_still_holds(self) -> None:
        """Installations begun before form 2 keep their entries."""
        columns = dict(zip(COLUMNS[5:14], texts(1), strict=True))
        covered = {**columns, "position": 1, "at": BEGIN.isoformat(), "actor_id": 4}
        covered["details"] = json.loads(columns["details"])
        digest = sm3(GENESIS + details_text(covered).encode())
        old = Entry.of(
            {**columns, "form": 1, "position": 1, "at": BEGIN, "actor_id": 4}
            | {"previous_digest": GENESIS, "digest": digest}
        )
        # What jsonb wrote out: other spaces, the same values.
        old = changed(old, "details", b'{"n": 1, "after": "released", "before": "approved"}')
        young = chain(2, first=2, previous=digest)
        assert walk([old, *young]).holds
        assert faults([changed(old, "result", b"x"), *young]) == [ChainFault(1, Reason.CHANGED)]


class TestNaming:
    def test_a_sound_chain_has_no_faults(self) -> None:
        report = walk(SOUND, marked={4, 12})
        assert (report.checked, report.last, report.digest, report.faults) == (
            COUNT,
            COUNT,
            SOUND[-1].digest,
            (),
        )
        assert report.marks == {4: at(SOUND, 4).digest, 12: at(SOUND, 12).digest}

    @pytest.mark.parametrize("position", [1, 6, COUNT])
    @pytest.mark.parametrize("column", OTHER_VALUES)
    def test_each_changed_column_is_named_by_its_entry(self, column: str, position: int) -> None:
        entries = list(SOUND)
        entries[position - 1] = changed(at(SOUND, position), column, OTHER_VALUES[column])
        assert faults(entries) == [ChainFault(position, Reason.CHANGED)]

    @pytest.mark.parametrize("position", [1, 6, COUNT])
    @pytest.mark.parametrize("value", [None, b"", b"\1" * 32, b"\1" * 33])
    def test_a_changed_link_is_named_as_such(self, value: bytes | None, position: int) -> None:
        entries = list(SOUND)
        entries[position - 1] = changed(at(SOUND, position), "previous_digest", value)
        assert faults(entries) == [ChainFault(position, Reason.CHANGED, column="previous_digest")]

    @pytest.mark.parametrize("value", [None, b"", b"\1" * 32, b"\1" * 33, SOUND[4].digest])
    def test_a_changed_digest_is_told_by_its_successor(self, value: bytes | None) -> None:
        entries = list(SOUND)
        entries[5] = changed(SOUND[5], "digest", value)
        assert faults(entries) == [ChainFault(6, Reason.CHANGED, column="digest")]

    def test_the_last_ones_digest_has_no_successor_to_tell(self) -> None:
        entries = [*SOUND[:-1], changed(SOUND[-1], "digest", b"\1" * 32)]
        assert faults(entries) == [ChainFault(COUNT, Reason.CHANGED)]

    @pytest.mark.parametrize(("first", "last"), [(1, 1), (6, 6), (4, 9), (1, 11)])
    def test_removed_entries_are_named(self, first: int, last: int) -> None:
        assert faults(SOUND[: first - 1] + SOUND[last:]) == [ChainFault(first, Reason.MISSING, last)]

    def test_an_entry_with_another_position_is_found_where_it_went(self) -> None:
        moved = changed(SOUND[3], "position", (COUNT + 3).to_bytes(8, "big"))
        expected = [ChainFault(COUNT + 3, Reason.MOVED, origin=4)]
        assert faults([*SOUND[:3], *SOUND[4:], moved]) == expected

    def test_before_the_first_there_is_nothing(self) -> None:
        stray = changed(SOUND[3], "position", (0).to_bytes(8, "big"))
        assert faults([stray, *SOUND]) == [ChainFault(0, Reason.INSERTED)]

    @given(st.permutations(range(COUNT)))
    @settings(max_examples=50, deadline=None)
    def test_reordered_entries_are_named_with_their_origins(self, order: list[int]) -> None:
        entries = [_at(SOUND[origin], place + 1) for place, origin in enumerate(order)]
        found = {
            fault.position + step: fault.origin + step
            for fault in faults(entries)
            for step in range(fault.last - fault.position + 1)
            if fault.reason is Reason.MOVED
        }
        assert found == {place + 1: origin + 1 for place, origin in enumerate(order) if place != origin}
        assert {fault.reason for fault in faults(entries)} <= {Reason.MOVED}

    def test_far_apart_entries_that_changed_places_are_found(self) -> None:
        entries = list(LONG)
        entries[9], entries[349] = _at(LONG[349], 10), _at(LONG[9], 350)
        assert faults(entries) == [
            ChainFault(10, Reason.MOVED, origin=350),
            ChainFault(350, Reason.MOVED, origin=10),
        ]

    @pytest.mark.parametrize("position", [2, 6, COUNT])
    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize("forger", ["blind", "linked", "unlinked"])
    def test_inserted_entries_are_named_and_those_that_made_room(
        self, position: int, count: int, forger: str
    ) -> None:
        """Whether the forger computed digests or not: who came after has moved."""
        after = [_at(entry, entry.position + count) for entry in SOUND[position - 1 :]]
        strangers = [changed(one, "object_id", b"999") for one in chain(count, first=position)]
        if forger == "linked":
            strangers = chained_anew(strangers, SOUND[position - 2].digest)
        if forger == "unlinked":
            strangers = chained_anew(strangers, b"\7" * 32)
        assert faults([*SOUND[: position - 1], *strangers, *after]) == [
            ChainFault(position, Reason.INSERTED, position + count - 1),
            ChainFault(position + count, Reason.MOVED, COUNT + count, origin=position),
        ]

    def test_a_copy_at_the_end_is_inserted(self) -> None:
        assert faults([*SOUND, _at(SOUND[7], COUNT + 1)]) == [ChainFault(COUNT + 1, Reason.INSERTED)]

    @pytest.mark.parametrize(("first", "count"), [(1, 1), (6, 1), (4, 3)])
    def test_removed_entries_are_named_where_the_rest_moved_up(self, first: int, count: int) -> None:
        after = [_at(entry, entry.position - count) for entry in SOUND[first - 1 + count :]]
        assert faults(SOUND[: first - 1] + after) == [
            ChainFault(first, Reason.MISSING, first + count - 1),
            ChainFault(first, Reason.MOVED, COUNT - count, origin=first + count),
        ]

    @pytest.mark.parametrize("position", [1, 6, COUNT - 1])
    def test_a_replaced_entry_with_a_fitting_digest_is_named_by_its_successor(self, position: int) -> None:
        entries = list(SOUND)
        entries[position - 1] = sealed_anew(changed(at(SOUND, position), "result", b"refused"))
        assert faults(entries) == [ChainFault(position, Reason.REPLACED)]

    def test_a_replaced_entry_that_fits_neither_neighbour_is_the_one_named(self) -> None:
        entries = list(SOUND)
        entries[5] = sealed_anew(SOUND[5].after(b"\7" * 32))
        assert faults(entries) == [ChainFault(6, Reason.REPLACED)]

    def test_all_faults_are_named_up_to_a_limit(self) -> None:
        entries = [changed(entry, "result", b"x") if entry.position % 10 == 0 else entry for entry in LONG]
        report = walk(entries)
        assert [fault.position for fault in report.faults] == list(range(10, 401, 10))
        assert not report.is_cut_short
        short = walk(entries, most_faults=3)
        assert ([fault.position for fault in short.faults], short.is_cut_short) == ([10, 20, 30], True)

    def test_several_kinds_at_once(self) -> None:
        entries = [entry for entry in LONG if entry.position not in (50, 51)]
        entries[9] = changed(LONG[9], "address", b"")
        entries[199] = sealed_anew(changed(entries[199], "details", b"{}"))
        assert faults(entries) == [
            ChainFault(10, Reason.CHANGED),
            ChainFault(50, Reason.MISSING, 51),
            ChainFault(202, Reason.REPLACED),
        ]

    @given(positions, st.sampled_from(sorted(OTHER_VALUES)), st.binary(max_size=40))
    @settings(max_examples=80, deadline=None)
    def test_any_other_bytes_in_any_column_are_found(self, position: int, column: str, value: bytes) -> None:
        entry = changed(at(SOUND, position), column, value)
        expected = [] if entry == at(SOUND, position) else [position]
        entries = [*SOUND[: position - 1], entry, *SOUND[position:]]
        assert [fault.position for fault in faults(entries)] == expected

    def test_a_row_that_cannot_be_read_is_named(self) -> None:
        from portal.core.audit_walk import ChainWalk

        rows = [entry.raw() for entry in SOUND]
        rows[5] = rows[5][:40]
        assert ChainWalk().run(rows).faults == (ChainFault(6, Reason.CHANGED),)

    def test_faults_say_in_chinese_what_and_where(self) -> None:
        assert ChainFault(4, Reason.MISSING, 6).text == "第 4–6 条：被删除"
        assert ChainFault(4, Reason.CHANGED, column="digest").text == "第 4 条：内容被修改（摘要）"
        assert ChainFault(4, Reason.MOVED, 6, origin=3).text == "第 4–6 条：次序被改动（原为第 3–5 条）"

    def test_near_is_what_runs_are_tried_at(self) -> None:
        """Entries moved farther than NEAR by room for many strangers are changed ones, one by one."""
        after = [_at(entry, entry.position + NEAR + 1) for entry in SOUND[5:]]
        strangers = [changed(one, "result", b"x") for one in chain(NEAR + 1, first=6)]
        strangers = chained_anew(strangers, SOUND[4].digest)
        found = faults([*SOUND[:5], *strangers, *after])
        assert [fault.position for fault in found] == list(range(6 + NEAR + 1, COUNT + NEAR + 2))


def _at(entry: Entry, position: int) -> Entry:
    return changed(entry, "position", position.to_bytes(8, "big"))
