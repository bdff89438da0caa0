"""One finding about one field of one row, as it stands in return lists and dry-run reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Say which field is wrong, by a stable code, what was expected and what came.

    `got` may hold personal data: store it encrypted, never log it.
    """

    field: str
    code: str
    expected: str
    got: str = ""
