"""Middleware of the portal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from portal.audit import client_address
from portal.limits import TooOftenError, spend
from portal.refusals import record_refusal

# What no page of ours uses: a script that got into one all the same finds it switched off.
FEATURES_OFF = (
    "accelerometer autoplay camera display-capture encrypted-media fullscreen geolocation gyroscope hid "
    "idle-detection magnetometer microphone midi payment picture-in-picture publickey-credentials-get "
    "screen-wake-lock serial usb xr-spatial-tracking"
)
API = "/api/"
ANONYMOUS_BYTES = 64 * 1024  # a name, a password, a code


def permissions_policy(*, allowed: Sequence[str] = ()) -> str:
    """Return the header that switches features off; the page that takes a photo keeps the camera."""
    return ", ".join(
        f"{feature}=(self)" if feature in allowed else f"{feature}=()" for feature in FEATURES_OFF.split()
    )


PERMISSIONS_POLICY = permissions_policy()


class BrowserRules:
    """Tell browsers what Django has no setting for: no cache keeps an answer, no other site embeds one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        response["Cross-Origin-Resource-Policy"] = "same-origin"
        if "public" not in response.get("Cache-Control", ""):  # static files say so
            response["Cache-Control"] = "no-store, private"
        return response


class BodyRules:
    """Refuse a page's request by its announced size, before anything reads or stores a byte of it.

    Stands before the check of the CSRF token, which would read the whole body to find the token in it. Only a
    verb whose form takes a file, asked for by somebody signed in, takes more than a form's fields.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        """Answer 413 to what is too long; the API looks for itself, since its answers are problems."""
        if request.path.startswith(API):
            return None
        limit = ANONYMOUS_BYTES
        if request.user.is_authenticated:
            form = getattr(view, "form_class", None)
            limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE + (form.upload_limit() if form else 0)
        announced = str(request.META.get("CONTENT_LENGTH") or "0")
        if announced.isdecimal() and int(announced) <= limit:
            return None
        return render(request, "413.html", {"limit": limit}, status=413)


class RememberAddress:
    """Keep the client's address at hand for audit entries written while the request runs."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = client_address.set(address_of(request))
        try:
            return self.get_response(request)
        finally:
            client_address.reset(token)


class Refusals:
    """Note who was refused access, and answer what was done too often; sign-in itself is counted here."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and request.path.startswith(reverse("admin:login")):
            try:
                spend("sign_in", request)
            except TooOftenError as exc:
                return too_often(request, exc)
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Let Django answer a refusal once it is in the audit."""
        if isinstance(exception, TooOftenError):
            return too_often(request, exception)
        if isinstance(exception, PermissionDenied):
            record_refusal(request, exception)
        return None


def too_often(request: HttpRequest, cause: TooOftenError) -> HttpResponse:
    """Return the page that says when to come back."""
    response = render(request, "429.html", {"wait": cause.wait}, status=429)
    response["Retry-After"] = str(cause.wait)
    return response


def address_of(request: HttpRequest) -> str:
    """Return the client's address, as the outermost trusted proxy saw it.

    X-Forwarded-For is read from the right, past TRUSTED_PROXIES of our own: what stands further left
    is the client's own claim.
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    claimed = [
        part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()
    ]
    trusted: int = settings.TRUSTED_PROXIES
    found = claimed[-trusted] if trusted and len(claimed) >= trusted else peer
    return found[:64]
