"""A counter with everything real: portal over HTTP, Redis, pcscd, a card behind vpcd, a printer, an agent."""

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
from django.core.cache import caches

from production.personalization.blank import chip_serial
from stations.models import Issuance, Station
from tests.stations.counter import Counter, make_counter

PATIENCE = 40.0


class Shop:
    """A counter and the agents started at it."""

    def __init__(self, counter: Counter, url: str, folder: Path) -> None:
        self.counter = counter
        self.url = url
        self.credential = folder / "credential"
        self.credential.touch(mode=0o600)
        self.credential.write_text(counter.credential)
        self._agents: list[subprocess.Popen[str]] = []
        self._logs = folder

    def start_agent(
        self, *options: str, url: str = "", redis: str = "", card_seconds: float = 20, online: bool = True
    ) -> subprocess.Popen[str]:
        """Start the agent and wait until the portal knows its devices."""
        Station.objects.update(last_seen_at=None)
        command = ["-m", "stations.agent", "--code", self.counter.station.code, "--portal", url or self.url]
        command += ["--credential-file", str(self.credential), "--heartbeat-seconds", "0.3"]
        command += ["--card-seconds", str(card_seconds), *options]
        environment = os.environ | {"STATION_REDIS_URL": redis or settings.REDIS_URL}
        with self.log.open("a") as log:
            agent = subprocess.Popen(
                [sys.executable, *command],
                cwd=settings.BASE_DIR, env=environment, stdout=log, stderr=log, text=True,
            )  # fmt: skip
        self._agents.append(agent)
        if online:
            self.until(lambda: Station.objects.get().last_seen_at is not None)
        return agent

    @property
    def log(self) -> Path:
        """Return where the agents' words stand."""
        return self._logs / "agent.log"

    def blank(self) -> tuple[str, str]:
        """Return the next blank's serial, and the same as the option of a virtual card."""
        serial = self.counter.blank()
        return serial, chip_serial(serial).hex()

    def until(self, check: Callable[[], Any], seconds: float = PATIENCE) -> None:
        """Wait until something is so; show the agents' words when it is not."""
        deadline = time.monotonic() + seconds
        while not check():
            if time.monotonic() > deadline:
                said = self.log.read_text() if self.log.exists() else ""
                told = list(Issuance.objects.values("status", "reason", "reason_text", "print_state", "step"))
                raise AssertionError(f"did not happen in time: {told}\n{said[-3000:]}")
            time.sleep(0.05)

    def reaches(self, issuance: Issuance, *states: str, seconds: float = PATIENCE) -> Issuance:
        """Wait until an issuance is in one of these states and return it."""
        self.until(lambda: Issuance.objects.get(pk=issuance.pk).status in states, seconds)
        return Issuance.objects.get(pk=issuance.pk)

    def kill(self, agent: subprocess.Popen[str]) -> None:
        """End an agent as kill -9 does."""
        agent.send_signal(signal.SIGKILL)
        agent.wait()

    def close(self) -> None:
        """End all agents."""
        for agent in self._agents:
            agent.kill()
            agent.wait()


@pytest.fixture
def shop(transactional_db: None, redis_server: Any, live_server: Any, tmp_path: Path) -> Iterator[Shop]:
    """Return a counter whose portal answers on a port."""
    for cache in ("limits", "limits_of_process"):
        caches[cache].clear()
    made = Shop(make_counter(), live_server.url, tmp_path)
    yield made
    made.close()
