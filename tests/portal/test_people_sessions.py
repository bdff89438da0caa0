"""Sessions: hashed keys, ended by idleness, by age, by their owner and from above (issue 3, People)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from portal.choices import Role
from portal.core.errors import PermissionRefusedError
from portal.models import AuditEntry, Organisation, User, UserSession
from portal.services.sessions import end_session
from portal.session_store import SessionStore, digest_of
from tests.api import actions
from tests.portal.desk import make_person, page, said, sign_in, text
from tests.portal.door import LOGIN, enter
from tests.refusals import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_hashes")]
FIREFOX = "Mozilla/5.0 Firefox/140.0"


def signed_in(name: str = "planner", **origin: Any) -> Client:
    client = Client(**origin)
    assert enter(client, name)["Location"] == "/admin/"
    return client


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def later(**delta: float) -> Any:
    """Let the clock of sessions say a later time."""
    return mock.patch.object(timezone, "now", return_value=timezone.now() + timedelta(**delta))


class TestKeeping:
    def test_who_whence_and_since(self, planner: User) -> None:
        client = signed_in(REMOTE_ADDR="198.51.100.7", headers={"User-Agent": FIREFOX})
        row = UserSession.objects.get(user=planner)
        assert (row.address, row.agent) == ("198.51.100.7", FIREFOX)
        assert row.started_at is not None
        assert row.started_at <= row.seen_at < row.expire_date
        assert is_in(client)

    def test_the_key_is_not_in_the_database(self, planner: User) -> None:
        """R-46: who reads the table or a backup of it signs in as nobody."""
        client = signed_in()
        key = client.session.session_key
        assert key
        row = UserSession.objects.get(user=planner)
        assert row.pk == digest_of(key)
        assert key not in str(UserSession.objects.values().get(pk=row.pk))
        thief = Client()
        thief.cookies["sessionid"] = row.pk
        assert not is_in(thief)

    @pytest.mark.parametrize("key", ["", "x", "x" * 5000, "' OR 1=1 --", "\0"])
    def test_a_made_up_key_is_nobody(self, planner: User, key: str) -> None:
        client = Client()
        client.cookies["sessionid"] = key
        assert client.get("/admin/").status_code == 302

    def test_a_long_agent_is_cut(self, planner: User) -> None:
        signed_in(headers={"User-Agent": "x" * 5000})
        assert UserSession.objects.get(user=planner).agent == "x" * 200


class TestEnding:
    def test_idleness_ends_it(self, planner: User, settings: Any) -> None:
        """SESSION_IDLE_SECONDS counts from the last request."""
        client = signed_in()
        with later(seconds=settings.SESSION_COOKIE_AGE - 60):
            assert is_in(client)
        with later(seconds=2 * settings.SESSION_COOKIE_AGE - 120):
            assert is_in(client), "the request in between counts"
        with later(seconds=3 * settings.SESSION_COOKIE_AGE):
            assert not is_in(client)

    def test_age_ends_it_however_busy(self, planner: User, settings: Any) -> None:
        """SESSION_MAX_SECONDS counts from the sign-in, whatever key the session has by then."""
        client = signed_in()
        step = settings.SESSION_COOKIE_AGE - 1
        for second in range(step, settings.SESSION_MAX_SECONDS, step):
            with later(seconds=second):
                assert is_in(client), second
        with later(seconds=settings.SESSION_MAX_SECONDS + 1):
            assert not is_in(client)

    def test_a_new_sign_in_starts_a_new_age(self, planner: User, settings: Any) -> None:
        client = signed_in()
        with later(seconds=settings.SESSION_MAX_SECONDS + 1):
            enter(client, "planner")
            assert is_in(client)

    def test_a_session_ended_while_a_request_runs_stays_ended(self, planner: User) -> None:
        """The request that was under way must not write the session anew."""
        client = signed_in()
        store = SessionStore(client.session.session_key)
        assert store["_auth_user_id"] == str(planner.pk)
        UserSession.objects.all().delete()
        from django.contrib.sessions.backends.base import UpdateError

        with pytest.raises(UpdateError):
            store.save()
        assert not is_in(client)
        assert not UserSession.objects.filter(user=planner).exists()

    def test_what_has_run_out_is_cleared(self, planner: User) -> None:
        signed_in()
        UserSession.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
        call_command("clearsessions")
        assert not UserSession.objects.exists()


class TestOwn:
    def test_the_list_shows_where_one_is_signed_in(self, planner: User) -> None:
        here = signed_in(REMOTE_ADDR="198.51.100.7", headers={"User-Agent": FIREFOX})
        signed_in(REMOTE_ADDR="203.0.113.9", headers={"User-Agent": "other browser"})
        shown = text(here.get("/admin/account/"))
        for words in ("198.51.100.7", FIREFOX, "203.0.113.9", "other browser", "本次登录"):
            assert words in shown
        assert shown.count("/end/") == 2, "one button for the other session, one for all others"

    def test_one_ends_another_of_ones_own_at_once(self, planner: User) -> None:
        here, there = signed_in(), signed_in()
        key = digest_of(str(there.session.session_key))
        answer = here.post(f"/admin/account/sessions/{key}/end/")
        assert said(answer) == "该登录已结束"
        assert (is_in(here), is_in(there)) == (True, False)
        assert actions()[-1] == "session.ended"

    def test_one_ends_all_others(self, planner: User) -> None:
        here, there, elsewhere = signed_in(), signed_in(), signed_in()
        assert said(here.post("/admin/account/sessions/end/")) == "已结束其他登录 2 个"
        assert [is_in(client) for client in (here, there, elsewhere)] == [True, False, False]
        assert AuditEntry.objects.get(action="session.ended").details == {
            "sessions": 2,
            "reason": "requested",
        }

    def test_ending_this_one_is_leaving(self, planner: User) -> None:
        here = signed_in()
        key = digest_of(str(here.session.session_key))
        assert here.post(f"/admin/account/sessions/{key}/end/")["Location"] == LOGIN
        assert not is_in(here)
        assert actions()[-1] == "sign_in.signed_out"

    def test_nobody_elses(self, planner: User, approver: User) -> None:
        here, theirs = signed_in(), signed_in("approver")
        key = digest_of(str(theirs.session.session_key))
        before = actions()
        assert here.post(f"/admin/account/sessions/{key}/end/").status_code == 404
        assert here.get(f"/admin/account/sessions/{key}/end/").status_code == 405
        assert is_in(theirs)
        assert actions() == before

    def test_the_pages_need_a_sign_in(self, client: Client) -> None:
        for address in ("account/", "second-factor/codes/"):
            assert client.get(f"/admin/{address}").status_code == 302
        for address in ("second-factor/", "password_change/", "login/code/"):
            assert client.get(f"/admin/{address}")["Location"] == "/admin/"


class TestFromAbove:
    def test_a_security_administrator_sees_and_ends_everybodys(self, planner: User, security: User) -> None:
        theirs = signed_in(REMOTE_ADDR="198.51.100.7")
        desk = sign_in(security)
        listed = text(desk.get(page("portal.usersession", "changelist")))
        assert "198.51.100.7" in listed
        row = UserSession.objects.get(user=planner)
        assert said(desk.post(page("portal.usersession", "end", row.pk))) == "该登录已结束"
        assert not is_in(theirs)
        entry = AuditEntry.objects.get(action="session.ended")
        assert (entry.actor_name, entry.object_id) == ("security", str(planner.pk))
        assert str(theirs.session.session_key) not in str(entry.details)

    def test_and_all_of_one_person(self, planner: User, security: User) -> None:
        first, second = signed_in(), signed_in()
        answer = sign_in(security).post(page("portal.user", "end_all", planner.pk))
        assert said(answer) == "已结束登录 2 个"
        assert (is_in(first), is_in(second)) == (False, False)

    def test_an_auditor_reads_and_ends_nothing(self, planner: User, gov: Organisation) -> None:
        theirs = signed_in()
        desk = sign_in(make_person(Role.AUDITOR, gov))
        assert desk.get(page("portal.usersession", "changelist")).status_code == 200
        row = UserSession.objects.get(user=planner)
        assert desk.post(page("portal.usersession", "end", row.pk)).status_code == 403
        assert is_in(theirs)

    def test_a_system_administrator_does_not(self, planner: User, gov: Organisation) -> None:
        signed_in()
        administrator = make_person(Role.SYSTEM_ADMINISTRATOR, gov)
        assert sign_in(administrator).get(page("portal.usersession", "changelist")).status_code == 403
        row = UserSession.objects.get(user=planner)
        with refused(PermissionRefusedError):
            end_session(row, actor=administrator)
