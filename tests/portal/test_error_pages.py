"""A person without permission, at a wrong address or before our fault reads Chinese and finds a way back."""

from __future__ import annotations

import pytest
from django.template.loader import render_to_string
from django.test import Client

from portal.choices import Role
from portal.models import Organisation
from tests.portal.desk import make_person, page, sign_in, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk() -> Client:
    home = Organisation.objects.create(kind="purchaser", code="P", name="采购人", short_name="采购人")
    return sign_in(make_person(Role.AUDITOR, home))


def test_a_page_of_another_role_says_so(desk: Client) -> None:
    answer = desk.get(page("orders.package", "changelist"))
    assert answer.status_code == 403
    assert "您的角色没有此项权限" in text(answer)
    assert 'href="/admin/"' in text(answer)


def test_an_address_that_is_not_there_says_so_and_repeats_nothing_of_it(desk: Client) -> None:
    """R-45: the address may hold what was searched for."""
    answer = desk.get("/admin/planted-440604199001011234/")
    assert answer.status_code == 404
    assert "没有这个页面" in text(answer)
    assert "planted" not in text(answer)


def test_our_fault_needs_no_context() -> None:
    shown = render_to_string("500.html")
    assert "这一步没有完成" in shown
    assert "{" not in shown.split("<body>")[1]
