"""The supervisor restarts what stops, ends all when asked, and leaves nothing when it is killed itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from portal import supervisor

DRIVER = """
import asyncio, os, sys
from portal import supervisor
pairs = zip(sys.argv[2::2], sys.argv[3::2])
listed = [supervisor.Service(name, (sys.executable, "-c", code)) for name, code in pairs]
write = supervisor.printer(["server", *(service.name for service in listed)])
running = supervisor.Supervisor(listed, environment=os.environ, write=write, stop_seconds=float(sys.argv[1]))
asyncio.run(running.run())
"""
QUIET = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {QUIET}"
WITH_CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {QUIET!r}]); {QUIET}"
SHORT_LIVED = "import os; print(os.getpid(), flush=True); raise SystemExit(3)"


class Running:
    """A supervisor in its own process and what it printed so far."""

    def __init__(self, services: dict[str, str], stop_seconds: float) -> None:
        given = [part for pair in services.items() for part in pair]
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(stop_seconds), *given],
            cwd=supervisor.ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            self.lines.extend(line.rstrip("\n") for line in iter(output.readline, ""))

    def numbers(self, name: str) -> list[int]:
        """Return the process numbers that a service printed."""
        texts = [line.partition("| ")[2] for line in list(self.lines) if line.startswith(name)]
        return [int(text) for text in texts if text.isdigit()]

    def finish(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Running] = []

    def run(stop_seconds: float = 8, **services: str) -> Running:
        started.append(Running(services, stop_seconds))
        return started[-1]

    yield run
    for running in started:
        running.finish()


def eventually(check: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_all_in_order(start: Start, number: signal.Signals) -> None:
    running = start(one=QUIET, two=WITH_CHILD)
    eventually(lambda: len(running.numbers("one")) == 1 and len(running.numbers("two")) == 2)
    children = running.numbers("one") + running.numbers("two")
    begun = time.monotonic()
    running.process.send_signal(number)
    assert running.process.wait(30) == 0
    assert time.monotonic() - begun < supervisor.STOP_SECONDS, "nobody had to be ended by force"
    assert [child for child in children if alive(child)] == []


def test_a_child_deaf_to_the_signal_is_ended_by_force_in_time(start: Start) -> None:
    running = start(stop_seconds=0.5, deaf=DEAF)
    eventually(lambda: len(running.numbers("deaf")) == 1)
    running.process.terminate()
    assert running.process.wait(30) == 0
    running.reader.join()
    assert not alive(running.numbers("deaf")[0])
    assert running.lines[-1].endswith("强制结束：deaf")


def test_a_second_signal_does_not_wait(start: Start) -> None:
    running = start(stop_seconds=60, deaf=DEAF)
    eventually(lambda: len(running.numbers("deaf")) == 1)
    running.process.send_signal(signal.SIGINT)
    eventually(lambda: running.lines[-1].endswith("正在停止"))
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(30) == 0
    assert not alive(running.numbers("deaf")[0])


def test_no_orphan_when_the_supervisor_is_killed(start: Start) -> None:
    running = start(one=QUIET, two=QUIET)
    eventually(lambda: bool(running.numbers("one") and running.numbers("two")))
    children = running.numbers("one") + running.numbers("two")
    running.process.kill()
    eventually(lambda: not any(alive(child) for child in children))


def test_a_crashed_child_starts_again_and_the_others_do_not_notice(start: Start) -> None:
    running = start(one=QUIET, two=QUIET)
    eventually(lambda: bool(running.numbers("one") and running.numbers("two")))
    psutil.Process(running.numbers("one")[0]).kill()
    eventually(lambda: len(running.numbers("one")) == 2)
    assert len(running.numbers("two")) == 1
    assert alive(running.numbers("two")[0])
    assert "server | one 意外退出（-9），1 秒后重新启动" in running.lines


def test_what_a_crashed_leader_leaves_is_ended_before_the_next_start(start: Start) -> None:
    running = start(one=WITH_CHILD)
    eventually(lambda: len(running.numbers("one")) == 2)
    first = running.numbers("one")
    leader = next(number for number in first if psutil.Process(number).ppid() == running.process.pid)
    psutil.Process(leader).kill()
    eventually(lambda: len(running.numbers("one")) == 4)
    assert [number for number in first if alive(number)] == []


def test_a_child_that_never_comes_up_is_tried_less_and_less_often(start: Start) -> None:
    running = start(one=SHORT_LIVED)
    eventually(lambda: any("4 秒后" in line for line in list(running.lines)))
    pauses = [line.partition("（3），")[2] for line in running.lines if "意外退出" in line]
    assert pauses == ["1 秒后重新启动", "2 秒后重新启动", "4 秒后重新启动"]


def test_lines_of_any_length_and_the_last_without_an_end_come_through(start: Start) -> None:
    running = start(one="import sys; sys.stdout.write('长' * 200_000 + '\\n尾')", second=QUIET)
    eventually(lambda: any("意外退出" in line for line in list(running.lines)))
    assert f"one    | {'长' * 200_000}" in running.lines
    assert "one    | 尾" in running.lines


def test_the_portal_consists_of_web_workers_scheduler_and_station() -> None:
    listed = supervisor.services(host="127.0.0.1", port=8123, workers=2, station=True)
    assert [service.name for service in listed] == ["web", "worker.1", "worker.2", "scheduler", "station"]
    assert "127.0.0.1:8123" in listed[0].command
    assert [service.command[2:] for service in listed[1:]] == [
        ("worker",),
        ("worker",),
        ("scheduler",),
        ("station_agent", "--virtual", "--portal", "http://127.0.0.1:8123"),
    ]
    without = supervisor.services(host="::1", port=1, workers=0, station=False)
    assert [service.name for service in without] == ["web", "scheduler"]


def test_the_access_log_keeps_searches_out() -> None:
    """A query string may name a person (R-45): only the path is written."""
    assert "%(U)s" in supervisor.ACCESS_LOG_FORMAT
    assert not {"%(q)s", "%(r)s", "%(f)s"} & set(supervisor.ACCESS_LOG_FORMAT.split())


def test_a_taken_port_is_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(supervisor, "prepare", lambda *_given, **_named: pytest.fail("started"))
        assert supervisor.main(["--port", str(port)]) == 2
    assert f"127.0.0.1:{port} 已被占用" in capsys.readouterr().err


def test_the_server_script_sets_up_first() -> None:
    script = (Path(supervisor.ROOT) / "script" / "server").read_text()
    assert script.index("script/bootstrap") < script.index("portal.supervisor")
