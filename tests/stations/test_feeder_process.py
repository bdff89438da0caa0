"""A batch through real parts: agent process, Redis, pcscd, a hopper of virtual cards behind vpcd."""

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
from django.conf import settings as portal_settings

from production.choices import BatchStatus
from production.models import Batch, Card
from production.personalization.blank import chip_serial
from production.services import cards
from production.services.closing import close_batch
from production.services.running import run_batch
from quality.jobs import advance_all as conclude
from quality.services.inspection import inspect_batch
from stations.models import FeederRun, Issuance, Station
from tests.production.stages import set_rates
from tests.production.world import run_queued, work_off
from tests.stations.pcsc import CARD_READER, ROOT, Pcscd
from tests.stations.plant import Plant, make_plant, outcomes

PATIENCE = 60.0


@pytest.fixture
def plant(transactional_db: None, redis_server: Any, live_server: Any, settings: Any) -> Plant:
    set_rates(settings)
    return make_plant()


@pytest.fixture
def start(plant: Plant, live_server: Any, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the agent, again and again, with one journal."""
    credential = tmp_path / "credential"
    credential.touch(mode=0o600)
    credential.write_text(plant.credential)
    agents: list[subprocess.Popen[str]] = []

    def run(*options: str) -> subprocess.Popen[str]:
        command = ["-m", "stations.agent", "--code", "p-1", "--portal", live_server.url, "--no-printer"]
        command += ["--credential-file", str(credential), "--heartbeat-seconds", "0.3", *options]
        Station.objects.update(last_seen_at=None, report={})
        with (tmp_path / "log").open("a") as log:
            agent = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, stdout=log, stderr=log, text=True,
                env=os.environ | {"STATION_REDIS_URL": portal_settings.REDIS_URL},
            )  # fmt: skip
        agents.append(agent)
        until(lambda: bool(Station.objects.get().report.get("readers")), tmp_path)
        return agent

    yield run
    for agent in agents:
        agent.kill()
        agent.wait()


def until(check: Callable[[], Any], folder: Path) -> None:
    """Wait until something is so; show the agents' words when it is not."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > deadline:
            told = list(FeederRun.objects.values("status", "reason", "reason_text"))
            tries = list(Issuance.objects.values_list("status", "reason"))
            raise AssertionError(f"{told} {tries} {(folder / 'log').read_text()[-3000:]}")
        time.sleep(0.05)


@pytest.fixture
def feeder(pcscd: Pcscd) -> Iterator[Callable[[Batch, dict[int, str]], None]]:
    """Put a batch's blanks into a hopper behind pcscd."""
    desks: list[subprocess.Popen[str]] = []

    def fill(batch: Batch, faults: dict[int, str]) -> None:
        waiting = Card.objects.filter(batch=batch, outcome="pending").order_by("item__sequence")
        serials = [chip_serial(serial).hex() for serial in waiting.values_list("serial", flat=True)]
        told = [f"{serial}:{faults[at]}" if at in faults else serial for at, serial in enumerate(serials)]
        command = [
            sys.executable,
            "-m",
            "stations.virtual",
            "--port",
            str(pcscd.port),
            "--hopper",
            ",".join(told),
        ]
        desks.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True))

    yield fill
    for desk in desks:
        desk.kill()
        desk.communicate()


def test_a_batch_with_a_bad_card_and_a_killed_agent_balances_and_is_made_once(
    plant: Plant, start: Callable[..., subprocess.Popen[str]], feeder: Callable[..., None], tmp_path: Path
) -> None:
    """D8, R-21: five blanks, the second bad, kill -9 in the third; the agent goes on by itself."""
    batch = plant.batch(5, blanks=7)
    feeder(batch, {1: "status@5=6F00", 2: "slow=15"})
    agent = start("--reader", CARD_READER)
    run = plant.start(batch)
    journal = tmp_path / "credential.journal"

    def in_the_third() -> bool:
        words = journal.read_text().split()
        return Issuance.objects.count() == 3 and words[1:2] == ["2"] and int(words[2]) > 30

    until(in_the_third, tmp_path)
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    assert outcomes(batch) == ["made", "rejected", "pending", "pending", "pending"]
    start("--reader", CARD_READER)
    until(lambda: FeederRun.objects.get(pk=run.pk).status != "running", tmp_path)
    run.refresh_from_db()
    assert (run.status, run.reason_text) == ("ended", "")
    assert outcomes(batch) == ["made", "rejected", "unknown", "made", "made"]
    assert Issuance.objects.count() == 5

    batch = inspected(plant, batch)
    assert batch.status == BatchStatus.PREPARED, "the spoiled card's position is made again"
    unknown = Card.objects.get(outcome="unknown")
    decision = cards.request_unknown_decision(
        unknown, outcome="rejected", evidence="写卡中断", actor=plant.world.operator
    )
    cards.decide_unknown(decision, approve=True, actor=plant.world.quality)
    for _ in range(2):  # the rest on the line, which takes over as if it had made the others
        batch = inspected(plant, work_off(run_batch(batch, actor=plant.world.operator)))
    assert batch.status == BatchStatus.INSPECTED
    closed = close_batch(batch, good=5, rejected=2, samples=0, returned=0, actor=plant.world.operator)
    assert closed.status == BatchStatus.CLOSED


def inspected(plant: Plant, batch: Batch) -> Batch:
    """Have the pass read back; what is missing is prepared again by itself."""
    inspect_batch(batch, actor=plant.world.quality)
    run_queued()
    conclude()
    return work_off(batch)
