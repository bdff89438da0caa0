"""Walk the audit's chain and name what was done to it: changed, removed, inserted, moved, replaced.

Most entries hold, and for them the walk does no more than one digest and two comparisons on the bytes that
PostgreSQL sent. What does not hold is taken apart and asked: does it fit with another predecessor, at another
position? The faults found so are sorted out at the end by `portal.core.audit_findings`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from portal.core.audit_findings import ChainFault, Reason, Shift, settle
from portal.core.audit_forms import (
    DIGEST_FIELD,
    GENESIS,
    Entry,
    RowFormatError,
    expected_head,
    expected_tail,
)
from portal.core.crypto import sm3

MOST_FAULTS = 100
NEAR = 64
"""An entry that does not fit its position is tried at so many positions before and after it."""
PROGRESS_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a walk found: entries seen, the last one's position and digest, faults by position."""

    checked: int
    last: int
    digest: bytes
    faults: tuple[ChainFault, ...] = ()
    is_cut_short: bool = False
    """There were more faults than were asked for; the rest of the chain was not walked."""
    marks: dict[int, bytes] = field(default_factory=dict)
    """The digests at the positions that were asked for."""

    @property
    def holds(self) -> bool:
        return not self.faults


@dataclass
class ChainWalk:
    """One walk along the chain, from `expected` on; `previous` is the digest before it, None if unknown."""

    expected: int = 1
    previous: bytes | None = GENESIS
    most_faults: int = MOST_FAULTS
    marked: Collection[int] = ()
    progress: Callable[[int], None] = lambda checked: None

    faults: list[ChainFault] = field(default_factory=list, init=False)
    shifts: list[Shift] = field(default_factory=list, init=False)
    unsolved: dict[int, Entry] = field(default_factory=dict, init=False)
    marks: dict[int, bytes] = field(default_factory=dict, init=False)
    checked: int = field(default=0, init=False)
    _recent: deque[bytes] = field(default_factory=lambda: deque(maxlen=NEAR), init=False)
    _doubted: int = field(default=0, init=False)  # the last position at which something was wrong

    def run(self, rows: Iterable[bytes]) -> ChainReport:
        """Walk rows in the order of their positions, as COPY sends them."""
        marked, recent = frozenset(self.marked), self._recent
        for row in rows:
            digest = sm3(row[:-DIGEST_FIELD])
            if (
                self.previous is not None
                and row.startswith(expected_head(self.previous, self.expected))
                and row.endswith(expected_tail(digest))
            ):
                self.previous, self.expected = digest, self.expected + 1
            else:
                self._examine(row)
                digest = b"" if self._doubted == self.expected - 1 else self.previous or b""
            recent.append(digest)
            if self.expected - 1 in marked:
                self.marks.setdefault(self.expected - 1, self.previous or b"")
            self.checked += 1
            if not self.checked % PROGRESS_EVERY:
                self.progress(self.checked)
            if len(self.faults) + len(self.shifts) > self.most_faults:
                return self._report(is_cut_short=True)
        return self._report()

    def _report(self, *, is_cut_short: bool = False) -> ChainReport:
        last = self.expected - 1
        faults = settle(self.faults, self.shifts, self.unsolved, last=last)
        return ChainReport(
            self.checked,
            last,
            self.previous or b"",
            tuple(faults[: self.most_faults]),
            is_cut_short,
            self.marks,
        )

    def _examine(self, row: bytes) -> None:
        """Say what is wrong with a row, if anything is: rows of an older form come here too."""
        try:
            entry = Entry.parse(row)
        except RowFormatError:
            self._blame(self.expected, Reason.CHANGED)
            self.previous, self.expected = None, self.expected + 1
            return
        position = entry.position
        if position < self.expected:  # before the first one, or twice in a file
            self._blame(position, Reason.INSERTED)
            return
        if position > self.expected:
            self._blame(self.expected, Reason.MISSING, last=position - 1)
            self.previous, self.expected = None, position
        if entry.holds():
            self._check_link(entry)
        else:
            self._check_content(entry)
        self.previous, self.expected = entry.digest, position + 1

    def _check_link(self, entry: Entry) -> None:
        """Compare a sound entry with the one before it."""
        if self.previous in (None, entry.previous):
            return
        before = entry.position - 1
        if self._doubted == before:
            self._note_changed_digest(before, entry)
            return
        if self.faults and self.faults[-1] == ChainFault(before - 1, Reason.REPLACED):
            # It fits neither neighbour: the one between them was replaced, not the one before it.
            self.faults.pop()
        self._blame(before, Reason.REPLACED)
        # The entry before is named, so this one is not doubted: it may yet break with the next one itself.
        self._doubted = 0

    def _note_changed_digest(self, position: int, following: Entry) -> None:
        """The successor still knows the digest: then it was only the digest's column that was changed."""
        entry = self.unsolved.get(position)
        if entry is not None and entry.computed() == following.previous:
            del self.unsolved[position]
            self.faults.remove(ChainFault(position, Reason.CHANGED))
            self._blame(position, Reason.CHANGED, column="digest")

    def _check_content(self, entry: Entry) -> None:
        """Find out in which way an entry does not fit its digest."""
        position = entry.position
        if self._doubted == position - 1:
            self._note_changed_digest(position - 1, entry)
        if self._fits_after(entry, self.previous):
            self._blame(position, Reason.CHANGED, column="previous_digest")
        elif (offset := self._offset(entry)) is not None:
            if entry.digest in self._recent:  # a copy: the chain never repeats a digest
                self._blame(position, Reason.INSERTED)
            else:
                self._note_shift(position, offset)
        else:
            self.unsolved[position] = entry
            self._blame(position, Reason.CHANGED)

    @staticmethod
    def _fits_after(entry: Entry, previous: bytes | None) -> bool:
        changed = previous is not None and entry.previous != previous
        return changed and entry.after(previous or b"").holds()

    def _offset(self, entry: Entry) -> int | None:
        """Return how far the entry stands behind its own position, if it is near."""
        here = [self.shifts[-1].offset] if self.shifts else []
        for offset in [*here, *(sign * step for step in range(1, NEAR + 1) for sign in (1, -1))]:
            if entry.position > offset and entry.at_position(entry.position - offset).holds():
                return offset
        return None

    def _note_shift(self, position: int, offset: int) -> None:
        newest = self.shifts[-1] if self.shifts else None
        if newest and (newest.last, newest.offset) == (position - 1, offset):
            newest.last = position
        else:
            self.shifts.append(Shift(position, position, offset))
        self._doubted = position

    def _blame(self, position: int, reason: Reason, *, last: int = 0, column: str = "") -> None:
        self.faults.append(ChainFault(position, reason, last or position, column))
        self._doubted = last or position
