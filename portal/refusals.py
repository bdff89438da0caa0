"""Refused access as an event of the audit: who tried which page without the permission for it (issue 3, Web).

Each user has a small allowance an hour, so that nobody fills the chain by reloading a forbidden page; the
first entry beyond it says that more are left out.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from portal.audit import record_alone
from portal.limits import Rate, take
from portal.models import User

RECORDED = Rate(20, 3600)


def record_refusal(request: HttpRequest, cause: Exception) -> None:
    """Write `access.refused` with page and permission; of the address only what is ours."""
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return
    taken = take("refusal", f"user {user.pk}", RECORDED)
    if taken.wait and not taken.is_first:
        return
    record_alone(
        "access.refused",
        actor=user,
        path=_path(request),
        method=str(request.method),
        permission=_permission(cause),
        more_left_out=taken.wait > 0,
    )


def _path(request: HttpRequest) -> str:
    """Return the address without its query; the route instead where a part of it is not a row's number."""
    match: Any = request.resolver_match
    if match is None or any(not str(value).isdecimal() for value in match.kwargs.values()):
        return f"/{match.route}" if match else ""
    return request.path


def _permission(cause: Exception) -> str:
    """Return the permission that was missing, where the refusal or what caused it names one."""
    named = (getattr(error, "expected", "") for error in (cause, cause.__cause__))
    return next((str(name) for name in named if name), "")
