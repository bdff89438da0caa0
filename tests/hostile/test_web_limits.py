"""Too much of what is costly or shows people is refused, counted by all processes together (issue 3, Web)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from portal import limits
from portal.choices import Role
from portal.limits import Rate, TooOftenError, parse_rate, spend, take
from portal.models import ApiToken, AuditEntry, Organisation, User
from tests.api import ROOT, client_of, code_of, token_of
from tests.portal.desk import make_person, page, sign_in, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until it is put forward, with nothing counted yet."""
    time = [1_000_000.0]
    monkeypatch.setattr(limits, "now", lambda: time[0])
    monkeypatch.setattr(limits, "_redis_back_at", 0.0)
    caches["limits_of_process"].clear()
    return time


@pytest.fixture
def clerk() -> User:
    home = Organisation.objects.create(kind="purchaser", code="P", name="采购人", short_name="采购人")
    return make_person(Role.PURCHASER_CLERK, home)


@pytest.fixture
def no_redis(clock: list[float], settings: Any) -> Iterator[None]:
    """Redis does not answer."""
    settings.CACHES = settings.CACHES | {
        "limits": settings.CACHES["limits"] | {"LOCATION": "unix:///nowhere/redis.sock"}
    }
    yield
    caches["limits_of_process"].clear()


def events(action: str) -> list[dict[str, Any]]:
    return [entry.details for entry in AuditEntry.objects.filter(action=action).order_by("position")]


@pytest.mark.parametrize(
    ("text", "rate"), [("30/min", Rate(30, 60)), ("5/s", Rate(5, 1)), ("9/day", Rate(9, 86400))]
)
def test_rates_are_read_as_drf_writes_them(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "30", "/min", "0/min", "-1/min", "x/min", "30/week", "30/"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected something like 30/min"):
        parse_rate(text)


def test_the_portal_does_not_start_with_a_rate_it_cannot_read(settings: Any) -> None:
    settings.RATES = settings.RATES | {"search": "often"}
    with pytest.raises(ImproperlyConfigured, match="RATE_SEARCH"):
        limits.check_rates()


@given(
    count=st.integers(1, 20),
    seconds=st.sampled_from([1, 60, 3600]),
    steps=st.lists(st.floats(0, 3), max_size=40),
)
def test_whoever_waits_as_told_is_let_in_and_never_before(
    count: int, seconds: int, steps: list[float]
) -> None:
    """The wait is true to the second; no window of the rate's length lets more than twice the count in."""
    cache = caches["limits_of_process"]
    cache.clear()
    rate, time, granted = Rate(count, seconds), [50_000.0 * seconds], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "now", lambda: time[0])
        for step in steps:
            time[0] += step * seconds / 10
            taken = limits._take(cache, "k", rate)
            if taken.wait:
                time[0] += taken.wait + 0.001
                assert limits._take(cache, "k", rate).wait == 0
            granted.append(time[0])
        for moment in granted:
            assert sum(moment <= other < moment + seconds for other in granted) <= 2 * count


def test_the_count_is_shared_by_processes(clock: list[float]) -> None:
    """Another process finds what this one counted, in Redis."""
    rate = Rate(3, 3600)
    assert [take("shared", "somebody", rate).wait for _ in range(2)] == [0, 0]
    program = (
        "import django; django.setup()\n"
        "from portal import limits\n"
        f"limits.now = lambda: {clock[0]}\n"
        "print([limits.take('shared', 'somebody', limits.Rate(3, 3600)).wait > 0 for _ in range(2)])\n"
    )
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[False, True]"
    assert take("shared", "somebody", rate).wait > 0
    assert take("shared", "somebody else", rate).wait == 0


def test_keys_say_nothing_of_whom_they_count(clock: list[float], redis_server: Any) -> None:
    """R-45: an address is nobody's to read in Redis."""
    take("sign_in", "address 203.0.113.77", Rate(1, 60))
    keys = redis_server.keys("*")
    assert keys
    assert not any(b"203.0.113" in key for key in keys)


def test_without_redis_each_process_counts_by_itself(
    no_redis: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither is everybody locked out nor anything open without limit; Redis is asked again later."""
    rate = Rate(2, 60)
    assert [take("alone", "x", rate).wait > 0 for _ in range(3)] == [False, False, True]
    assert len([record for record in caplog.records if "Redis does not answer" in record.message]) == 1


def test_redis_is_taken_up_again(
    no_redis: None, clock: list[float], settings: Any, redis_server: Any
) -> None:
    take("back", "x", Rate(2, 60))
    settings.CACHES = settings.CACHES | {
        "limits": settings.CACHES["limits"] | {"LOCATION": os.environ["REDIS_URL"]}
    }
    take("back", "x", Rate(2, 60))
    assert redis_server.keys("*") == []
    clock[0] += limits.REDIS_PAUSE
    take("back", "x", Rate(2, 60))
    assert redis_server.keys("*back*")


class TestSignIn:
    def attempt(self, address: str = "203.0.113.1") -> Any:
        given = {"username": "nobody", "password": "wrong"}
        return Client().post("/admin/login/", given, REMOTE_ADDR=address)

    def test_guessing_is_slowed_down_by_address(self, clock: list[float], settings: Any) -> None:
        settings.RATES = settings.RATES | {"sign_in": "3/min"}
        assert [self.attempt().status_code for _ in range(4)] == [422, 422, 422, 429]
        refused = self.attempt()
        assert 1 <= int(refused["Retry-After"]) <= 120
        assert "操作过于频繁" in text(refused)
        assert self.attempt("203.0.113.2").status_code == 422
        assert Client().get("/admin/login/", REMOTE_ADDR="203.0.113.1").status_code == 200
        assert events("limit.exceeded") == [{"limit": "sign_in", "counted_by": "address"}]
        clock[0] += int(refused["Retry-After"])
        assert self.attempt().status_code == 422

    def test_it_works_without_redis(self, no_redis: None, settings: Any) -> None:
        settings.RATES = settings.RATES | {"sign_in": "2/min"}
        assert [self.attempt().status_code for _ in range(3)] == [422, 422, 429]

    def test_the_claimed_address_does_not_help(self, clock: list[float], settings: Any) -> None:
        settings.RATES = settings.RATES | {"sign_in": "1/min"}
        given = {"username": "nobody", "password": "wrong"}
        answers = [
            Client().post("/admin/login/", given, HTTP_X_FORWARDED_FOR=f"10.0.0.{n}") for n in range(2)
        ]
        assert [answer.status_code for answer in answers] == [422, 429]


class TestCredentials:
    """Programs show tokens and stations credentials: guessing either is slowed down (issue 3, Web)."""

    TRIES = ("Bearer nobody-1", "Station counter-1:wrong", "Bearer nobody-2", "Bearer nobody-3")

    @pytest.fixture(autouse=True)
    def three_a_minute(self, clock: list[float], settings: Any) -> None:
        settings.RATES = settings.RATES | {"credential": "3/min"}

    def ask(self, credential: str, address: str = "203.0.113.1") -> Any:
        path = "station/heartbeat" if credential.startswith("Station") else "packages"
        ask = APIClient().post if credential.startswith("Station") else APIClient().get
        return ask(f"{ROOT}/{path}", HTTP_AUTHORIZATION=credential, REMOTE_ADDR=address)

    def test_too_many_wrong_ones_are_refused_and_audited_once(self, clock: list[float]) -> None:
        assert [self.ask(each).status_code for each in self.TRIES] == [401, 401, 401, 429]
        refusal = self.ask("Bearer nobody-4")
        assert code_of(refusal, 429) == "throttled"
        assert 1 <= int(refusal["Retry-After"]) <= 120
        assert events("limit.exceeded") == [{"limit": "credential", "counted_by": "address"}]
        assert AuditEntry.objects.get(action="limit.exceeded").address == "203.0.113.1"
        assert self.ask("Bearer nobody-5", "203.0.113.2").status_code == 401
        clock[0] += int(refusal["Retry-After"])
        assert self.ask("Bearer nobody-6").status_code == 401

    def test_a_right_one_is_not_told_from_a_wrong_one_any_more(self, clerk: User) -> None:
        """Not even looked up: a token that hits after too many misses opens nothing."""
        for each in self.TRIES:
            self.ask(each)
        token = token_of(clerk)
        with CaptureQueriesContext(connection) as asked:
            assert self.ask(f"Bearer {token}").status_code == 429
        assert not any("apitoken" in query["sql"] for query in asked.captured_queries)
        assert AuditEntry.objects.filter(action="limit.exceeded").count() == 1

    def test_whoever_was_right_there_before_is_not_shut_out(self, clerk: User) -> None:
        """A branch shares an address; one program set up wrongly must not stop the others."""
        token = f"Bearer {token_of(clerk)}"
        assert self.ask(token).status_code == 200
        for each in self.TRIES:
            self.ask(each)
        assert self.ask(token).status_code == 200
        assert self.ask(token, "203.0.113.2").status_code == 200
        ApiToken.objects.update(revoked_at=timezone.now())
        assert self.ask(token).status_code == 429

    def test_right_ones_do_not_count(self, clerk: User) -> None:
        token = f"Bearer {token_of(clerk)}"
        assert {self.ask(token).status_code for _ in range(5)} == {200}
        assert self.ask("Bearer nobody").status_code == 401

    def test_redis_holds_no_credential(self, clerk: User, redis_server: Any) -> None:
        """R-45: neither right nor wrong ones, in keys or values."""
        token = token_of(clerk)
        for each in (f"Bearer {token}", *self.TRIES):
            self.ask(each)
        kept = b"".join(key + redis_server.get(key) for key in redis_server.keys("*"))
        assert kept
        assert not [word for word in (token, "nobody", "wrong", "203.0") if word.encode() in kept]


class TestPeople:
    FIND = "/admin/orders/cardholderrecord/find/"

    def test_searching_for_people_is_limited(self, clock: list[float], clerk: User, settings: Any) -> None:
        settings.RATES = settings.RATES | {"search": "2/min"}
        desk, asked = sign_in(clerk), {"number": "440601199001010018"}
        assert [desk.post(self.FIND, asked).status_code for _ in range(3)] == [200, 200, 429]
        assert desk.get(self.FIND).status_code == 200
        assert events("limit.exceeded") == [{"limit": "search", "counted_by": "user"}]

    def test_downloads_of_pages_and_api_share_one_limit(
        self, clock: list[float], clerk: User, settings: Any
    ) -> None:
        settings.RATES = settings.RATES | {"download": "1/min"}
        client = client_of(clerk)
        assert client.get(f"{ROOT}/statements/1/workbook").status_code in {403, 404}
        refused = client.get(f"{ROOT}/statements/1/workbook")
        assert code_of(refused, 429) == "throttled"
        assert int(refused["Retry-After"]) >= 1
        answer = sign_in(clerk).get(page("billing.statement", "download", 1))
        assert answer.status_code in {404, 429}

    def test_an_address_has_four_times_the_share(
        self, clock: list[float], clerk: User, settings: Any
    ) -> None:
        settings.RATES = settings.RATES | {"unmask": "1/min"}
        people = [make_person(Role.PURCHASER_CLERK, clerk.organisation, f"p{n}") for n in range(5)]  # type: ignore[arg-type]
        refused = 0
        for user in people:
            request = RequestFactory().get("/")
            request.user = user
            try:
                spend("unmask", request)
            except TooOftenError:
                refused += 1
        assert refused == 1
        assert events("limit.exceeded") == [{"limit": "unmask", "counted_by": "address"}]


class TestRefusals:
    def test_a_refused_page_is_an_event(self, clock: list[float], clerk: User) -> None:
        assert sign_in(clerk).get(page("portal.auditentry", "changelist") + "?q=张三").status_code == 403
        assert sign_in(clerk).post(page("portal.task", "retry", 7)).status_code == 403
        assert events("access.refused") == [
            {
                "path": "/admin/portal/auditentry/", "method": "GET", "permission": "",
                "more_left_out": False,
            },
            {
                "path": "/admin/portal/task/7/retry/", "method": "POST", "permission": "portal.retry_task",
                "more_left_out": False,
            },
        ]  # fmt: skip
        entry = AuditEntry.objects.filter(action="access.refused").first()
        assert entry is not None
        assert (entry.result, entry.actor_name, entry.address) == ("refused", clerk.username, "127.0.0.1")

    def test_what_is_typed_into_an_address_is_not_kept(self, clock: list[float], clerk: User) -> None:
        """R-45: an address may hold what somebody searched for."""
        sign_in(clerk).get("/admin/portal/auditentry/440601199001010018张三/change/")
        assert "440601199001010018" not in str(events("access.refused"))

    def test_the_api_records_them_too(self, clock: list[float], clerk: User) -> None:
        assert client_of(clerk).get(f"{ROOT}/stations/1").status_code in {403, 404}
        clerk.roles = [Role.COUNTER_OPERATOR]
        clerk.save()
        assert code_of(client_of(clerk).get(f"{ROOT}/packages"), 403)
        assert events("access.refused")[-1]["path"] == f"{ROOT}/packages"

    def test_nobody_fills_the_chain(
        self, clock: list[float], clerk: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("portal.refusals.RECORDED", Rate(3, 3600))
        desk = sign_in(clerk)
        assert {desk.get(page("portal.auditentry", "changelist")).status_code for _ in range(9)} == {403}
        assert [event["more_left_out"] for event in events("access.refused")] == [False, False, False, True]

    def test_nobody_signed_in_is_nobody_to_record(self, clock: list[float]) -> None:
        assert Client().get(page("portal.auditentry", "changelist")).status_code == 302
        assert Client().get(f"{ROOT}/packages").status_code == 401
        assert events("access.refused") == []
