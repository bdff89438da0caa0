"""What is at work, on disk and without a secret: an agent that was killed tells the portal at its next start.

One small file, overwritten in place: `issuance step at` of the command that may be on its way. It outlives
the process, not necessarily the machine; after a power cut the portal's own sweeper ends the issuance (D8).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

WIDTH = 64
PRINTING = 900  # a step number of its own: the face may be at the printer
NOT_PRINTED = 901  # the chip is done, nothing was sent to the printer


@dataclass(frozen=True, slots=True)
class Entry:
    """An issuance, the script it was in (0: waiting for the card) and the command that was on its way."""

    issuance: int
    step: int
    at: int


class Journal:
    """The file; `path` empty keeps nothing, for tests of other things."""

    def __init__(self, path: Path | None) -> None:
        self._file = -1
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, issuance: int, step: int, at: int = 0) -> None:
        """Note what is done next."""
        self._put(f"{issuance} {step} {at}")

    def clear(self) -> None:
        """Note that nothing is at work."""
        self._put("")

    def read(self) -> Entry | None:
        """Return what was at work when the last agent ended; None when nothing was, or nobody can tell."""
        if self._file < 0:
            return None
        words = os.pread(self._file, WIDTH, 0).split()
        try:
            issuance, step, at = (int(word) for word in words)
        except ValueError:
            return None
        return Entry(issuance, step, at) if issuance > 0 and step >= 0 and at >= 0 else None

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _put(self, text: str) -> None:
        if self._file >= 0:
            os.pwrite(self._file, f"{text:<{WIDTH - 1}}\n".encode(), 0)
