"""Passwords: rules, history, age, and changed by their owner."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.utils import timezone

from portal.audit import unit_of_work
from portal.core.errors import InputRefusedError
from portal.models import PasswordRecord, SignInStep, User
from portal.services import attempts
from portal.services.sessions import end_sessions
from portal.workflow import locked


class PasswordRefusedError(InputRefusedError):
    """A password that the rules refuse."""

    code: ClassVar[str] = "password_refused"


def is_due(user: User, *, at: datetime) -> bool:
    """Say whether a password had to be changed when its owner signed in: an initial one, or an old one."""
    if user.must_change_password:
        return True
    if not settings.PASSWORD_MAX_DAYS or user.password_changed_at is None:
        return False
    return user.password_changed_at + timedelta(days=settings.PASSWORD_MAX_DAYS) < at


def set_password(user: User, password: str, *, initial: bool) -> None:
    """Put a password that the rules allow on an unsaved or locked row; the caller saves PASSWORD_FIELDS.

    An initial one, which somebody else knows, must be changed at the first sign-in.
    """
    try:
        validate_password(password, user)
    except ValidationError as exc:
        raise PasswordRefusedError("；".join(exc.messages)) from exc
    if user.pk and _was_used(user, password):
        raise PasswordRefusedError(f"不能使用最近 {settings.PASSWORD_HISTORY} 次用过的密码")
    user.set_password(password)
    user.password_changed_at, user.must_change_password = timezone.now(), initial


PASSWORD_FIELDS = ("password", "password_changed_at", "must_change_password")


def keep_record(user: User) -> None:
    """Remember a saved password's hash and forget those beyond the history."""
    PasswordRecord.objects.create(user=user, encoded=user.password, set_at=timezone.now())
    kept = user.password_records.values_list("pk", flat=True)[: max(settings.PASSWORD_HISTORY, 1)]
    user.password_records.exclude(pk__in=list(kept)).delete()


def change_own_password(user: User, *, current: str, password: str, address: str, session: str) -> User:
    """Change one's own password, knowing the present one; the other sessions end.

    Args:
        address: where the request comes from; wrong guesses of the present password count as failed sign-ins.
        session: key of the row of the session that stays.

    """
    attempt = attempts.reserve(user.username, address, SignInStep.PASSWORD, user)
    if not user.check_password(current):
        attempts.failed(attempt, "password.refused")
        raise PasswordRefusedError("当前密码不正确")
    attempt.delete()
    with unit_of_work(user) as work:
        fresh = locked(user)
        set_password(fresh, password, initial=False)
        fresh.save(update_fields=PASSWORD_FIELDS)
        keep_record(fresh)
        end_sessions(fresh, actor=user, reason="password_changed", keep=session)
        work.record("password.changed", fresh)
    return fresh


def _was_used(user: User, password: str) -> bool:
    """Compare with the hashes kept; the present one counts also where no record of it was kept."""
    history = user.password_records.values_list("encoded", flat=True)[: settings.PASSWORD_HISTORY]
    return any(check_password(password, encoded) for encoded in {user.password, *history})
