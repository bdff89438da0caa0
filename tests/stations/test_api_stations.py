"""Stations through the API: their own credential, heartbeats, self-tests (architecture §5)."""

from __future__ import annotations

import io
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient
from rq import Queue
from rq.serializers import JSONSerializer

from portal.core.crypto import sm3
from portal.core.errors import PermissionRefusedError
from stations.models import SelfTest, Station
from stations.queues import SELF_TEST, queue_name
from stations.services.registry import NotEnrolledError, enrol_station, is_credential, withdraw_credential
from stations.services.self_tests import request_self_test
from tests.api import ROOT, actions, client_of, code_of, ids
from tests.stations.desk import Desk, make_desk

pytestmark = pytest.mark.django_db
HEARTBEAT, STATIONS, TESTS = f"{ROOT}/station/heartbeat", f"{ROOT}/stations", f"{ROOT}/self-tests"
BEAT = {"reader_state": "虚拟读写器：有卡", "printer_state": "", "agent_version": "1.0"}


@pytest.fixture
def desk() -> Desk:
    return make_desk()


class TestCredential:
    def test_only_its_digest_is_kept(self, desk: Desk) -> None:
        """R-45, R-46: nobody can pose as a station from what the database holds."""
        assert bytes(desk.station.credential_digest or b"") == sm3(desk.credential.encode())
        assert len(desk.credential) == 43
        assert actions() == ["station.enrolled"]

    def test_a_new_one_ends_the_old_one(self, desk: Desk) -> None:
        _, fresh = enrol_station(desk.station, actor=desk.security)
        assert desk.agent().post(HEARTBEAT, BEAT, format="json").status_code == 401
        assert desk.agent(credential=fresh).post(HEARTBEAT, BEAT, format="json").status_code == 200

    def test_only_the_security_administrator_gives_and_withdraws_it(self, desk: Desk) -> None:
        for verb in (enrol_station, withdraw_credential):
            before = actions()
            with pytest.raises(PermissionRefusedError):
                verb(desk.station, actor=desk.operator)
            assert actions() == before
        desk.station.refresh_from_db()
        assert is_credential(desk.station, desk.credential)

    def test_a_withdrawn_one_shuts_the_station_out(self, desk: Desk) -> None:
        withdraw_credential(desk.station, actor=desk.security)
        assert code_of(desk.agent().post(HEARTBEAT, BEAT, format="json"), 401) == "authentication_failed"
        with pytest.raises(NotEnrolledError):
            withdraw_credential(desk.station, actor=desk.security)
        assert actions() == ["station.enrolled", "station.credential_withdrawn"]

    def test_a_station_without_one_cannot_be_entered_by_an_empty_one(self, desk: Desk) -> None:
        Station.objects.update(credential_digest=None)
        client = APIClient()
        for shown in ("demo-1:", "demo-1", ":"):
            client.credentials(HTTP_AUTHORIZATION=f"Station {shown}")
            assert code_of(client.post(HEARTBEAT, BEAT, format="json"), 401) == "authentication_failed"

    def test_the_command_writes_it_into_a_file_of_its_owner(self, desk: Desk, tmp_path: Path) -> None:
        target = tmp_path / "stations" / "demo-1.credential"
        shown = io.StringIO()
        call_command("enrol_station", "demo-1", credential_file=target, stdout=shown)
        credential = target.read_text().strip()
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert credential not in shown.getvalue()
        assert [path.name for path in target.parent.iterdir()] == [target.name]
        assert is_credential(Station.objects.get(), credential)

    def test_the_command_can_keep_a_valid_file(self, desk: Desk, tmp_path: Path) -> None:
        target = tmp_path / "c"
        for content in (desk.credential, "another"):
            target.write_text(content)
            call_command("enrol_station", "demo-1", credential_file=target, keep=True, stdout=io.StringIO())
            assert (target.read_text() == desk.credential) == (content == desk.credential)
        assert actions() == ["station.enrolled", "station.enrolled"]

    def test_the_command_refuses_an_unknown_station_or_passes_it_by(self, db: None, tmp_path: Path) -> None:
        target = tmp_path / "c"
        with pytest.raises(CommandError, match="请先在后台登记"):
            call_command("enrol_station", "nowhere", credential_file=target)
        target.write_text("of another database")
        call_command("enrol_station", "nowhere", credential_file=target, if_registered=True)
        assert not target.exists()

    def test_the_command_refuses_who_may_not(self, desk: Desk, tmp_path: Path) -> None:
        for actor, message in (("operator", "没有此项权限"), ("nobody", "没有用户")):
            with pytest.raises(CommandError, match=message):
                call_command("enrol_station", "demo-1", credential_file=tmp_path / "c", actor=actor)
        assert not (tmp_path / "c").exists()


class TestHeartbeat:
    def test_a_station_says_how_it_is(self, desk: Desk) -> None:
        answer = desk.agent().post(HEARTBEAT, BEAT, format="json")
        assert (answer.status_code, answer.json()["station"]) == (200, "demo-1")
        shown = client_of(desk.operator).get(f"{STATIONS}/{desk.station.pk}").json()
        assert {name: shown[name] for name in BEAT} == BEAT
        assert shown["is_online"] is True
        assert "credential" not in str(shown)

    def test_a_silent_station_is_offline(self, desk: Desk) -> None:
        client = client_of(desk.operator)
        assert client.get(STATIONS).json()["results"][0]["is_online"] is False
        Station.objects.update(last_seen_at=timezone.now() - timedelta(seconds=36))
        assert client.get(STATIONS).json()["results"][0]["is_online"] is False

    @pytest.mark.parametrize(
        ("code", "credential"), [("demo-1", "wrong"), ("demo-2", None), ("DEMO-1", None), ("demo-1", "é")]
    )
    def test_a_wrong_credential_changes_nothing(self, desk: Desk, code: str, credential: str | None) -> None:
        answer = desk.agent(code, credential).post(HEARTBEAT, BEAT, format="json")
        assert code_of(answer, 401) == "authentication_failed"
        assert answer["WWW-Authenticate"] == "Station"
        assert Station.objects.get().last_seen_at is None

    def test_an_inactive_station_is_refused(self, desk: Desk) -> None:
        Station.objects.update(is_active=False)
        assert code_of(desk.agent().post(HEARTBEAT, BEAT, format="json"), 401) == "authentication_failed"

    def test_a_persons_token_is_no_credential_and_the_other_way_round(self, desk: Desk) -> None:
        person = client_of(desk.operator)
        assert code_of(person.post(HEARTBEAT, BEAT, format="json"), 401) == "not_authenticated"
        assert code_of(desk.agent().get(STATIONS), 401) == "not_authenticated"

    @pytest.mark.parametrize(
        "changes",
        [{"reader_state": "长" * 61}, {"agent_version": ""}, {"printer_state": None}, {"reader_state": "\0"}],
    )
    def test_what_does_not_fit_is_refused(self, desk: Desk, changes: dict[str, Any]) -> None:
        assert code_of(desk.agent().post(HEARTBEAT, BEAT | changes, format="json"), 400) == "invalid"
        assert Station.objects.get().last_seen_at is None

    def test_a_body_without_measure_is_refused_unread(self, desk: Desk) -> None:
        body = BEAT | {"reader_state": "x" * 70_000}
        assert code_of(desk.agent().post(HEARTBEAT, body, format="json"), 422) == "request_too_large"


class TestSelfTest:
    def test_asking_wakes_the_stations_queue_after_the_commit(
        self, desk: Desk, redis_server: Any, django_capture_on_commit_callbacks: Any
    ) -> None:
        """D7: the row is the truth, the job carries its key."""
        with django_capture_on_commit_callbacks(execute=True):
            answer = client_of(desk.operator).post(f"{STATIONS}/{desk.station.pk}/self-test")
        assert (answer.status_code, answer.json()["passed"]) == (202, None)
        (job,) = Queue(queue_name("demo-1"), connection=redis_server, serializer=JSONSerializer).jobs
        assert (job.func_name, list(job.args)) == (SELF_TEST, [answer.json()["id"]])
        assert actions()[-1] == "station.self_test_requested"

    def test_an_unreachable_redis_leaves_the_request_standing(
        self, desk: Desk, settings: Any, django_capture_on_commit_callbacks: Any
    ) -> None:
        settings.REDIS_URL = "unix:///nowhere/redis.sock"
        with django_capture_on_commit_callbacks(execute=True):
            request_self_test(desk.station, actor=desk.operator)
        assert SelfTest.objects.get().reported_at is None

    def test_the_station_reports_once(self, desk: Desk) -> None:
        test = request_self_test(desk.station, actor=desk.operator)
        result = {"passed": True, "read_milliseconds": 12}
        url = f"{ROOT}/station/self-tests/{test.pk}"
        assert desk.agent().post(url, result, format="json").status_code == 200
        shown = client_of(desk.operator).get(f"{TESTS}/{test.pk}").json()
        assert (shown["passed"], shown["read_milliseconds"], shown["station"]) == (True, 12, "demo-1")
        failed = {"passed": False, "error_code": "no_card"}
        assert code_of(desk.agent().post(url, failed, format="json"), 409) == "self_test_reported"
        assert actions()[-1] == "apitoken.issued"
        assert actions().count("station.self_test_reported") == 1
        test.refresh_from_db()
        assert test.passed is True

    @pytest.mark.parametrize(
        "result",
        [
            {},
            {"passed": True},
            {"passed": False},
            {"passed": True, "read_milliseconds": 5, "error_code": "no_card"},
            {"passed": False, "read_milliseconds": 5, "error_code": "no_card"},
            {"passed": True, "read_milliseconds": -1},
            {"passed": False, "error_code": "No Card"},
            {"passed": None},
        ],
    )
    def test_a_result_that_says_both_or_neither_is_refused(self, desk: Desk, result: dict[str, Any]) -> None:
        test = request_self_test(desk.station, actor=desk.operator)
        before = actions()
        answer = desk.agent().post(f"{ROOT}/station/self-tests/{test.pk}", result, format="json")
        assert code_of(answer, 400) == "invalid"
        test.refresh_from_db()
        assert (test.reported_at, actions()) == (None, before)

    def test_another_stations_test_does_not_exist(self, desk: Desk) -> None:
        other = Station.objects.create(code="demo-2", name="二", place="x", operator=desk.supplier)
        other, credential = enrol_station(other, actor=desk.security)
        test = request_self_test(desk.station, actor=desk.operator)
        for key in (test.pk, 0, 10**30):
            answer = desk.agent("demo-2", credential).post(
                f"{ROOT}/station/self-tests/{key}", {"passed": True, "read_milliseconds": 1}, format="json"
            )
            assert code_of(answer, 404) == "not_found"

    def test_people_of_another_operator_see_and_ask_nothing(self, desk: Desk) -> None:
        test = request_self_test(desk.station, actor=desk.operator)
        client = client_of(desk.stranger)
        before = actions()
        assert ids(client.get(STATIONS)) == ids(client.get(TESTS)) == []
        assert code_of(client.get(f"{TESTS}/{test.pk}"), 404) == "not_found"
        assert code_of(client.post(f"{STATIONS}/{desk.station.pk}/self-test"), 404) == "not_found"
        assert (actions(), SelfTest.objects.count()) == (before, 1)

    def test_who_only_looks_may_not_ask(self, desk: Desk) -> None:
        client = client_of(desk.security)
        before = actions()
        assert code_of(client.post(f"{STATIONS}/{desk.station.pk}/self-test"), 403) == "permission_refused"
        assert (actions(), SelfTest.objects.count()) == ([*before, "access.refused"], 0)

    def test_a_station_that_cannot_answer_is_not_asked(self, desk: Desk) -> None:
        Station.objects.update(credential_digest=None)
        client = client_of(desk.operator)
        answer = client.post(f"{STATIONS}/{desk.station.pk}/self-test")
        assert code_of(answer, 409) == "station_not_enrolled"
        assert not SelfTest.objects.exists()
