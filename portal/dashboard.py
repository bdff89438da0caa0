"""The start page and the navigation: what waits for whom."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _


def environment(request: HttpRequest) -> tuple[str, str] | None:
    """Return the badge that tells a test system from the real one."""
    return None if settings.PRODUCTION else (_("开发环境"), "warning")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups."""
    return []


def start_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Fill the start page."""
    return context
