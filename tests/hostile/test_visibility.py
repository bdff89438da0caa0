"""R-8, R-45, D12: what one bank, supplier or card system has, no other one finds, at any address.

The addresses come from the resolver, the neighbours' texts from the tables, so a new page, verb, filter, file
or API route is walked on the day it is added; an address that nobody knows how to ask for fails a test.
Each role asks for the neighbours' rows; pages of their own are read by somebody who holds all roles of the
organisation, since scoping depends on the organisation and never on the role.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import DatabaseError, transaction
from django.test import override_settings
from django.urls import reverse
from rest_framework.throttling import SimpleRateThrottle

from orders.models import Order
from portal.choices import ADMINISTRATORS, OrganisationKind
from portal.models import Organisation
from portal.roles import PERMISSIONS
from portal.scoping import ScopedModel
from portal.services.people import ROLE_HOMES
from production.models import Batch, Card
from stations.models import Station
from tests.api import client_of
from tests.architecture.programme_run import folders
from tests.architecture.sources import PACKAGES
from tests.hostile.visibility_api import (
    agent_of,
    api_routes,
    methods,
    model_of,
    read_list,
    rows_of_other_stations,
    sample_body,
)
from tests.hostile.visibility_pages import MOST_ROWS, Walk, hidden_pages, hidden_row
from tests.hostile.visibility_walk import (
    Reader,
    alike,
    missing_key,
    recipe,
    routes,
    signed_in,
    site_address,
    unsigned,
)
from tests.hostile.visibility_world import Onlooker, build, divided, markers, onlooker, scoped_models

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(600)]
KINDS = [OrganisationKind.BANK, OrganisationKind.SUPPLIER]
OK, FORBIDDEN, MISSING, NOT_ALLOWED = 200, 403, 404, 405
REFUSALS = {FORBIDDEN, MISSING}
# Models that lead to an organisation and are seen through another row, or by administrators only.
WITHOUT_SCOPE: Mapping[str, str] = {
    "portal.RoleRequest": "decided by the purchaser's two administrators, shown to nobody else",
    "stations.IssuanceStep": "the steps of an issuance, read on its page and by its station only",
}


@pytest.fixture(scope="module")
def neighbours(module_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the programme once for all tests of the module."""
    folder = tmp_path_factory.mktemp("neighbours")
    with override_settings(**folders(folder)):
        build(folder)
        logging.disable(logging.ERROR)  # each 403 would write its traceback, thousands of them
        yield
        logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def own_folders(neighbours: None) -> None:
    """Leave the folders where the programme was run."""


def _role_cases(*kinds: str) -> list[tuple[str, str]]:
    """Return every role of these organisations; roles that may do the very same are walked once."""
    found: dict[tuple[str, frozenset[str]], tuple[str, str]] = {}
    for kind in kinds:
        for role, homes in ROLE_HOMES.items():
            if kind in homes and role not in ADMINISTRATORS:
                found.setdefault((kind, PERMISSIONS[role]), (kind, role))
    return list(found.values())


PEOPLE = _role_cases(OrganisationKind.BANK, OrganisationKind.SUPPLIER)
CALLERS = [*PEOPLE, *_role_cases(OrganisationKind.PROVINCE)]


def test_every_address_has_a_recipe() -> None:
    """A new kind of address must say how its neighbours' rows are asked for."""
    assert [route for route in routes() if not recipe(route)] == []


@pytest.mark.parametrize(("kind", "role"), PEOPLE)
def test_no_role_opens_a_neighbours_row(kind: str, role: str) -> None:
    """D12: page, history, verbs, progress, downloads."""
    user = onlooker(kind).roles[role]
    reader = Reader(signed_in(user), markers(user))
    wrong, asked = [], set()
    for route, model, row in hidden_pages(user):
        asked.add(model)
        address = route.address(row.pk)
        answer = reader.get(address)
        if answer.status_code == NOT_ALLOWED:
            answer = reader.post(address)
        if answer.status_code not in REFUSALS:
            wrong.append((route.text, answer.status_code))
    assert (wrong, reader.found) == ([], [])
    assert len(asked) > 15


@pytest.mark.parametrize("kind", KINDS)
def test_a_neighbours_row_is_as_if_it_were_not_there(kind: str) -> None:
    """D12: whoever may do all at home is answered as for a row that is not there, and sends in vain."""
    user = onlooker(kind).everyone
    reader = Reader(signed_in(user), markers(user))
    wrong, missing = [], 0
    for route, model, row in hidden_pages(user):
        here, nowhere = (route.address(pk) for pk in (row.pk, missing_key(model)))
        asked = {reader.get: reader.get(here), reader.post: reader.post(here)}
        # A page that only looks or only takes says so, whatever the row.
        answers = {ask: answer for ask, answer in asked.items() if answer.status_code != NOT_ALLOWED}
        if not answers or any(answer.status_code not in REFUSALS for answer in answers.values()):
            wrong.append((route.text, [answer.status_code for answer in asked.values()]))
            continue
        ask, answer = next(iter(answers.items()))
        if not alike(answer, here, ask(nowhere), nowhere):
            wrong.append((route.text, "tells a row from none"))
        missing += answer.status_code == MISSING
    assert (wrong, reader.found) == ([], [])
    assert missing > 20


@pytest.mark.parametrize("kind", KINDS)
def test_own_pages_lists_searches_and_files_name_no_neighbour(kind: str) -> None:
    """R-45, D12: not in columns, drop-downs, choices of forms, counts, file names, workbooks or PDFs."""
    walk = Walk(onlooker(kind))
    for site in admin.site._registry.values():
        walk.whole(site)
    for route in routes():
        # Signing out would end the walk.
        if recipe(route) == "site" and not route.text.endswith(("logout/", "login/")):
            walk.reader.get(site_address(route))
            walk.visited.add(route.name)
    assert (walk.wrong, walk.reader.found) == ([], [])
    assert {"admin:index", "admin:production_delivery_download"} <= walk.visited


@pytest.mark.parametrize("kind", KINDS)
def test_autocomplete_and_the_search_field_offer_no_neighbour(kind: str) -> None:
    """D12: whatever is typed where Django completes foreign keys, and into the sidebar's search."""
    user = onlooker(kind).everyone
    reader = Reader(signed_in(user), markers(user))
    words = [str(hidden_row(model, user)) for model in (Organisation, Order, Batch)]
    choices = [
        {"app_label": model._meta.app_label, "model_name": model._meta.model_name, "field_name": field.name}
        for model in admin.site._registry
        for field in model._meta.fields
        if field.is_relation and getattr(admin.site._registry.get(field.related_model), "search_fields", ())
    ]
    assert choices
    for word in ("", *words):
        for choice in choices:
            answer = reader.get(reverse("admin:autocomplete"), {**choice, "term": word})
            assert answer.status_code in {OK, FORBIDDEN}
            if answer.status_code == OK and word:
                assert answer.json()["results"] == [], (choice, word)
        reader.get("/admin/search/", {"s": word})
    assert reader.found == []


def test_the_walk_finds_what_is_there() -> None:
    """The walk itself: a neighbour's own clerk meets what the onlooker must not."""
    looker = onlooker(OrganisationKind.BANK)
    reader = Reader(signed_in(_neighbour(looker)), markers(looker.everyone))
    for name in ("orders_order", "orders_cardholderrecord", "production_delivery", "orders_accountfile"):
        assert reader.get(reverse(f"admin:{name}_changelist")).status_code == OK
        seen, reader.found = reader.found, []
        assert len(seen) > 1, name


def _neighbour(looker: Onlooker) -> Any:
    taken = divided(Card, looker.everyone)[1].filter(carton__isnull=False).latest("pk")
    return taken.bank.users.get(username=f"bank_clerk.{taken.bank.code.lower()}")


# --- the API -----------------------------------------------------------------------------------------------


@pytest.fixture
def unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one token ask for everything at once."""
    monkeypatch.setattr(SimpleRateThrottle, "allow_request", lambda self, request, view: True)


@pytest.mark.usefixtures("unthrottled")
@pytest.mark.parametrize(("kind", "role"), CALLERS)
def test_a_neighbours_row_does_not_exist_for_a_token(kind: str, role: str) -> None:
    """D12: single rows, actions and files of the API."""
    user = onlooker(kind).roles[role]
    reader = Reader(client_of(user), markers(user))
    wrong = []
    for route in api_routes("api row"):
        row = hidden_row(model_of(route), user)
        if row is None:
            continue
        here, nowhere = (route.address(pk) for pk in (row.pk, missing_key(model_of(route))))
        for method in methods(route):
            ask = reader.get if method == "get" else reader.post
            answer, other = ask(here), ask(nowhere)
            if answer.status_code not in REFUSALS or not alike(answer, here, other, nowhere):
                wrong.append((route.name, method, answer.status_code, other.status_code))
    assert (wrong, reader.found) == ([], [])
    assert reader.asked > 40


@pytest.mark.usefixtures("unthrottled")
@pytest.mark.parametrize("kind", [*KINDS, OrganisationKind.PROVINCE])
def test_own_lists_of_the_api_name_no_neighbour(kind: str) -> None:
    """D12: lists with every filter the schema names, pages by cursor, forged cursors, own rows and files."""
    user = onlooker(kind).everyone
    reader = Reader(client_of(user), markers(user))
    lists = {model_of(route): route for route in api_routes("api list")}
    for model, route in lists.items():
        visible, hidden = divided(model, user)
        alien = hidden.order_by("-pk").values_list("pk", flat=True).first() or 0
        given = {row["id"] for row in read_list(reader, route, alien)}
        assert given <= set(visible.values_list("pk", flat=True)), route.name
    for route in api_routes("api row"):
        for row in model_of(route).objects.visible_to(user).order_by("-pk")[:MOST_ROWS]:
            if "get" in methods(route):
                reader.get(route.address(row.pk))
    assert reader.found == []
    assert reader.asked > 20


@pytest.mark.usefixtures("unthrottled")
def test_a_station_calls_for_itself_only() -> None:
    """R-38, D12: whatever another station works on does not exist for its agent."""
    station = Station.objects.order_by("pk").first()
    assert station is not None
    reader = Reader(agent_of(station), frozenset())
    asked = [route for route in api_routes("station") if route.places]
    assert asked
    for route in asked:
        for pk in rows_of_other_stations(route, station):
            address = route.address(pk, *([1] * (len(route.places) - 1)))
            sent = reader.post(address, sample_body(route), format="json").status_code
            assert {sent, reader.get(address).status_code} in ({MISSING}, {MISSING, NOT_ALLOWED}), address


# --- models and what they say ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, OrganisationKind.PROVINCE])
def test_there_is_something_to_see_and_to_hide_of_every_model(kind: str) -> None:
    """The walk proves nothing about a model without rows on both sides."""
    looker = onlooker(kind)
    partly = [model for model in scoped_models() if model.VISIBLE_THROUGH.get(kind)]
    empty = [
        model._meta.label
        for model in partly
        if not all(rows.exists() for rows in divided(model, looker.everyone))
    ]
    assert (empty, bool(partly)) == ([], True)


def test_a_model_that_leads_to_an_organisation_says_who_sees_it() -> None:
    """D12: VISIBLE_THROUGH on every model with a required way to an organisation; the others are listed."""
    silent = {
        model._meta.label
        for model in apps.get_models()
        if model._meta.app_label in PACKAGES and not issubclass(model, ScopedModel) and leads_home(model)
    }
    assert silent == set(WITHOUT_SCOPE)


def leads_home(model: Any, *, seen: frozenset[Any] = frozenset()) -> bool:
    """Say whether required foreign keys lead from the model to an organisation."""
    parents = [field.related_model for field in model._meta.fields if field.is_relation and not field.null]
    return Organisation in parents or any(
        leads_home(parent, seen=seen | {model}) for parent in parents if parent not in seen
    )


def test_nothing_a_user_sees_moves_when_the_neighbours_do() -> None:
    """D12: counts on the start page, lists and totals are the same whatever the others' rows become."""
    for kind in KINDS:
        looker = onlooker(kind)
        browser = signed_in(looker.everyone)
        pages = [
            reverse("admin:index"),
            *(_changelist(model) for model in scoped_models() if _has_list(model)),
        ]
        before = [unsigned(browser.get(page)) for page in pages]
        moved = sum(_move_all(divided(model, looker.everyone)[1]) for model in scoped_models())
        assert moved > 20
        assert [
            page for page, text in zip(pages, before, strict=True) if unsigned(browser.get(page)) != text
        ] == []


def _has_list(model: Any) -> bool:
    return admin.site.is_registered(model)


def _changelist(model: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def _move_all(rows: Any) -> int:
    """Bring rows into another state where the database allows it; return how many."""
    status = next((field for field in rows.model._meta.fields if field.name in {"status", "outcome"}), None)
    for value, _label in status.choices if status else ():
        try:
            with transaction.atomic():
                if moved := rows.exclude(**{status.name: value}).update(**{status.name: value}):
                    return int(moved)
        except DatabaseError:
            continue  # the model's constraints forbid this state
    return 0
