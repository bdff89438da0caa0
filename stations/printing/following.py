"""Follow one card's faces from memory to the printer's last word; that proves no printed card (D8)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stations.printing.printer import (
    ENDS,
    JobState,
    JobStatus,
    Printer,
    PrinterError,
    PrinterSilentError,
    PrinterUnreachableError,
)
from stations.printing.words import in_words

PRINT_SECONDS = 150.0  # a card printer needs about 30 for both sides; a ribbon is changed in a minute
LOST_SECONDS = 30.0  # how long a printer may be away in the middle of a job
PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class PrintNote:
    """A change that the portal is told."""

    state: JobState
    number: int | None = None
    reasons: tuple[str, ...] = ()
    text: str = ""


def print_face(
    printer: Printer,
    faces: Sequence[bytes],
    title: str,
    tell: Callable[[PrintNote], None],
    *,
    seconds: float = PRINT_SECONDS,
    lost_seconds: float = LOST_SECONDS,
) -> PrintNote:
    """Submit the faces as one job, tell its every change, cancel it when time is up; return the last note."""
    note = _submitted(printer, faces, title)
    tell(note)
    if note.state in ENDS or note.number is None:
        return note
    deadline = time.monotonic() + seconds
    heard = time.monotonic()
    while note.state not in ENDS:
        try:
            fresh = _note(printer.job(note.number), note.number)
            heard = time.monotonic()
        except PrinterError as exc:
            fresh = _away(exc, note, heard, lost_seconds)
        if fresh.state not in ENDS and time.monotonic() >= deadline:
            fresh = _cancelled(printer, note.number)
        if fresh != note:
            note = fresh
            tell(note)
        elif note.state not in ENDS:
            time.sleep(PAUSE_SECONDS)
    return note


def _submitted(printer: Printer, faces: Sequence[bytes], title: str) -> PrintNote:
    try:
        number = printer.submit(faces, title)
    except PrinterSilentError as exc:
        return PrintNote(JobState.LOST, None, (), str(exc)[:200])
    except PrinterError as exc:
        return PrintNote(JobState.NOT_SUBMITTED, None, (), str(exc)[:200])
    return PrintNote(JobState.SUBMITTED, number)


def _note(status: JobStatus, number: int) -> PrintNote:
    return PrintNote(status.state, number, status.reasons, in_words(status.reasons)[:200])


def _away(exc: PrinterError, note: PrintNote, heard: float, lost_seconds: float) -> PrintNote:
    """Return what to tell while the printer does not answer: trouble at first, lost in the end."""
    gone = time.monotonic() - heard >= lost_seconds or not isinstance(
        exc, PrinterSilentError | PrinterUnreachableError
    )
    reasons = ("printer-unreachable",)
    return PrintNote(JobState.LOST if gone else JobState.STOPPED, note.number, reasons, exc.message[:200])


def _cancelled(printer: Printer, number: int) -> PrintNote:
    """Cancel a job that takes too long and say what the printer makes of it."""
    text = "限定时间内没有打印完"
    with contextlib.suppress(PrinterError):
        printer.cancel(number)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with contextlib.suppress(PrinterError):
            status = printer.job(number)
            if status.state in ENDS:
                return PrintNote(status.state, number, status.reasons, text)
        time.sleep(PAUSE_SECONDS)
    return PrintNote(JobState.LOST, number, (), text)
