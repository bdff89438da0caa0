"""What may be wrong with the audit's chain, and how single observations become one finding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from portal.core.audit_forms import Entry

MOST_CANDIDATES = 1000


class Reason(StrEnum):
    """What is wrong with an entry or a range of them."""

    CHANGED = "changed"
    """A column does not fit the digest."""
    MISSING = "missing"
    """Removed; the others keep their positions or moved up."""
    INSERTED = "inserted"
    """Not of this chain: put in later, or a copy of another one."""
    MOVED = "moved"
    """Stands where another one belongs; `origin` says where from."""
    REPLACED = "replaced"
    """Fits its own digest, but its successor knows another one."""
    REWRITTEN = "rewritten"
    """Sound in itself, but not what a signed anchor says was here."""
    FORGOTTEN = "forgotten"
    """Sound in itself, but not what a mark of the end says was here."""


@dataclass(frozen=True, slots=True)
class ChainFault:
    """What is wrong from `position` to `last`; the column or the first one's origin where it is known."""

    position: int
    reason: Reason
    last: int = 0
    column: str = ""
    origin: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "last", self.last or self.position)

    @property
    def text(self) -> str:
        """Say it in Chinese, for commands and files."""
        # Spelled out: the English catalogue knows a text by its words, and a colon alone has none.
        if self.position == self.last:
            return f"第 {self.position} 条：{self._what()}"
        return f"第 {self.position}–{self.last} 条：{self._what()}"

    def _what(self) -> str:
        words = {
            Reason.CHANGED: "内容被修改",
            Reason.MISSING: "被删除",
            Reason.INSERTED: "是后来插入的",
            Reason.MOVED: "次序被改动",
            Reason.REPLACED: "被替换（与后一条所记的摘要不符）",
            Reason.REWRITTEN: "被整段改写（与锚点签名的摘要不符）",
            Reason.FORGOTTEN: "末尾被删去后重写（与链尾标记不符）",
        }
        if self.column:
            return f"{words[self.reason]}（{_COLUMNS[self.column]}）"
        if self.origin:
            origin = _where(self.origin, self.origin + self.last - self.position)
            return f"{words[self.reason]}（原为{origin}）"
        return words[self.reason]


_COLUMNS = {"digest": "摘要", "previous_digest": "上一条摘要"}


def _where(first: int, last: int) -> str:
    return f"第 {first} 条" if first == last else f"第 {first}–{last} 条"


@dataclass(slots=True)
class Shift:
    """Entries that stand `offset` behind the position they were written for."""

    first: int
    last: int
    offset: int

    def gained(self) -> Iterator[int]:
        """Yield the positions outside the run that its entries come from: others stand there now."""
        near = min(abs(self.offset), self.last - self.first + 1)
        if self.offset > 0:
            start = self.first - self.offset
            yield from range(start, start + near)
        else:
            yield from range(self.last - self.offset - near + 1, self.last - self.offset + 1)

    def lost(self) -> Iterator[int]:
        """Yield the positions of the run whose own entries are not in it."""
        near = min(abs(self.offset), self.last - self.first + 1)
        if self.offset > 0:
            yield from range(self.last - near + 1, self.last + 1)
        else:
            yield from range(self.first, self.first + near)

    def fault(self) -> ChainFault:
        """Return the run as a finding."""
        return ChainFault(self.first, Reason.MOVED, self.last, origin=self.first - self.offset)


def settle(
    faults: list[ChainFault], shifts: list[Shift], unsolved: dict[int, Entry], *, last: int
) -> list[ChainFault]:
    """Turn observations into findings, by position.

    An unsolved entry may be another faulty position's; a run of moved entries tells of one that was put in
    front of it or taken out; a gap whose entries turn up elsewhere is none.
    """
    shifts = [*shifts, *_found_elsewhere(faults, shifts, unsolved)]
    settled = {
        fault.position: fault
        for fault in faults
        if not (fault.reason is Reason.CHANGED and _covers(shifts, fault.position))
    }
    for shift in shifts:
        for position in _left_behind(shift, settled, shifts, last):
            _came_from(position, settled, shifts)
        for position in shift.lost():
            if shift.offset < 0 and not _is_origin(shifts, position):
                settled[position] = ChainFault(position, Reason.MISSING)
    moved = [shift.fault() for shift in shifts]
    found = [*_without_empty_end(settled.values(), moved, last), *moved]
    return sorted(_joined(found), key=lambda fault: (fault.position, fault.reason))


def _left_behind(shift: Shift, settled: dict[int, ChainFault], shifts: list[Shift], last: int) -> list[int]:
    """Return the positions that moved entries left and others may have taken."""
    positions = [position for position in shift.gained() if position <= last]
    pushed_to_end = shift.offset > 0 and shift.last == last
    if pushed_to_end and not _covers(shifts, positions[0]) and not _gap(settled, positions[0]):
        # Nothing stood behind the run: all that stands before it, as far as it was pushed, is new.
        return list(range(positions[0], shift.first))
    return positions


def _came_from(position: int, settled: dict[int, ChainFault], shifts: list[Shift]) -> None:
    """Explain what stands where a moved entry came from."""
    if _covers(shifts, position):
        return
    gap = _gap(settled, position)
    if gap is None:
        settled[position] = ChainFault(position, Reason.INSERTED)
        if settled.get(position - 1) == ChainFault(position - 1, Reason.REPLACED):
            del settled[position - 1]  # it fits its true successor, which moved on
        return
    del settled[gap.position]
    for first, end in ((gap.position, position - 1), (position + 1, gap.last)):
        if first <= end:
            settled[first] = ChainFault(first, Reason.MISSING, end)


def _gap(settled: dict[int, ChainFault], position: int) -> ChainFault | None:
    gaps = (fault for fault in settled.values() if fault.reason is Reason.MISSING)
    return next((gap for gap in gaps if gap.position <= position <= gap.last), None)


def _found_elsewhere(
    faults: list[ChainFault], shifts: list[Shift], unsolved: dict[int, Entry]
) -> Iterator[Shift]:
    """Yield the unsolved entries that fit one of the other faulty positions."""
    wanted = list(dict.fromkeys(_candidates(faults, shifts, unsolved)))[:MOST_CANDIDATES]
    for position, entry in unsolved.items():
        origin = next((other for other in wanted if entry.at_position(other).holds()), None)
        if origin is not None:
            yield Shift(position, position, position - origin)


def _candidates(faults: list[ChainFault], shifts: list[Shift], unsolved: dict[int, Entry]) -> Iterator[int]:
    yield from unsolved
    for shift in shifts:
        yield from shift.lost()
    for fault in faults:
        if fault.reason is Reason.MISSING:
            yield from range(fault.position, min(fault.last + 1, fault.position + MOST_CANDIDATES))


def _covers(shifts: Iterable[Shift], position: int) -> bool:
    return any(shift.first <= position <= shift.last for shift in shifts)


def _is_origin(shifts: Iterable[Shift], position: int) -> bool:
    return any(shift.first <= position + shift.offset <= shift.last for shift in shifts)


def _without_empty_end(
    faults: Iterable[ChainFault], moved: Iterable[ChainFault], last: int
) -> Iterator[ChainFault]:
    """Leave out a gap that only a moved entry at the very end makes: nothing ever stood there."""
    ends = {fault.position for fault in moved if fault.last == last}
    for fault in faults:
        if fault.reason is not Reason.MISSING or fault.last + 1 not in ends:
            yield fault


def _joined(faults: Iterable[ChainFault]) -> Iterator[ChainFault]:
    """Join neighbours that were inserted or are missing alike."""
    ordered = sorted(faults, key=lambda fault: (fault.reason, fault.position))
    joined: list[ChainFault] = []
    for fault in ordered:
        before = joined[-1] if joined else None
        alike = before is not None and before.reason is fault.reason and fault.reason in _JOINABLE
        if before is not None and alike and before.last + 1 == fault.position:
            joined[-1] = ChainFault(before.position, fault.reason, fault.last)
        else:
            joined.append(fault)
    yield from joined


_JOINABLE = frozenset({Reason.MISSING, Reason.INSERTED})
