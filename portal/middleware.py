"""Middleware of the portal."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from portal.audit import client_address


class RememberAddress:
    """Keep the client's address at hand for audit entries written while the request runs."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = client_address.set(str(request.META.get("REMOTE_ADDR", "")))
        try:
            return self.get_response(request)
        finally:
            client_address.reset(token)
