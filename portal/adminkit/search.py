"""Searching the admin for pages: unfold's search, with its address checked."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import InvalidPage
from django.http import Http404, HttpRequest, HttpResponse


def search(request: HttpRequest) -> HttpResponse:
    """Answer the search field; a page that does not exist is not found, where unfold fails."""
    site: Any = admin.site
    if not request.GET.get("page", "1").isdecimal():
        raise Http404
    try:
        found: HttpResponse = site.search(request)
    except InvalidPage as exc:
        raise Http404 from exc
    return found
