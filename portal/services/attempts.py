"""Attempts to sign in: counted before they are tried, by name and by address, and locked when too many fail.

An attempt takes its place in the count first and is tried after, so that a hundred at once get no more tries
than one after the other. An attempt that succeeds gives its place back; one that fails keeps it until it is
older than the window, an unlock, or a sign-in of the same name that goes through to its end.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from portal.audit import record_alone, unit_of_work
from portal.core.errors import InputRefusedError
from portal.files import blind_index
from portal.models import SignInAttempt, User
from portal.roles import require

IPV6_SITE = 64  # bits that one subscriber holds: its addresses count as one


class SignInLockedError(InputRefusedError):
    """Too many attempts failed for this name or from this address; says nothing about which."""

    code: ClassVar[str] = "sign_in_locked"


def name_index(name: str) -> bytes:
    """Return the blind index of a name as it was typed; spelling in capitals makes no other name."""
    return blind_index().of(f"sign-in:{name.strip().casefold()}")


def counted_address(address: str) -> str:
    """Return what an address counts as: itself, or the /64 of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, IPV6_SITE), strict=False))


def reserve(name: str, address: str, step: str, user: User | None) -> SignInAttempt:
    """Count an attempt, committed before it is tried; raise SignInLockedError when it is one too many."""
    index, source = name_index(name), counted_address(address)
    SignInAttempt.objects.filter(at__lt=_since()).delete()
    attempt = SignInAttempt.objects.create(
        at=timezone.now(), step=step, name_index=index, user=user, address=source
    )
    if _of_name(index) > settings.SIGN_IN_FAILURES_PER_USER or _of_address(source) > (
        settings.SIGN_IN_FAILURES_PER_ADDRESS
    ):
        attempt.delete()  # an attempt that is not tried does not prolong the lock
        raise SignInLockedError(
            f"登录失败次数过多，请 {settings.SIGN_IN_LOCK_SECONDS // 60} 分钟后再试，或联系安全管理员解除锁定"
        )
    return attempt


def failed(attempt: SignInAttempt, action: str, **details: str) -> None:
    """Audit an attempt that failed, and the lock when it was the last one allowed."""
    who = attempt.user
    pseudonym = bytes(attempt.name_index).hex()[:16]
    record_alone(action, actor=None, subject=who, name_index=pseudonym, **details)
    if _of_name(bytes(attempt.name_index)) >= settings.SIGN_IN_FAILURES_PER_USER:
        record_alone("sign_in.locked", actor=None, subject=who, by="name", name_index=pseudonym)
    if _of_address(attempt.address) >= settings.SIGN_IN_FAILURES_PER_ADDRESS:
        record_alone("sign_in.locked", actor=None, by="address", address=attempt.address)


def forget(user: User) -> None:
    """Clear a person's failures after a sign-in that went through; those of the address stay."""
    _named(user).delete()


def is_locked(user: User) -> bool:
    """Say whether a person's sign-in is locked now."""
    return bool(_of_name(name_index(user.username)) >= settings.SIGN_IN_FAILURES_PER_USER)


def unlock_user(user: User, *, actor: User) -> int:
    """Let a person try again at once; return how many failures were cleared."""
    require(actor, "portal.unlock_sign_in")
    if user.pk == actor.pk:
        raise InputRefusedError("不能解除自己的锁定，请由另一名安全管理员办理")
    return _unlock(_named(user), actor=actor, subject=user, by="name")


def unlock_address(attempt: SignInAttempt, *, actor: User) -> int:
    """Let an address try again at once; return how many failures were cleared."""
    require(actor, "portal.unlock_sign_in")
    rows = SignInAttempt.objects.filter(address=attempt.address)
    return _unlock(rows, actor=actor, subject=None, by="address", address=attempt.address)


def _unlock(rows: QuerySet[SignInAttempt], *, actor: User, subject: User | None, **details: str) -> int:
    with unit_of_work(actor) as work:
        cleared, _ = rows.delete()
        work.record("sign_in.unlocked", subject, cleared=cleared, **details)
    return cleared


def _named(user: User) -> QuerySet[SignInAttempt]:
    return SignInAttempt.objects.filter(name_index=name_index(user.username))


def _of_name(index: bytes) -> int:
    return SignInAttempt.objects.filter(name_index=index, at__gte=_since()).count()


def _of_address(address: str) -> int:
    return SignInAttempt.objects.filter(address=address, at__gte=_since()).count()


def _since() -> datetime:
    return timezone.now() - timedelta(seconds=settings.SIGN_IN_LOCK_SECONDS)
