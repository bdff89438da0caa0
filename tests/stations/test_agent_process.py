"""The agent as a process of its own against a real portal and a real Redis (architecture §5)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from stations.models import SelfTest, Station
from stations.services.registry import enrol_station
from stations.services.self_tests import request_self_test
from tests.stations.desk import Desk, make_desk

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def desk(transactional_db: None, redis_server: Any) -> Desk:
    return make_desk()


@pytest.fixture
def credential(desk: Desk, tmp_path: Path) -> Path:
    file = tmp_path / "credential"
    file.touch(mode=0o600)
    file.write_text(desk.credential)
    return file


@pytest.fixture
def start(live_server: Any, credential: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(*command: str, portal: str = live_server.url, **environment: str) -> subprocess.Popen[str]:
        options = ("--virtual", "--portal", portal, "--credential-file", str(credential))
        process = subprocess.Popen(
            [sys.executable, *command, *options],
            cwd=settings.BASE_DIR, env=os.environ | environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


AGENT = ("-m", "stations.agent", "--code", "demo-1", "--heartbeat-seconds", "0.2")


def eventually(check: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def seen() -> Any:
    return Station.objects.get().last_seen_at


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Ask the agent to end and return how and with which last words it did."""
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert time.monotonic() - asked < 8
    return process.returncode, output


def test_the_agent_reports_answers_a_self_test_and_ends_in_order(desk: Desk, start: Start) -> None:
    """From the portal's button to the card and back, without a database on the station's side."""
    agent = start("manage.py", "station_agent", "--code", "demo-1")
    eventually(lambda: seen() is not None, agent)
    assert Station.objects.get().reader_state == "虚拟读写器：有卡"
    assert Station.objects.get().printer_state == "虚拟打印机：空闲"
    test = request_self_test(desk.station, actor=desk.operator)
    eventually(lambda: SelfTest.objects.get(pk=test.pk).reported_at is not None, agent)
    test.refresh_from_db()
    assert (test.passed, test.error_code) == (True, "")
    assert test.read_milliseconds is not None
    assert test.read_milliseconds < 3000
    code, output = ended(agent)
    assert code == 0
    assert "station demo-1 stopped" in output
    assert desk.credential not in output


def test_heartbeats_go_on_while_the_queue_is_away(desk: Desk, start: Start) -> None:
    agent = start(*AGENT, STATION_REDIS_URL="redis://127.0.0.1:9/0")
    eventually(lambda: seen() is not None, agent)
    first = seen()
    eventually(lambda: seen() > first, agent)
    code, output = ended(agent)
    assert code == 0
    assert "queue cannot be reached" in output


def test_a_credential_that_ends_is_told_and_a_wrong_one_does_not_start(desk: Desk, start: Start) -> None:
    redis = {"STATION_REDIS_URL": settings.REDIS_URL}
    agent = start(*AGENT, **redis)
    eventually(lambda: seen() is not None, agent)
    enrol_station(desk.station, actor=desk.security)
    time.sleep(0.5)
    code, output = ended(agent)
    assert (code, output.count("不接受本制卡点的代码或凭证")) == (0, 1)
    late = start(*AGENT, **redis)
    output, _ = late.communicate(timeout=30)
    assert (late.returncode, output.count("不接受本制卡点的代码或凭证")) == (3, 1)


def test_a_portal_that_is_not_there_yet_is_waited_for(desk: Desk, start: Start) -> None:
    agent = start(*AGENT, portal="http://127.0.0.1:9", STATION_REDIS_URL=settings.REDIS_URL)
    time.sleep(5)
    assert agent.poll() is None
    code, _ = ended(agent)
    assert code == 0
