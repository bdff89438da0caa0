"""Signing in by name and password, and the lock after too many failures (issue 3, People; R-45, R-46)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth import hashers
from django.test import Client
from django.utils import timezone

from portal.choices import Role
from portal.models import AuditEntry, Organisation, SignInAttempt, User
from portal.services import attempts, sign_in
from portal.services.attempts import SignInLockedError, counted_address
from tests.api import actions
from tests.portal.desk import make_person, page, said, text
from tests.portal.door import ADDRESS, LOGIN, PASSWORD, enter
from tests.second_factor import verified_client

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.second_factor,
    pytest.mark.usefixtures("cheap_hashes"),
]


class TestPassword:
    def test_a_right_password_opens_the_portal_to_a_plain_role(self, client: Client, planner: User) -> None:
        answer = enter(client, "planner")
        assert (answer.status_code, answer["Location"]) == (302, "/admin/")
        assert client.get("/admin/").status_code == 200
        assert actions() == ["sign_in.succeeded"]
        entry = AuditEntry.objects.get()
        assert (entry.actor_id, entry.address, entry.result) == (planner.pk, ADDRESS, "done")

    @pytest.mark.parametrize("case", ["wrong", "unknown", "inactive", "program", "system", "organisation"])
    def test_every_failure_gets_the_same_answer(self, client: Client, planner: User, case: str) -> None:
        """Nobody learns from the answer whether a user exists."""
        name, password = "planner", PASSWORD
        if case == "wrong":
            password = "wrong"
        if case == "unknown":
            name = "nobody"
        if case == "inactive":
            User.objects.update(is_active=False)
        if case == "program":
            User.objects.update(is_staff=False)
        if case == "system":
            name = User.objects.system().username
        if case == "organisation":
            Organisation.objects.update(is_active=False)
        answer = enter(client, name, password)
        assert answer.status_code == 422
        assert re.findall(r'role="alert">([^<]+)<', text(answer)) == ["用户名或密码不正确，或该账户已停用"]
        assert client.get("/admin/").status_code == 302
        assert actions() == ["sign_in.failed"]
        entry = AuditEntry.objects.get()
        assert (entry.actor_id, entry.result, password in str(entry.__dict__)) == (None, "refused", False)

    @pytest.mark.parametrize("name", ["planner", "nobody", "system"])
    def test_every_failure_costs_one_hash(self, planner: User, name: str) -> None:
        """The same work whether the name exists or not: an unknown name is hashed as well."""
        User.objects.system()
        hasher = type(hashers.get_hasher())
        with (
            mock.patch.object(hasher, "encode", autospec=True, side_effect=hasher.encode) as encode,
            mock.patch.object(hasher, "verify", autospec=True, side_effect=hasher.verify) as verify,
            pytest.raises(sign_in.SignInRefusedError),
        ):
            sign_in.check_password(name, "wrong", address=ADDRESS)
        assert encode.call_count + verify.call_count == 1

    def test_passwords_are_argon2(self, planner: User) -> None:
        assert planner.password.startswith("argon2$argon2id$")

    def test_the_typed_name_is_not_kept(self, client: Client, planner: User) -> None:
        """A password typed into the name's field must not stand in a table or in the audit."""
        enter(client, PASSWORD, "x")
        kept = str(list(SignInAttempt.objects.values())) + str(list(AuditEntry.objects.values()))
        assert PASSWORD not in kept
        assert SignInAttempt.objects.get().user is None

    @pytest.mark.parametrize(
        ("wanted", "sent_to"),
        [
            ("/admin/portal/user/", "/admin/portal/user/"),
            ("https://evil.example/", "/admin/"),
            ("//evil.example/", "/admin/"),
            ("javascript:alert(1)", "/admin/"),
        ],
    )
    def test_one_goes_where_one_was_going_within_the_portal(
        self, client: Client, planner: User, wanted: str, sent_to: str
    ) -> None:
        answer = client.post(LOGIN, {"username": "planner", "password": PASSWORD, "next": wanted})
        assert answer["Location"] == sent_to

    def test_a_session_from_before_is_not_taken_over(self, client: Client, planner: User) -> None:
        client.get("/admin/")
        session = client.session
        session["planted"] = "x"
        session.save()
        before = session.session_key
        enter(client, "planner")
        assert client.session.session_key != before
        assert "planted" not in client.session

    def test_leaving_is_audited(self, client: Client, planner: User) -> None:
        enter(client, "planner")
        assert client.get("/admin/logout/").status_code == 405
        answer = client.post("/admin/logout/")
        assert (answer["Location"], said(answer)) == (LOGIN, "您已退出登录")
        assert client.get("/admin/").status_code == 302
        assert actions() == ["sign_in.succeeded", "sign_in.signed_out"]


class TestLock:
    def test_a_name_is_locked_after_five_failures_and_for_the_right_password(
        self, client: Client, planner: User, settings: Any
    ) -> None:
        for _ in range(settings.SIGN_IN_FAILURES_PER_USER):
            assert enter(client, "planner", "wrong").status_code == 422
        answer = enter(client, "planner")
        assert answer.status_code == 429
        assert "登录失败次数过多，请 15 分钟后再试" in text(answer)
        assert client.get("/admin/").status_code == 302
        assert actions() == ["sign_in.failed"] * 5 + ["sign_in.locked"], "refused ones leave nothing"
        assert AuditEntry.objects.filter(action="sign_in.locked").get().object_id == str(planner.pk)

    def test_a_name_nobody_has_is_locked_alike(self, client: Client, planner: User) -> None:
        def answers(name: str) -> list[tuple[int, list[str]]]:
            given = [enter(client, name, "wrong") for _ in range(6)]
            return [(a.status_code, re.findall(r'role="alert">([^<]+)<', text(a))) for a in given]

        assert answers("planner") == answers("nobody")

    def test_capitals_make_no_other_name(self, client: Client, planner: User, settings: Any) -> None:
        for name in ("planner", "Planner", "PLANNER", " planner", "planneR"):
            enter(client, name, "wrong")
        assert enter(client, "planner").status_code == 429

    def test_an_address_is_locked_whatever_the_names(
        self, client: Client, planner: User, settings: Any
    ) -> None:
        settings.SIGN_IN_FAILURES_PER_ADDRESS = 3
        for number in range(3):
            enter(client, f"name{number}", "wrong")
        assert enter(client, "planner").status_code == 429
        assert enter(Client(REMOTE_ADDR="198.51.100.9"), "planner").status_code == 302
        assert actions()[-2:] == ["sign_in.locked", "sign_in.succeeded"]

    def test_a_claimed_address_is_not_believed(self, client: Client, planner: User, settings: Any) -> None:
        """X-Forwarded-For is the client's claim unless a proxy of ours wrote it (TRUSTED_PROXIES)."""
        settings.SIGN_IN_FAILURES_PER_ADDRESS = 3
        for number in range(3):
            enter(client, f"name{number}", "wrong", HTTP_X_FORWARDED_FOR=f"203.0.113.{number}")
        assert enter(client, "planner", HTTP_X_FORWARDED_FOR="203.0.113.77").status_code == 429
        settings.TRUSTED_PROXIES = 1
        assert enter(client, "planner", HTTP_X_FORWARDED_FOR="203.0.113.77").status_code == 302
        for number in range(3):
            claim = f"10.0.0.{number}, 203.0.113.5"
            enter(client, f"other{number}", "wrong", HTTP_X_FORWARDED_FOR=claim)
        assert enter(client, "planner", HTTP_X_FORWARDED_FOR="10.9.9.9, 203.0.113.5").status_code == 429

    @pytest.mark.parametrize(
        ("address", "counted"),
        [
            ("203.0.113.5", "203.0.113.5"),
            ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
            ("", ""),
            ("garbage", "garbage"),
        ],
    )
    def test_a_subscriber_of_ipv6_is_one_address(self, address: str, counted: str) -> None:
        assert counted_address(address) == counted

    def test_the_lock_ends_with_its_time_and_waiting_tries_do_not_prolong_it(
        self, client: Client, planner: User, settings: Any
    ) -> None:
        for _ in range(8):
            enter(client, "planner", "wrong")
        assert SignInAttempt.objects.count() == 5
        SignInAttempt.objects.update(at=timezone.now() - timedelta(seconds=settings.SIGN_IN_LOCK_SECONDS + 1))
        assert enter(client, "planner").status_code == 302
        assert not SignInAttempt.objects.exists()

    def test_signing_in_clears_the_name_but_not_the_address(
        self, client: Client, planner: User, settings: Any
    ) -> None:
        """Whoever has an account of their own cannot use it to try others' passwords without end."""
        settings.SIGN_IN_FAILURES_PER_ADDRESS = 6
        for name in ("planner", "victim0", "planner", "victim1", "planner"):
            enter(client, name, "wrong")
        enter(client, "planner")
        assert SignInAttempt.objects.filter(user=planner).count() == 0
        assert SignInAttempt.objects.count() == 2

    def test_many_at_once_get_no_more_tries_than_one_after_the_other(self, planner: User) -> None:
        """An attempt takes its place before the password is looked at."""
        places = [attempts.reserve("planner", ADDRESS, "password", planner) for _ in range(5)]
        with pytest.raises(SignInLockedError):
            attempts.reserve("planner", ADDRESS, "password", planner)
        places[0].delete()
        attempts.reserve("planner", ADDRESS, "password", planner)

    def test_a_security_administrator_unlocks_a_name(
        self, client: Client, planner: User, security: User
    ) -> None:
        for _ in range(5):
            enter(client, "planner", "wrong")
        desk = verified_client(security)
        assert "已锁定" in text(desk.get(page("portal.user", "change", planner.pk)))
        answer = desk.post(page("portal.user", "unlock", planner.pk))
        assert said(answer) == "已解除锁定"
        assert actions()[-1] == "sign_in.unlocked"
        assert enter(client, "planner").status_code == 302

    def test_a_security_administrator_unlocks_an_address(
        self, client: Client, planner: User, security: User, settings: Any
    ) -> None:
        settings.SIGN_IN_FAILURES_PER_ADDRESS = 3
        for number in range(3):
            enter(client, f"name{number}", "wrong")
        desk = verified_client(security)
        listed = text(desk.get(page("portal.signinattempt", "changelist")))
        assert listed.count("（无此用户名）") == 3
        row = SignInAttempt.objects.first()
        assert row is not None
        desk.post(page("portal.signinattempt", "unlock_source", row.pk))
        assert enter(client, "planner").status_code == 302

    def test_nobody_else_unlocks(self, client: Client, planner: User, gov: Organisation) -> None:
        for _ in range(5):
            enter(client, "planner", "wrong")
        for role in (Role.SYSTEM_ADMINISTRATOR, Role.AUDITOR):
            desk = verified_client(make_person(role, gov))
            assert desk.post(page("portal.user", "unlock", planner.pk)).status_code == 403
        assert enter(client, "planner").status_code == 429
