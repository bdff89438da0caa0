"""API tokens: for some areas only, never for more than their owner may (issue 3, People)."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from portal.apikit.views import ScopedViewSet
from portal.choices import Role
from portal.core.errors import PermissionRefusedError
from portal.models import ApiToken, Organisation, User
from portal.roles import PERMISSIONS, ScopeRefusedError, require
from portal.services.tokens import ScopesRefusedError, issue_token
from portal.token_scopes import SCOPES, permissions_of, scopes_open_to
from tests.api import ROOT, actions, code_of
from tests.portal.desk import make_person, page, said, sign_in
from tests.refusals import refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def clerk(gov: Organisation) -> User:
    return make_person(Role.PURCHASER_CLERK, gov)


def caller(user: User, *scopes: str) -> APIClient:
    _, text = issue_token(user, name="t", days=1, scopes=scopes, actor=User.objects.system())
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def lists() -> dict[str, str]:
    """Return the address of each list of the API with the permission it needs."""

    def walk(patterns: Any, prefix: str) -> Any:
        for entry in patterns:
            if isinstance(entry, URLResolver):
                yield from walk(entry.url_patterns, prefix + str(entry.pattern))
            elif isinstance(entry, URLPattern) and (entry.name or "").endswith("-list"):
                view = getattr(entry.callback, "cls", None)
                if inspect.isclass(view) and issubclass(view, ScopedViewSet):
                    path = (prefix + str(entry.pattern)).replace("^", "").replace("$", "").replace("\\Z", "")
                    yield f"/{path}", view.permission

    return dict(walk(get_resolver().url_patterns, ""))


LISTS = lists()


def test_every_list_of_the_api_is_in_a_scope() -> None:
    """Enforced for every view: one that no scope opens could not be used by a program at all."""
    assert len(LISTS) >= 8
    assert set(LISTS.values()) <= permissions_of(SCOPES)


def test_every_scope_names_permissions_that_exist() -> None:
    granted = frozenset().union(*PERMISSIONS.values())
    assert permissions_of(SCOPES) <= granted


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_a_token_opens_its_scope_and_nothing_else(clerk: User, scope: str) -> None:
    if scope not in scopes_open_to(clerk):
        system = User.objects.system()
        with refused(ScopesRefusedError):
            issue_token(clerk, name="t", days=1, scopes=[scope], actor=system)
        return
    client = caller(clerk, scope)
    for address, permission in LISTS.items():
        answer = client.get(address)
        allowed = permission in SCOPES[scope].permissions
        if answer.status_code == 405:
            continue
        assert answer.status_code == (200 if allowed else 403), address
        if not allowed:
            expected = (
                "scope_refused" if permission in PERMISSIONS[Role.PURCHASER_CLERK] else "permission_refused"
            )
            assert code_of(answer, 403) == expected


def test_reading_does_not_write(clerk: User) -> None:
    client = caller(clerk, "packages.read")
    assert client.get(f"{ROOT}/packages").status_code == 200
    assert code_of(client.post(f"{ROOT}/packages", {}, format="multipart"), 403) == "scope_refused"


def test_a_token_shrinks_with_its_owner(clerk: User) -> None:
    client = caller(clerk, "packages.read", "orders.read")
    User.objects.filter(pk=clerk.pk).update(roles=[Role.PURCHASER_APPROVER])
    assert client.get(f"{ROOT}/orders").status_code == 200
    User.objects.filter(pk=clerk.pk).update(roles=[Role.COUNTER_OPERATOR])
    assert code_of(client.get(f"{ROOT}/orders"), 403) == "permission_refused"


def test_a_token_ends_with_its_organisation(clerk: User) -> None:
    client = caller(clerk, "orders.read")
    Organisation.objects.update(is_active=False)
    assert code_of(client.get(f"{ROOT}/orders"), 401) == "authentication_failed"


def test_services_are_cut_as_well(clerk: User) -> None:
    """A view that forgot its check would still be refused by the service."""
    clerk.token_permissions = permissions_of(["orders.read"])
    require(clerk, "orders.view_order")
    assert clerk.get_all_permissions() == {"orders.view_order"}
    with pytest.raises(ScopeRefusedError):
        require(clerk, "orders.unmask_record")
    with pytest.raises(PermissionRefusedError) as caught:
        require(clerk, "orders.upload_accounts")
    assert not isinstance(caught.value, ScopeRefusedError)


def test_a_scope_that_is_gone_opens_nothing(clerk: User) -> None:
    client = caller(clerk, "orders.read")
    ApiToken.objects.update(scopes=["abolished"])
    assert code_of(client.get(f"{ROOT}/orders"), 403) == "scope_refused"
    ApiToken.objects.update(scopes=[])
    assert code_of(client.get(f"{ROOT}/orders"), 403) == "scope_refused"


@pytest.mark.parametrize("scopes", [[], ["emperor"], ["orders.read", "emperor"], ["accounts.write"]])
def test_what_cannot_be_issued(clerk: User, scopes: list[str]) -> None:
    system = User.objects.system()
    with refused(ScopesRefusedError):
        issue_token(clerk, name="t", days=1, scopes=scopes, actor=system)


def test_the_page_issues_for_scopes(clerk: User, security: User) -> None:
    desk = sign_in(security)
    values = {"user": clerk.pk, "name": "对账", "days": 30, "scopes": ["statements.read", "orders.read"]}
    assert desk.post(page("portal.apitoken", "issue"), values).status_code == 200
    token = ApiToken.objects.get()
    assert token.scopes == ["orders.read", "statements.read"]
    assert (
        "查看订单、查看结算单与调整" in desk.get(page("portal.apitoken", "change", token.pk)).content.decode()
    )
    refusal = desk.post(page("portal.apitoken", "issue"), values | {"scopes": ["deliveries.write"]})
    assert "权限范围超出该用户的角色" in said(refusal)
    assert actions() == ["apitoken.issued"]
