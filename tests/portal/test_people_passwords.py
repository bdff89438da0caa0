"""Passwords: initial ones, history, age, changed by their owner (issue 3, People)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from portal.choices import Role
from portal.models import AuditEntry, Organisation, PasswordRecord, User
from portal.services.passwords import PasswordRefusedError, change_own_password
from portal.services.people import add_user, reset_password
from tests.api import actions
from tests.portal.desk import make_person, said, text
from tests.portal.door import ADDRESS, LOGIN, OWN_PASSWORD, PASSWORD, enter
from tests.refusals import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_hashes")]
NEW = "Another-good-one-7"


def change(client: Client, current: str = PASSWORD, password: str = NEW, again: str | None = None) -> Any:
    again = password if again is None else again
    return client.post(OWN_PASSWORD, {"current": current, "password": password, "again": again})


def own(user: User, password: str, current: str = PASSWORD) -> User:
    return change_own_password(user, current=current, password=password, address=ADDRESS, session="")


def test_an_initial_password_must_be_changed_before_anything_else(supplier: Organisation) -> None:
    add_user(
        username="new",
        last_name="新",
        organisation=supplier,
        roles=[Role.SUPPLIER_PLANNER],
        password=PASSWORD,
        actor=User.objects.system(),
    )
    client = Client()
    assert enter(client, "new")["Location"] == OWN_PASSWORD
    assert client.get("/admin/").status_code == 302
    assert client.get("/api/v1/orders").status_code == 401
    assert "密码是初始密码或已到期" in text(client.get(OWN_PASSWORD))
    assert change(client, password=PASSWORD).status_code == 422, "not the same again"
    assert change(client)["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200
    assert actions() == ["user.added", "password.changed", "sign_in.succeeded"]
    assert enter(Client(), "new", NEW)["Location"] == "/admin/"


def test_a_reset_password_is_an_initial_one(planner: User, gov: Organisation) -> None:
    theirs = Client()
    enter(theirs, "planner")
    reset_password(planner, password=NEW, actor=make_person(Role.SYSTEM_ADMINISTRATOR, gov))
    assert theirs.get("/admin/").status_code == 302
    assert enter(theirs, "planner", NEW)["Location"] == OWN_PASSWORD


def test_an_old_password_must_be_changed_at_the_next_sign_in(planner: User, settings: Any) -> None:
    settings.PASSWORD_MAX_DAYS = 90
    client = Client()
    User.objects.update(password_changed_at=timezone.now() - timedelta(days=89, hours=23))
    assert enter(client, "planner")["Location"] == "/admin/"
    User.objects.update(password_changed_at=timezone.now() - timedelta(days=90, hours=1))
    assert client.get("/admin/").status_code == 302
    User.objects.update(password_changed_at=timezone.now() - timedelta(days=90) + timedelta(seconds=1))
    assert client.get("/admin/").status_code == 200, "what grows too old during a session waits for the next"
    User.objects.update(password_changed_at=timezone.now() - timedelta(days=91))
    assert enter(Client(), "planner")["Location"] == OWN_PASSWORD
    settings.PASSWORD_MAX_DAYS = 0
    assert enter(Client(), "planner")["Location"] == "/admin/"


def test_the_last_passwords_may_not_come_back(planner: User, settings: Any) -> None:
    settings.PASSWORD_HISTORY = 3
    words = [f"Good-password-{n}-x" for n in range(4)]
    current = PASSWORD
    for word in words:
        planner = own(planner, word, current)
        current = word
    for used in words[1:]:
        with refused(PasswordRefusedError) as caught:
            own(planner, used, current)
        assert caught.value.message == "不能使用最近 3 次用过的密码"
    assert PasswordRecord.objects.filter(user=planner).count() == 3
    own(planner, words[0], current)


def test_a_changed_password_ends_the_other_sessions_and_keeps_this_one(planner: User) -> None:
    here, there = Client(), Client()
    enter(here, "planner")
    enter(there, "planner")
    before = here.session.session_key
    answer = change(here)
    assert (answer["Location"], said(answer)) == ("/admin/account/", "密码已修改，其他登录已失效")
    assert here.get("/admin/").status_code == 200
    assert here.session.session_key != before
    assert there.get("/admin/").status_code == 302
    assert actions()[-2:] == ["session.ended", "password.changed"]
    kept = str(list(AuditEntry.objects.values()))
    assert NEW not in kept
    assert PASSWORD not in kept


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"password": "short"}, "密码太短"),
        ({"password": "12345678901"}, "密码只包含数字"),
        ({"password": "planner-202"}, "密码跟 用户名 太相似了"),
        ({"password": "password123"}, "这个密码太常见了"),
        ({"again": "something else"}, "两次输入的密码不一致"),
        ({"current": "wrong"}, "当前密码不正确"),
        ({"password": PASSWORD}, "不能使用最近 5 次用过的密码"),
    ],
)
def test_what_the_rules_refuse_changes_nothing(planner: User, given: dict[str, str], message: str) -> None:
    client = Client()
    enter(client, "planner")
    encoded = User.objects.get(pk=planner.pk).password
    answer = change(client, **given)
    assert (answer.status_code in {200, 422}, message in text(answer)) == (True, True)
    assert User.objects.get(pk=planner.pk).password == encoded
    assert "password.changed" not in actions()


def test_an_open_page_is_no_place_to_guess_the_password(planner: User) -> None:
    """Who finds a computer unlocked gets five tries, like anybody at the door."""
    client = Client()
    enter(client, "planner")
    assert [change(client, "wrong").status_code for _ in range(6)] == [422] * 5 + [429]
    assert change(client).status_code == 429
    assert actions() == ["sign_in.succeeded"] + ["password.refused"] * 5 + ["sign_in.locked"]
    assert client.get(LOGIN).status_code == 302
