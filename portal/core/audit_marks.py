"""Marks of the audit's end, kept outside the database: whoever cuts entries off there is contradicted here.

Each commit that wrote to the chain appends its last position and digest to a file beside the keys. What an
anchor covers is dropped, so the file holds what was written since. Safe for many processes at once; a crash
between commit and mark costs that one mark.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from portal.core.audit_anchors import held_against
from portal.core.audit_findings import ChainFault, Reason
from portal.core.audit_walk import ChainReport
from portal.core.key_files import private_directory

_LINE = re.compile(rb"(\d{20}) ([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """The chain reached `position` with this digest."""

    position: int
    digest: bytes


class AuditMarks:
    """The file of marks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, mark: Mark) -> None:
        """Append a mark in one write; raise OSError when it cannot be kept."""
        line = f"{mark.position:020d} {mark.digest.hex()}\n".encode()
        with self._opened(os.O_WRONLY | os.O_APPEND | os.O_CREAT, fcntl.LOCK_SH) as file:
            os.write(file, line)

    def read(self) -> list[Mark]:
        """Return all marks by position; a line torn by a crash is none."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return sorted(
            {Mark(int(line[1]), bytes.fromhex(line[2].decode())) for line in _LINE.finditer(content)}
        )

    def drop(self, through: int) -> None:
        """Forget marks up to a position, which an anchor covers now."""
        if not self.path.exists():
            return
        with self._opened(os.O_RDWR, fcntl.LOCK_EX) as file:
            kept = [
                line[0]
                for line in _LINE.finditer(os.pread(file, os.fstat(file).st_size, 0))
                if int(line[1]) > through
            ]
            # Shorter and in place: a crash in between leaves marks that are true all the same.
            os.pwrite(file, b"".join(kept), 0)
            os.ftruncate(file, sum(map(len, kept)))

    def set_aside(self) -> Path:
        """Rename the file, so that new marks begin another one; return where the old ones are."""
        with self._opened(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX):
            numbers = (self.path.with_name(f"{self.path.name}.{number}") for number in range(1, 10_000))
            aside = next(path for path in numbers if not path.exists())
            return self.path.rename(aside)

    @contextmanager
    def _opened(self, flags: int, lock: int) -> Iterator[int]:
        """Open the file under its lock; one that was renamed meanwhile is not it."""
        while True:
            try:
                file = os.open(self.path, flags, 0o600)
            except FileNotFoundError:
                private_directory(self.path.parent)
                file = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(file, lock)
                if _is_still(file, self.path):
                    yield file
                    return
            finally:
                os.close(file)


def held_by_marks(marks: Iterable[Mark], report: ChainReport, *, start: int = 1) -> list[ChainFault]:
    """Return what marks say of a walked chain: an end that was cut off, or cut off and written anew."""
    known = list(marks)
    contradicted = {mark.position for mark in known if report.marks.get(mark.position) != mark.digest}
    # What was written anew has its own mark, which agrees: it must not speak for a position that was another.
    heard = [m for m in known if m.position not in contradicted or report.marks.get(m.position) != m.digest]
    return [
        replace(fault, reason=Reason.FORGOTTEN) if fault.reason is Reason.REWRITTEN else fault
        for fault in held_against(heard, report, start=start)
    ]


def joined(faults: Sequence[ChainFault], report: ChainReport) -> tuple[ChainFault, ...]:
    """Keep of several findings of a missing end the longest."""
    ends = [fault for fault in faults if fault.reason is Reason.MISSING and fault.position == report.last + 1]
    longest = max((fault.last for fault in ends), default=0)
    return tuple(fault for fault in faults if fault not in ends or fault.last == longest)


def _is_still(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
