"""What a card printer is to the agent: a state, a job that is submitted, followed and cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from portal.core.errors import PortalError


class PrinterError(PortalError):
    """The printer cannot do it; subclasses name the reason."""

    code = "printer_failed"


class PrinterUnreachableError(PrinterError):
    """Nothing answers at the printer's address: what was sent did not arrive."""

    code = "printer_unreachable"


class PrinterSilentError(PrinterError):
    """A message was sent and no answer came: whether it was carried out nobody knows."""

    code = "printer_silent"


class PrinterRefusedError(PrinterError):
    """The printer refused; `got` is its status."""

    code = "printer_refused"


class MediaRefusedError(PrinterError):
    """The printer has no card-sized medium."""

    code = "printer_media"


class FormatRefusedError(PrinterError):
    """The printer takes no image that can be made here."""

    code = "printer_format"


class JobState(StrEnum):
    """The states the portal knows of a print job (stations.choices.PrintState)."""

    NOT_SUBMITTED = "not-submitted"
    SUBMITTED = "submitted"
    PROCESSING = "processing"
    STOPPED = "stopped"
    COMPLETED = "completed"
    ABORTED = "aborted"
    CANCELED = "canceled"
    LOST = "lost"


ENDS = frozenset(
    {JobState.NOT_SUBMITTED, JobState.COMPLETED, JobState.ABORTED, JobState.CANCELED, JobState.LOST}
)


@dataclass(frozen=True, slots=True)
class Supply:
    """A ribbon, cleaner or hopper and how full it is in percent; -1 and below: not known."""

    name: str
    level: int


@dataclass(frozen=True, slots=True)
class PrinterStatus:
    """A printer as it reports itself."""

    name: str
    state: str  # idle, processing, stopped, unreachable
    reasons: tuple[str, ...] = ()
    supplies: tuple[Supply, ...] = ()
    media: tuple[str, ...] = ()
    turns_over: bool | None = None  # prints both sides by itself; None while nobody knows


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands."""

    state: JobState
    reasons: tuple[str, ...] = ()


class Printer(Protocol):
    """A card printer."""

    name: str

    def status(self) -> PrinterStatus:
        """Say how the printer is; an unreachable one is a state, not an error."""

    def submit(self, faces: Sequence[bytes], title: str) -> int:
        """Print one card from a JPEG a side, front first; return the job's number or raise a PrinterError."""

    def job(self, number: int) -> JobStatus:
        """Say where a job stands; raise PrinterUnreachableError or PrinterSilentError."""

    def cancel(self, number: int) -> None:
        """Ask for a job's end; a job that has ended already is no error."""
