"""Every admin page renders for those who may see it and refuses the others; no list asks row by row."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection, models
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from portal.choices import Role
from portal.management.demo.outcome import BALANCES
from portal.roles import PERMISSIONS
from tests.architecture.programme_run import RECORDS, Finished
from tests.architecture.sources import PACKAGES

# The programme runs once, before the module's first test.
pytestmark = [pytest.mark.django_db, pytest.mark.timeout(900)]
ADMINS = {
    model._meta.label_lower: site
    for model, site in sorted(admin.site._registry.items(), key=str)
    if model._meta.app_label in PACKAGES
}
ROLES = [role.value for role in Role if role != Role.CARD_SYSTEM]
MOST_QUERIES = 15
# What the programme makes only when its dice say so, and tokens, which it does not need.
EMPTY_BY_CHANCE = {
    "portal.apitoken",
    "portal.auditanchor",
    "portal.keyimport",
    "portal.rolerequest",
    "portal.signinattempt",
    "portal.usersession",
    "production.unknowndecision",
    "production.carddestruction",
    "production.destructionalarm",  # shown with rows in tests/production/test_masks.py
    "production.destructionrequest",
    "quality.defect",
    "quality.hold",
    "billing.adjustment",
    "stations.feederrun",  # shown with rows in tests/stations/test_admin_feeder.py
}
# Rows of something that has a page, or kept for the programs only.
SHOWN_INSIDE_OTHERS = {
    "orders.AccountRow",
    "orders.IntakeChunk",
    "orders.PackagePhoto",
    "portal.IdempotencyKey",
    "portal.PasswordRecord",
    "portal.PendingRemoval",
    "portal.RecoveryCode",
    "portal.RoleDefinition",
    "portal.SecondFactor",
    "production.BatchItem",
    "stations.IssuanceStep",
    "stations.SelfTest",
}


@pytest.fixture(autouse=True)
def own_folders() -> None:
    """Leave the folders where the programme was run."""


def address(site: Any, page: str, *given: Any) -> str:
    options = site.model._meta
    return reverse(f"admin:{options.app_label}_{options.model_name}_{page}", args=given)


def status_of(client: Client, page: str, **query: str) -> int:
    """Ask for a page and read all of the answer: a download keeps its file open until then."""
    answer = client.get(page, query)
    if answer.streaming:
        answer.getvalue()
    return answer.status_code


def request_of(finished: Finished, role: str) -> Any:
    request = RequestFactory().get("/")
    request.user = finished.users[role]
    return request


def opened(site: Any, request: Any) -> Iterator[models.Model]:
    """Yield one row of each state, or the newest one where there are no states."""
    rows = site.get_queryset(request).order_by("-pk")
    if any(field.name == "status" for field in site.model._meta.fields):
        for status in set(rows.order_by().values_list("status", flat=True).distinct()):
            yield rows.filter(status=status).first()
    else:
        yield from rows[:1]


@pytest.mark.parametrize("role", ROLES)
def test_the_start_page_renders_for_every_role(finished: Finished, role: str) -> None:
    assert status_of(finished.client(role), reverse("admin:index")) == HTTPStatus.OK


@pytest.mark.parametrize("label", ADMINS)
def test_lists_and_rows_render_for_whom_they_are_and_for_nobody_else(finished: Finished, label: str) -> None:
    site = ADMINS[label]
    seen = 0
    for role in ROLES:
        client, request = finished.client(role), request_of(finished, role)
        allowed = site.has_view_or_change_permission(request)
        expected = HTTPStatus.OK if allowed else HTTPStatus.FORBIDDEN
        assert status_of(client, address(site, "changelist")) == expected, role
        seen += allowed
        for row in opened(site, request) if allowed else ():
            assert status_of(client, address(site, "change", row.pk)) == HTTPStatus.OK, (role, row.pk)
    assert seen, "nobody may see this list"


@pytest.mark.parametrize("label", ADMINS)
def test_forms_to_add_render_for_those_who_may_add(finished: Finished, label: str) -> None:
    site = ADMINS[label]
    for role in ROLES:
        expected = (
            HTTPStatus.OK if site.has_add_permission(request_of(finished, role)) else HTTPStatus.FORBIDDEN
        )
        assert status_of(finished.client(role), address(site, "add")) == expected, role


@pytest.mark.parametrize("label", ADMINS)
def test_searches_render_whatever_is_typed(finished: Finished, label: str) -> None:
    site = ADMINS[label]
    role = widest_role(finished, site)
    for typed in ("张", "440600199001011234", "' OR 1=1 --", "%", "\x00", "x" * 5000):
        found = status_of(finished.client(role), address(site, "changelist"), q=typed)
        assert found in {HTTPStatus.OK, HTTPStatus.FOUND}, typed


@pytest.mark.parametrize("label", ADMINS)
def test_every_verb_of_a_row_answers_a_look_at_it(finished: Finished, label: str) -> None:
    """A verb asks or refuses; looking at its page raises nothing, for any role and any state of the row."""
    site = ADMINS[label]
    fine = {HTTPStatus.OK, HTTPStatus.FOUND, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
    for role in ROLES:
        client, request = finished.client(role), request_of(finished, role)
        if not site.has_view_or_change_permission(request):
            continue
        for name, takes_row in verbs(site):
            for row in opened(site, request) if takes_row else [None]:
                given = [row.pk] if row is not None else []
                status = status_of(client, reverse(f"admin:{name}", args=given))
                assert status in fine, (role, name, given)
                if status == HTTPStatus.FORBIDDEN:
                    break  # it is the role that may not, whatever the state


def verbs(site: Any) -> Iterator[tuple[str, bool]]:
    """List the names of the pages that Django's own admin does not have, and whether they are about a row."""
    options = site.model._meta
    usual = {"changelist", "add", "history", "delete", "change", "autocomplete"}
    prefix = f"{options.app_label}_{options.model_name}_"
    for pattern in site.get_urls():
        name = str(getattr(pattern, "name", None) or "")
        if name and name.removeprefix(prefix) not in usual:
            yield name, "object_id" in pattern.pattern.converters


def widest_role(finished: Finished, site: Any) -> str:
    """Return the role that sees most rows of the list."""
    requests = {role: request_of(finished, role) for role in ROLES}
    allowed = [role for role, request in requests.items() if site.has_view_or_change_permission(request)]
    return max(allowed, key=lambda role: site.get_queryset(requests[role]).count())


@pytest.mark.parametrize("label", ADMINS)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(
    finished: Finished, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P6: the number of queries does not grow with the rows of a page."""
    site = ADMINS[label]
    client = finished.client(widest_role(finished, site))
    counted = {}
    for rows in (100, 1, 100):  # the first one fills what the process keeps
        monkeypatch.setattr(site, "list_per_page", rows)
        counted[rows] = queries(client, address(site, "changelist"))
    assert len(counted[100]) == len(counted[1]), "\n".join(sorted(set(counted[100]) - set(counted[1])))
    assert len(counted[100]) <= MOST_QUERIES


def queries(client: Client, page: str) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(page).status_code == HTTPStatus.OK
    return [query["sql"] for query in captured.captured_queries]


def test_the_lists_had_rows_to_show(finished: Finished) -> None:
    """The tests above prove little on empty lists."""
    empty = {label for label, site in ADMINS.items() if not site.model._default_manager.exists()}
    assert empty <= EMPTY_BY_CHANCE


def test_the_programme_balances(finished: Finished) -> None:
    """R-9, R-20, R-21: nothing is lost between the package and the banks' signatures."""
    for left, right, label in BALANCES:
        assert finished.counts[left] == sum(finished.counts.get(name, 0) for name in right), label
    assert finished.counts["in"] == RECORDS
    assert finished.counts["signed"] > 0


def test_every_permission_names_a_model_that_exists() -> None:
    wrong = [
        permission
        for permissions in PERMISSIONS.values()
        for permission in permissions
        for app, _, name in [permission.partition(".")]
        for verb, _, model in [name.partition("_")]
        if verb in {"view", "add", "change"}
        and model not in {m._meta.model_name for m in apps.get_app_config(app).get_models()}
    ]
    assert wrong == []


def test_only_our_own_tables_have_an_admin() -> None:
    """Pages of installed apps follow their own rules: django-rq's lets any user delete jobs."""
    foreign = [model._meta.label for model in admin.site._registry if model._meta.app_label not in PACKAGES]
    assert foreign == []


def test_every_table_has_an_admin_or_is_shown_inside_another() -> None:
    shown = {site.model for site in ADMINS.values()} | {
        inline.model for site in ADMINS.values() for inline in site.inlines
    }
    tables = {model._meta.label for model in apps.get_models() if model._meta.app_label in PACKAGES}
    assert tables - {model._meta.label for model in shown} == SHOWN_INSIDE_OTHERS
