"""One organisation's walk through its own pages, looking for neighbours: lists, searches, forms, files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from django import forms
from django.urls import reverse

from orders.models import CardholderRecord
from portal.scoping import ScopedModel
from production.models import Card
from tests.hostile.visibility_walk import (
    Reader,
    Route,
    admin_of,
    page_model,
    recipe,
    routes,
    signed_in,
    unsigned,
)
from tests.hostile.visibility_world import Onlooker, divided, markers, personal

MOST_ROWS = 2
MOST_VALUES = 3
OK, FOUND = 200, 302
# Choices that are everybody's by rule: each bank chooses among the suppliers in force.
FREE_CHOICES = {("admin:orders_supplierchoice_choose", "contract")}


def row_pages() -> Iterator[tuple[Route, Any]]:
    """Yield every page of a row with its model."""
    yield from ((route, page_model(route)) for route in routes() if recipe(route) == "row page")


def hidden_pages(user: Any) -> Iterator[tuple[Route, Any, Any]]:
    """Yield each page of a row with its model and a neighbour's row."""
    rows = {model: hidden_row(model, user) for _, model in row_pages()}
    for route, model in row_pages():
        if rows[model] is not None and not is_everybodys(model, user):
            yield route, model, rows[model]


def hidden_row(model: Any, user: Any) -> Any:
    """Return a row of the neighbours'; None where every row is everybody's."""
    if issubclass(model, ScopedModel):
        return divided(model, user)[1].order_by("-pk").first()
    return model._default_manager.exclude(**_of_home(model, user)).order_by("-pk").first()


def is_everybodys(model: Any, user: Any) -> bool:
    """Say whether rows belong to no organisation, such as the calendar, and the user may see them."""
    options = model._meta
    allowed = user.has_perm(f"{options.app_label}.view_{options.model_name}")
    return allowed and not issubclass(model, ScopedModel) and not _of_home(model, user)


def _of_home(model: Any, user: Any) -> dict[str, Any]:
    """Return what tells the rows of the user's organisation: the person they belong to."""
    for field in model._meta.fields:
        if field.name == "organisation":
            return {"organisation": user.organisation}
        if field.name in {"user", "requested_by"}:
            return {f"{field.name}__organisation": user.organisation}
    return {}


class Walk:
    """One organisation's walk through its own pages, looking for its neighbours."""

    def __init__(self, looker: Onlooker) -> None:
        self.user = looker.everyone
        self.reader = Reader(signed_in(self.user), markers(self.user))
        self.wrong: list[Any] = []
        self.visited: set[str] = set()
        self.values = list(self._secrets())

    def _secrets(self) -> Iterator[str]:
        """Yield what people type into searches: a neighbour's number, name, card number, serial."""
        hidden = divided(CardholderRecord, self.user)[1].select_related("package").order_by("-pk")
        yield from next(filter(None, (list(personal(record)) for record in hidden)))
        yield divided(Card, self.user)[1].latest("pk").serial

    def pages(self, site: Any, *, about_row: bool) -> Iterator[Route]:
        wanted = "row page" if about_row else "list page"
        for route in routes():
            if recipe(route) == wanted and admin_of(route) is site:
                yield route

    def whole(self, site: Any) -> None:
        """Read everything of one model."""
        for route in self.pages(site, about_row=False):
            self.page(route, route.address())
        options = site.model._meta
        address = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
        first = self.reader.get(address)
        if first.status_code != OK:
            return
        self.lists(site, address, first)
        for row in self.own_rows(site, first.wsgi_request):
            for route in self.pages(site, about_row=True):
                self.page(route, route.address(row.pk))

    def own_rows(self, site: Any, request: Any) -> list[Any]:
        """Return the newest row, and the newest of another state where there are states."""
        rows = site.get_queryset(request).order_by("-pk")
        first = rows.first()
        if first is None or not hasattr(first, "status"):
            return [first] if first else []
        return [first, *rows.exclude(status=first.status)[: MOST_ROWS - 1]]

    def page(self, route: Route, address: str) -> None:
        """Look at a page; where it has a form, choose a neighbour's row in it and search for theirs."""
        answer = self.reader.get(address)
        self.visited.add(route.name)
        form = (getattr(answer, "context", None) or {}).get("form") if answer.status_code == OK else None
        adminform = (getattr(answer, "context", None) or {}).get("adminform")
        form = getattr(adminform, "form", None) if adminform is not None else form
        if isinstance(form, forms.BaseForm):
            self.choose(route, address, form)
            self.search(route, address, form)

    def choose(self, route: Route, address: str, form: forms.BaseForm) -> None:
        for name, field in form.fields.items():
            if not isinstance(field, forms.ModelChoiceField) or (route.name, name) in FREE_CHOICES:
                continue
            model: Any = field.queryset.model
            row = hidden_row(model, self.user)
            if row is None or not (issubclass(model, ScopedModel) or _of_home(model, self.user)):
                continue
            if field.queryset.filter(pk=row.pk).exists():
                self.wrong.append((route.name, name, "offers a neighbour's row"))
            values = {**filled(form), name: row.pk}
            answer = self.reader.post(address, values)
            if answer.status_code == FOUND:
                self.wrong.append((route.name, name, "takes a neighbour's row"))

    def search(self, route: Route, address: str, form: forms.BaseForm) -> None:
        """A search for a neighbour answers as one for nobody does."""
        boxes = [name for name, field in form.fields.items() if type(field) is forms.CharField]
        if len(boxes) != len(form.fields) or route.places or not boxes:
            return
        for name in boxes:
            for value in self.values:
                nobody = value[:-1] + ("8" if value[-1] != "8" else "7")
                found, nothing = (self.reader.post(address, {name: text}) for text in (value, nobody))
                if unsigned(found, value) != unsigned(nothing, nobody):
                    self.wrong.append((route.name, name, "finds a neighbour"))

    def lists(self, site: Any, address: str, first: Any) -> None:
        """Filter and search a list by everything it offers and by what only the neighbours have."""
        most = self._most(site)
        self._counted(first, most, address)
        for query in self._queries(site, first.context["cl"]):
            answer = self.reader.get(address, query)
            if answer.status_code == OK:
                self._counted(answer, most, f"{address} {query}")
        for value in self._theirs(site):
            names = [*(["q"] if site.search_fields else []), *_text_filters(site)]
            for name in names:
                answer = self.reader.get(address, {name: value})
                if answer.status_code == OK and answer.context["cl"].result_count:
                    self.wrong.append((address, name, value, "found"))

    def _most(self, site: Any) -> int:
        model = site.model
        rows = model.objects.visible_to(self.user) if issubclass(model, ScopedModel) else model.objects.all()
        return int(rows.count())

    def _counted(self, answer: Any, most: int, where: str) -> None:
        page = answer.context["cl"]
        if page.result_count > most or (page.full_result_count or 0) > most:
            self.wrong.append((where, "counts more than there is to see"))

    def _theirs(self, site: Any) -> list[str]:
        """Return names of a neighbour's row and of what it belongs to that only the neighbours know."""
        row = hidden_row(site.model, self.user)
        named = [row, *(getattr(row, f.name) for f in row._meta.fields if f.is_relation)] if row else []
        texts = [str(part) for part in named if part is not None and str(part) in self.reader.markers]
        return texts[:MOST_VALUES]

    def _queries(self, site: Any, page: Any) -> Iterator[dict[str, str]]:
        yield {"p": "2"}
        for spec in page.filter_specs:
            for value in _offered(spec)[:MOST_VALUES]:
                yield {spec.expected_parameters()[0]: str(value)}
        alien = hidden_row(type(self.user.organisation), self.user)
        for item in site.list_filter:
            if isinstance(item, type) and hasattr(item, "parameter_name"):
                yield {item.parameter_name: alien.code}


def _offered(spec: Any) -> list[Any]:
    choices = getattr(spec, "lookup_choices", None)
    if choices is None:
        choices = getattr(getattr(spec, "field", None), "flatchoices", [])
    return [value for value, _label in choices]


def _text_filters(site: Any) -> list[str]:
    return [
        item.parameter_name
        for item in site.list_filter
        if isinstance(item, type) and not hasattr(item, "lookups") and hasattr(item, "parameter_name")
    ]


def filled(form: forms.BaseForm) -> dict[str, Any]:
    """Return something plausible for every field but those that choose a row."""
    values: dict[str, Any] = {}
    for name, field in form.fields.items():
        if isinstance(field, (forms.FileField, forms.ModelChoiceField)):
            continue
        if isinstance(field, forms.ChoiceField):
            values[name] = next((value for value, _ in field.choices if value), "")
        elif isinstance(field, forms.DateTimeField):
            values[name] = f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%dT%H:%M}"
        elif isinstance(field, forms.DateField):
            values[name] = f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}"
        else:
            values[name] = "1"
    return values
