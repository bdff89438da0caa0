"""Errors a person can act on: a stable code for programs, and where, expected and got for people."""

from __future__ import annotations

from typing import ClassVar


class PortalError(Exception):
    """Base of every expected refusal; `code` is part of the API and never changes."""

    code: ClassVar[str] = "refused"

    def __init__(self, message: str, *, where: str = "", expected: str = "", got: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        parts = [self.message]
        if self.where:
            parts.append(f"位置：{self.where}")
        if self.expected:
            parts.append(f"应为：{self.expected}")
        if self.got:
            parts.append(f"实为：{self.got}")
        return "；".join(parts)


class TransitionRefusedError(PortalError):
    """A state change that the TRANSITIONS table does not allow."""

    code = "transition_refused"


class PermissionRefusedError(PortalError):
    """The actor's roles do not allow this verb on this row."""

    code = "permission_refused"


class SamePersonError(PortalError):
    """The second of two people is the first one again."""

    code = "same_person"


class ConflictError(PortalError):
    """Somebody else changed the row first, or a constraint already holds a rival."""

    code = "conflict"


class InputRefusedError(PortalError):
    """Input that cannot be taken; subclasses name the exact reason."""

    code = "input_refused"


class SealRefusedError(InputRefusedError):
    """A sealed container that must not be opened; `code` says which check failed."""

    code = "seal_refused"
