"""Commands of the operators: the first administrators, a lost second factor, the demo's telephone."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from portal.management.demo.telephone import DEMO_SECRET, enrol_everybody
from portal.models import Organisation, SecondFactor, User
from tests.api import actions
from tests.portal.door import CODE, ENROL, OWN_PASSWORD, enter
from tests.refusals import everything
from tests.second_factor import Authenticator, enrolled

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.second_factor,
    pytest.mark.usefixtures("cheap_hashes"),
]
INITIAL, NEW = "First-of-all-26", "Second-of-all-26"


def first(monkeypatch: pytest.MonkeyPatch, password: str = INITIAL, **options: Any) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    said = io.StringIO()
    given = {
        "role": "security_administrator", "last_name": "安", "organisation": "GOV",
        "organisation_name": "人社局",
    }  # fmt: skip
    call_command("create_administrator", "safe", **given | options, stdout=said)
    return said.getvalue()


def test_an_installation_gets_its_first_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Password changed and second factor enrolled before anything else; then the portal is the way."""
    assert "首次登录须修改密码" in first(monkeypatch)
    assert User.objects.get(username="safe").roles == ["security_administrator"]
    assert Organisation.objects.get().kind == "purchaser"
    browser = Client()
    assert enter(browser, "safe", INITIAL)["Location"] == OWN_PASSWORD
    values = {"current": INITIAL, "password": NEW, "again": NEW}
    assert browser.post(OWN_PASSWORD, values)["Location"] == ENROL
    assert actions() == ["organisation.added", "user.added", "password.changed"]
    with pytest.raises(CommandError, match="已有启用的同类管理员"):
        first(monkeypatch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"password": "short"}, "密码太短"),
        ({"organisation_name": None}, "没有代码为 GOV 的单位"),
    ],
)
def test_what_it_refuses_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    User.objects.system()
    rows = everything()
    with pytest.raises(CommandError, match=message):
        first(monkeypatch, **options)
    assert everything() == rows
    assert actions() == []


def test_a_lost_second_factor_of_the_last_security_administrator(security: User) -> None:
    enrolled(security)
    call_command("reset_second_factor", "security", stdout=io.StringIO())
    assert not SecondFactor.objects.exists()
    assert actions() == ["second_factor.reset"]
    for name, message in (("security", "没有绑定两步验证"), ("nobody", "没有用户 nobody")):
        with pytest.raises(CommandError, match=message):
            call_command("reset_second_factor", name)


def test_the_demos_people_share_a_telephone(approver: User, planner: User, settings: Any) -> None:
    enrol_everybody([approver, planner])
    enrol_everybody([approver, planner])
    assert [factor.user for factor in SecondFactor.objects.all()] == [approver]
    browser, shown = Client(), io.StringIO()
    enter(browser, "approver")
    call_command("demo_code", stdout=shown, stderr=io.StringIO())
    assert shown.getvalue().strip() == Authenticator(DEMO_SECRET).code()
    assert browser.post(CODE, {"code": shown.getvalue().strip()})["Location"] == "/admin/"
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="生产环境"):
        call_command("demo_code")
