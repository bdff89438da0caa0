"""Every address of a whole programme: tokens, methods, downloads, as every role (issue 3, Web)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils.http import parse_header_parameters
from hypothesis import given
from hypothesis import strategies as st

from portal.adminkit import attachment, safe_name
from portal.apikit.throttles import DownloadThrottle
from tests.architecture.conftest import finished
from tests.architecture.programme_run import Finished
from tests.architecture.test_admin import ADMINS, ROLES, opened, own_folders, request_of, verbs

__all__ = ["finished", "own_folders"]
pytestmark = [pytest.mark.django_db, pytest.mark.timeout(900)]
MAGIC = {
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": b"PK\x03\x04",
    "application/pdf": b"%PDF-",
    "application/json": b"{",
    "application/octet-stream": b"",
    "text/csv; charset=utf-8": b"\xef\xbb\xbf",
    "application/x-ndjson": b"{",
}


def patterns(found: Any = None, prefix: str = "/") -> Iterator[tuple[str, URLPattern]]:
    """Yield every address of the portal, with 1 for each part that varies."""
    for entry in (found or get_resolver()).url_patterns:
        route = str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry, prefix + route)
        elif isinstance(entry, URLPattern):
            yield prefix + route, entry


def plain(route: str) -> str:
    """Return an address of a route."""
    route = re.sub(r"\(\?P<[^>]+>[^)]*\)", "1", route)
    return (
        re.sub(r"<[^>]+>", "1", route)
        .replace("^", "")
        .replace("\\Z", "")
        .replace("$", "")
        .replace("\\.", ".")
    )


PAGES = sorted({plain(route) for route, _ in patterns() if not route.startswith("/api/")})


def test_the_walk_knows_the_addresses() -> None:
    assert len(PAGES) > 200
    assert {"/admin/login/", "/i18n/setlang/", "/admin/logout/", "/admin/orders/package/upload/"} <= set(
        PAGES
    )


def test_no_page_takes_a_post_without_its_token(finished: Finished) -> None:
    """A page of another site can make a browser send the session's cookie, but not the token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(finished.users["purchaser_clerk"])
    taken = [page for page in PAGES if client.post(page, {"reason": "x"}).status_code != HTTPStatus.FORBIDDEN]
    assert taken == []


def test_no_other_method_does_anything(finished: Finished) -> None:
    """PUT, PATCH and DELETE are no way around the token either."""
    client: Any = Client(enforce_csrf_checks=True)
    client.force_login(finished.users["purchaser_clerk"])
    for method in ("PUT", "PATCH", "DELETE"):
        taken = [page for page in PAGES if client.generic(method, page).status_code < HTTPStatus.BAD_REQUEST]
        assert taken == []


def files_of(finished: Finished, role: str) -> Iterator[tuple[str, Any]]:
    """Yield every file that a role can download from the admin."""
    client, request = finished.client(role), request_of(finished, role)
    for site in ADMINS.values():
        if not site.has_view_or_change_permission(request):
            continue
        rows = list(opened(site, request))
        for name, takes_row in verbs(site):
            for keys in [[row.pk] for row in rows] if takes_row else [[]]:
                answer = client.get(reverse(f"admin:{name}", args=keys))
                if answer.streaming or "attachment" in answer.get("Content-Disposition", ""):
                    yield f"{role} {name} {keys}", answer


def check_file(name: str, answer: Any) -> None:
    """Hold a download to its rules: an attachment of a safe name, of one type, kept by nobody."""
    content = answer.getvalue() if answer.streaming else answer.content
    kind, parts = parse_header_parameters(answer["Content-Disposition"])
    assert kind == "attachment", name
    stated = parts["filename"]
    assert re.fullmatch(r"[\w()（）.\-]+\.[a-z0-9]{2,10}", stated), (name, stated)
    assert stated.isascii() or "filename*=utf-8''" in answer["Content-Disposition"].lower(), name
    assert answer["Content-Type"] in MAGIC, (name, answer["Content-Type"])
    assert content.startswith(MAGIC[answer["Content-Type"]]), name
    assert answer["X-Content-Type-Options"] == "nosniff", name
    assert "no-store" in answer["Cache-Control"], name


def test_every_download_is_an_attachment_of_a_safe_name(finished: Finished) -> None:
    seen: set[str] = set()
    for role in ROLES:
        for name, answer in files_of(finished, role):
            check_file(name, answer)
            seen.add(name.split()[1])
    assert seen >= {
        "billing_statement_download",
        "orders_accountfile_download_problems",
        "orders_package_download_returns",
        "production_destructioncertificate_json",
        "production_destructioncertificate_pdf",
        "production_returnfile_download",
    }


def api_files() -> dict[str, tuple[str, Any]]:
    """Return the API's addresses that give a file: name, route and view."""
    return {
        str(entry.name): (route, entry.callback)
        for route, entry in patterns()
        if getattr(entry.callback, "actions", {}).get("get", "list") not in {"list", "retrieve"}
    }


def test_every_file_of_the_api_is_counted_as_a_download() -> None:
    files = api_files()
    assert len(files) >= 7, sorted(files)
    for name, (_route, view) in files.items():
        assert DownloadThrottle in view.initkwargs["throttle_classes"], name


def test_every_file_of_the_api_is_an_attachment_of_a_safe_name(finished: Finished) -> None:
    seen = set()
    for name, (route, view) in api_files().items():
        for role in ROLES:
            rows = view.cls.queryset.model._default_manager.visible_to(finished.users[role]).order_by("-pk")[
                :3
            ]
            for row in rows:
                answer = finished.client(role).get(plain(route).replace("/1/", f"/{row.pk}/"))
                if answer.status_code == HTTPStatus.OK:
                    check_file(f"{role} {name}", answer)
                    seen.add(name)
    assert len(seen) >= 4, seen


@given(st.text(max_size=300))
def test_any_name_becomes_one_that_a_file_system_takes(text: str) -> None:
    name = safe_name(text)
    assert re.fullmatch(r"[\w()（）.\-]+", name)
    assert not name.startswith(".")
    assert len(name.encode()) <= 255
    header = attachment(io.BytesIO(b""), text)["Content-Disposition"]
    assert parse_header_parameters(header)[0] == "attachment"
    assert "\n" not in header
