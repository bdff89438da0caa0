"""Signing in, step by step: password, code, and what must be done before anything else."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from django.contrib.auth import authenticate

from portal.audit import record_alone
from portal.core.errors import InputRefusedError
from portal.models import SignInStep, User
from portal.services import attempts, passwords, second_factor


class SignInRefusedError(InputRefusedError):
    """Name and password do not open an account; the same words whatever the reason."""

    code: ClassVar[str] = "sign_in_refused"


class Step(StrEnum):
    """What still stands between a right password and the portal."""

    CODE = "code"
    PASSWORD = "password"  # noqa: S105 - the name of a step
    ENROL = "enrol"


def check_password(username: str, password: str, *, address: str) -> User:
    """Return the person whose name and password these are, who may sign in to pages.

    Unknown, inactive and locked names, wrong passwords and accounts for programs get the same answer after
    the same work. Raises SignInRefusedError or SignInLockedError.
    """
    known = User.objects.filter(username=username).first()
    attempt = attempts.reserve(username, address, SignInStep.PASSWORD, known)
    user = authenticate(None, username=username, password=password)
    if not isinstance(user, User) or not user.is_staff:
        attempts.failed(attempt, "sign_in.failed")
        raise SignInRefusedError("用户名或密码不正确，或该账户已停用")
    attempt.delete()
    return user


def check_code(user: User, code: str, *, address: str) -> int:
    """Take the second step; return the factor's number, which the session keeps.

    Raises CodeRefusedError or SignInLockedError: a code is guessed as little as a password is.
    """
    attempt = attempts.reserve(user.username, address, SignInStep.CODE, user)
    try:
        factor = second_factor.check_code(user, code)
    except InputRefusedError:
        attempts.failed(attempt, "second_factor.failed")
        raise
    attempt.delete()
    return factor.pk


def next_step(user: User, *, verified: int | None, started_at: datetime) -> Step | None:
    """Return what the person must do next; None when the sign-in is complete. Asks the database nothing.

    Args:
        verified: number of the factor whose code this session gave.
        started_at: when the session began; a password that grows too old during it is asked for next time.

    """
    factor = second_factor.factor_of(user)
    if factor is not None and factor.pk != verified:
        return Step.CODE
    if passwords.is_due(user, at=started_at):
        return Step.PASSWORD
    if factor is None and second_factor.is_required(user):
        return Step.ENROL
    return None


def signed_in(user: User) -> None:
    """Note a sign-in that went through all its steps."""
    attempts.forget(user)
    record_alone("sign_in.succeeded", actor=user, subject=user, result="done")


def signed_out(user: User) -> None:
    """Note that somebody left."""
    record_alone("sign_in.signed_out", actor=user, subject=user, result="done")
