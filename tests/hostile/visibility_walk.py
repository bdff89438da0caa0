"""Every address of the portal, found in the resolver, and how somebody asks for it and reads the answer."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from django.contrib import admin
from django.db import models, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.views.generic import RedirectView
from pypdf import PdfReader

from stations.api.authentication import StationAuthentication
from stations.models import Issuance

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_PLACE = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>|\(\?P<([a-z_]+)>")
_PLACE_WHOLE = re.compile(r"<[^>]+>|\(\?P<[^>]+>(?:\[[^]]*\]|[^()])*\)")
# Pages outside the admin's own that are about a row: how their names start, and whose row it is.
PAGES_BY_HAND: dict[str, Any] = {"counter-": Issuance}
_TOKEN = re.compile(r'(name="csrfmiddlewaretoken" value|nonce)="[^"]*"')


@dataclass(frozen=True)
class Route:
    """One address of the resolver: its name with namespace, what stands in it, and who answers."""

    name: str
    places: tuple[str, ...]
    callback: Any
    text: str

    def address(self, *values: Any) -> str:
        """Return the address with values in its places; names are not used, for two routes may share one."""
        given = iter(values)
        plain = _PLACE_WHOLE.sub(lambda _: str(next(given)), self.text)
        return "/" + plain.replace("^", "").replace("$", "").replace("\\Z", "").replace("\\.", ".")

    @property
    def view_class(self) -> Any:
        """Return the class of an API view, else None."""
        return getattr(self.callback, "cls", None)


def routes() -> list[Route]:
    """Return every address of the portal."""
    return list(_routes(get_resolver().url_patterns, "", ""))


def _routes(patterns: list[Any], text: str, namespace: str) -> Iterator[Route]:
    for pattern in patterns:
        whole = f"{text}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from _routes(pattern.url_patterns, whole, inner)
        elif isinstance(pattern, URLPattern):
            places = tuple(one or other for one, other in _PLACE.findall(whole))
            yield Route(f"{namespace}{pattern.name or ''}", places, pattern.callback, whole)


def admin_of(route: Route) -> Any:
    """Return the admin class whose page the address is, by the longest model name; None for other pages."""
    if not route.name.startswith("admin:"):
        return None
    name = route.name.removeprefix("admin:")
    fitting = [
        site
        for model, site in admin.site._registry.items()
        if name.startswith(f"{model._meta.app_label}_{model._meta.model_name}_")
    ]
    return max(fitting, key=lambda site: len(site.model._meta.model_name), default=None)


@dataclass
class Reader:
    """Somebody's browser or program, which looks for the neighbours' texts in every answer it gets."""

    client: Any
    markers: frozenset[str]
    found: list[str] = field(default_factory=list)
    asked: int = 0
    _seen: set[str] = field(default_factory=set)

    def get(self, address: str, query: dict[str, str] | None = None) -> Any:
        """Ask for a page."""
        answer = self.client.get(address, query or {})
        return self._read(answer, "GET", address, query or {})

    def post(self, address: str, values: dict[str, Any] | None = None, **options: Any) -> Any:
        """Send values; whatever they change is undone."""
        with transaction.atomic():
            answer = self.client.post(address, values or {}, **options)
            self._read(answer, "POST", address, values or {})
            transaction.set_rollback(True)
        return answer

    def _read(self, answer: Any, method: str, address: str, given: dict[str, Any]) -> Any:
        self.asked += 1
        # What was typed comes back in the box it was typed into: that is no news.
        typed = " ".join(map(str, given.values()))
        news = self._news(answer)
        self.found += [
            f"{method} {address} {given}: {marker}"
            for marker in self.markers
            if marker in news and marker not in typed
        ]
        return answer

    def _news(self, answer: Any) -> str:
        """Return the lines this reader has not read before: all pages share their frame."""
        lines = set(body(answer).splitlines())
        lines.add(" ".join(unquote(str(value)) for value in answer.headers.values()))
        new = lines - self._seen
        self._seen |= new
        return "\n".join(new)


def body(answer: Any) -> str:
    """Return the text of an answer, of a workbook and of a PDF too."""
    content = answer.getvalue() if answer.streaming else answer.content
    kind = answer.headers.get("Content-Type", "")
    if kind.startswith(XLSX):
        with zipfile.ZipFile(io.BytesIO(content)) as book:
            return "\n".join(
                book.read(name).decode(errors="replace").replace(">", ">\n") for name in book.namelist()
            )
    if kind.startswith("application/pdf"):
        return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)
    return bytes(content).decode(errors="replace")


def unsigned(answer: Any, *typed: str) -> str:
    """Return a page without its tokens and without what was typed, to compare it with another."""
    text = _TOKEN.sub("", body(answer))
    for value in typed:
        text = text.replace(value, "…")
    return text


def missing_key(model: type[models.Model]) -> Any:
    """Return a key of the model that no row has."""
    return "nobody" if isinstance(model._meta.pk, models.CharField) else 999_999_999


def signed_in(user: Any) -> Client:
    """Return a browser of the user."""
    client = Client()
    client.force_login(user)
    return client


def alike(answer: Any, address: str, other: Any, elsewhere: str) -> bool:
    """Say whether two answers differ by their addresses only."""
    same = unsigned(answer, address) == unsigned(other, elsewhere)
    return bool(answer.status_code == other.status_code and same)


def page_model(route: Route) -> Any:
    """Return the model whose row a page is about, the admin's or that of a page made by hand; else None."""
    site = admin_of(route)
    if site is not None:
        return site.model
    made = (model for start, model in PAGES_BY_HAND.items() if route.name.startswith(start))
    return next(made, None) if route.places == ("pk",) else None


def recipe(route: Route) -> str:
    """Say how an address is asked for; "" when nobody knows."""
    if route.view_class is not None and StationAuthentication in getattr(
        route.view_class, "authentication_classes", []
    ):
        return "station"
    model = getattr(getattr(route.view_class, "queryset", None), "model", None)
    if model is not None:
        return {(): "api list", ("pk",): "api row"}.get(route.places, "")
    if admin_of(route) is not None:
        return {(): "list page", ("object_id",): "row page"}.get(route.places, "")
    if page_model(route) is not None:
        return "row page"
    if getattr(route.callback, "view_class", None) is RedirectView and not route.name.rpartition(":")[2]:
        return "redirect"  # Django's older addresses of rows lead to today's without looking for the row
    return "site" if site_address(route) else ""


def _some_issuance() -> int:
    """Return the key of the newest card of any counter: each page of it is somebody else's for most."""
    return int(Issuance.objects.order_by("-pk").values_list("pk", flat=True).first() or 0)


def site_address(route: Route) -> str:
    """Return the address of a page that belongs to no model, with something in its places; "" if unknown."""
    if route.places == ("pk",) and route.name.startswith("counter-"):
        return route.address(_some_issuance())
    known = {
        (): f"/{route.text}",
        ("app_label",): reverse("admin:app_list", args=["orders"]),
        ("content_type_id", "object_id"): "/admin/r/1/1/",
        ("url",): "/admin/nowhere",
        ("key",): reverse("account-end-session", args=["0" * 64]),
    }
    return known.get(route.places, "")
