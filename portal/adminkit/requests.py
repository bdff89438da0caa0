"""Who is behind a request."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest

from portal.models import User


def signed_in(request: HttpRequest) -> User:
    """Return the user behind a request to the admin."""
    return cast("User", request.user)
