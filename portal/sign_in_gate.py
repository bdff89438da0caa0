"""Nobody is signed in before the last step: until then every page and the API see an anonymous request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from django.contrib.auth.middleware import get_user
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from portal.middleware import address_of
from portal.models import User
from portal.services.sign_in import Step, next_step
from portal.session_store import STARTED

VERIFIED = "second_factor"
"""Where a session keeps the number of the factor whose code was given."""


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """Somebody whose password was right and who has a step left."""

    user: User
    step: Step


class SignInGate:
    """Stand between the session and everything that asks who is signed in.

    Deny by default: views need no list of exceptions, the pages of the steps ask `pending_of` instead.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = cast("Any", request)
        given.session.origin = (address_of(request), request.headers.get("User-Agent", ""))
        given.pending_sign_in = None
        # Resolved here, so that views and services get a row and not Django's lazy stand-in for one.
        given.user = user = get_user(request)
        if isinstance(user, User) and (step := step_of(user, given.session)):
            given.pending_sign_in = PendingSignIn(user, step)
            given.user = AnonymousUser()
        return self.get_response(request)


def pending_of(request: HttpRequest) -> PendingSignIn | None:
    """Return whose sign-in is under way in this request's session."""
    found: PendingSignIn | None = getattr(request, "pending_sign_in", None)
    return found


def step_of(user: User, session: Any) -> Step | None:
    """Return the step that a session still lacks."""
    started = session.get(STARTED)
    started_at = datetime.fromtimestamp(started, UTC) if started else timezone.now()
    return next_step(user, verified=session.get(VERIFIED), started_at=started_at)
