"""A printer that prints to nothing, for demonstrations; its name says so wherever it is shown."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from stations.printing.printer import JobState, JobStatus, PrinterStatus, Supply

NAME = "虚拟打印机"


class VirtualPrinter:
    """Reports every face as completed at the second look."""

    name = NAME

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._looked: dict[int, int] = {}

    def status(self) -> PrinterStatus:
        """Say that it is idle."""
        supplies = (Supply("虚拟色带", 100),)
        return PrinterStatus(NAME, "idle", (), supplies, ("iso_id-1_53.98x85.6mm",), turns_over=True)

    def submit(self, faces: Sequence[bytes], title: str) -> int:
        """Forget the faces."""
        number = next(self._numbers)
        self._looked[number] = 0
        return number

    def job(self, number: int) -> JobStatus:
        """Say processing once, then completed."""
        self._looked[number] += 1
        return JobStatus(JobState.PROCESSING if self._looked[number] == 1 else JobState.COMPLETED)

    def cancel(self, number: int) -> None:
        """Do nothing: the job has ended already."""
