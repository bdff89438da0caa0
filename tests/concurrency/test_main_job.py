"""The whole main job with its workers killed again and again: exact balance, nothing lost or doubled (D7)."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Q, Sum
from rich.console import Console

from orders.models import CardholderRecord, IntakeChunk, Package
from orders.personal import number_index
from portal.audit import verify_chain
from portal.choices import TaskStatus
from portal.management.commands.demo import STEPS
from portal.management.demo import outcome, steps, workers
from portal.management.demo.programme import set_up
from portal.models import PendingRemoval, Task
from portal.queue import TASK_LOCK, sweep
from portal.samples.banks import BANKS
from portal.samples.package import SampleOrder
from production.choices import BatchStatus, MovementKind, Outcome
from production.models import Batch, BatchItem, Card, StockMovement
from tests.production.chain import in_files, in_redis, in_tables, sealed_roots, spellings

RECORDS = 120
CREW = 2
SEARCHED = 20  # of the people, for each is searched in every form
KILLS_A_STEP = 1
LONGEST_LIFE = 0.05  # seconds from the moment a worker is seen at a task to its end
# The steps of the job that hand work to workers: intake, accounts, preparation … destruction.
KILLED_STEPS = 8
WORKER = "killed-worker-"
AT_TASK = """
    SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = %s AND granted AND application_name LIKE 'killed-worker-%%'
"""
# A line bad enough that 120 cards see remakes, wrong cards and unknown ones.
RATES = {"LINE_WRONG_RATE": "0.03", "LINE_BAD_RATE": "0.03", "LINE_UNKNOWN_RATE": "0.02"}


class KilledCrew:
    """Workers as processes of their own: one that is at a task is killed, and replaced at once.

    Every step of the job costs some workers their lives, so that no step is spared.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.log = folder.with_suffix(".log")
        self.kills: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._step, self._over = "", threading.Event()
        self._running = [self._worker(place) for place in range(CREW)]
        self._killer = threading.Thread(target=self._kill)

    def look_after(self) -> None:
        """Do nothing: whoever kills a worker also replaces it."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Kill for the length of the block, then end whoever lives."""
        self._killer.start()
        try:
            yield
        finally:
            self._over.set()
            self._killer.join()
            for process in self._running:
                process.kill()
                process.wait()

    def step(self, label: str) -> None:
        """Count the kills from here on for another step."""
        self._step = label

    def _kill(self) -> None:
        with psycopg.connect(_test_database(), autocommit=True) as link:
            while not self._over.wait(0.01):
                at_task = link.execute(AT_TASK, [TASK_LOCK]).fetchall()
                if not at_task or self.kills[self._step] >= KILLS_A_STEP:
                    continue
                time.sleep(self._dice.uniform(0, LONGEST_LIFE))
                place = int(self._dice.choice(at_task)[0].removeprefix(WORKER))
                self._running[place].send_signal(signal.SIGKILL)
                self._running[place].wait()
                self.kills[self._step] += 1
                self._running[place] = self._worker(place)

    def _worker(self, place: int) -> subprocess.Popen[bytes]:
        environment = (
            os.environ
            | RATES
            | {
                "DATABASE_URL": f"{_test_database()}&application_name={WORKER}{place}",
                "FILES_DIR": str(settings.FILES_DIR),
                "KEYSTORE_DIR": str(settings.KEYSTORE_DIR),
                "LOG_LEVEL": "DEBUG",
                "TMPDIR": str(self.folder),
            }
        )
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "worker"]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _test_database() -> str:
    address = urlsplit(os.environ["DATABASE_URL"])
    return address._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


@pytest.fixture
def finished(
    transactional_db: None, redis_server: Any, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> steps.Demo:
    """Run the demo's steps from the sealed package to the statement under fire."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    monkeypatch.setattr(steps, "SPARES_AT_LEAST", 25)  # of so bad a line
    monkeypatch.setattr(steps, "SampleOrder", partial(SampleOrder, fault_rate=0.1, banks=BANKS[:3]))
    # What a killed worker held is woken after half a second here instead of half a minute.
    monkeypatch.setattr(workers, "SWEEP_SECONDS", 0.5)
    monkeypatch.setattr(workers, "sweep", lambda _stale: sweep(timedelta(seconds=0.5)))
    programme = set_up(blanks_needed=4 * RECORDS)
    (tmp_path / "accounts").mkdir()
    crew: Any = KilledCrew(seed=20261123, folder=tmp_path / "workers")
    demo = steps.Demo(programme, tmp_path, RECORDS, Console(file=io.StringIO()), crew)
    with crew.at_work():
        for label, step in STEPS:
            crew.step(label)
            step(demo)
    return demo


@pytest.mark.timeout(900)  # every kill costs the start of a process
def test_killed_workers_cost_no_card_and_make_none_twice(finished: steps.Demo, redis_server: Any) -> None:
    """Issue: workers killed at any moment of the main job; in = out, to the card (R-9, R-20).

    And nobody is named in what the processes, killed or not, said and left behind (R-45).
    """
    crew: Any = finished.crew
    assert len(crew.kills) >= KILLED_STEPS - 2, crew.kills  # a step may be over before it is hit
    assert finished.all_are(BatchStatus.DESTROYED)
    assert_balanced(outcome.counts(finished))
    assert_every_position_has_one_good_card(finished)
    assert_blanks_add_up(finished)
    assert_nothing_is_left()
    assert_nobody_is_named(crew, redis_server)


def assert_nobody_is_named(crew: KilledCrew, redis: Any) -> None:
    """Search tables, Redis, stored and temporary files and the workers' log at DEBUG for people."""
    drawn = list(
        SampleOrder(count=RECORDS, fault_rate=0.1, banks=BANKS[:3], issue_date=steps.today()).people()
    )
    people = random.Random(1).sample(drawn, SEARCHED)
    planted = [value for each in people for value in (each.number, each.name, each.card_number)]
    # The very people: their cards are known by blind index.
    assert Card.objects.filter(number_index__in=[number_index(each.number) for each in people]).exists()
    log = crew.log.read_bytes()
    assert log.count(b"DEBUG") > 20
    assert [each for each in planted if any(form in log for form in spellings(each))] == []
    assert in_tables(planted) == set()
    assert in_redis(planted, redis) == set()
    assert in_files(planted, *sealed_roots(), crew.folder) == set()


def assert_balanced(counts: dict[str, int]) -> None:
    """Check every equation of the demo and that no record went missing on the way in."""
    sums = {left: (counts[left], sum(counts[name] for name in right)) for left, right, _ in outcome.BALANCES}
    assert {left: total for left, (total, _) in sums.items()} == {
        left: total for left, (_, total) in sums.items()
    }
    assert counts["in"] == RECORDS
    assert counts["signed"] == counts["ordered"] > RECORDS / 2


def assert_every_position_has_one_good_card(demo: steps.Demo) -> None:
    """Check that each ordered card was made well exactly once, and no blank was used twice."""
    cards = Card.objects.filter(batch__in=demo.batch_ids)
    good = BatchItem.objects.filter(batch__in=demo.batch_ids).annotate(
        good=Count("cards", filter=Q(cards__outcome=Outcome.GOOD))
    )
    assert set(good.values_list("good", flat=True)) == {1}
    assert set(cards.values_list("outcome", flat=True)) <= {Outcome.GOOD, Outcome.REJECTED}
    assert cards.filter(outcome=Outcome.REJECTED).exists()
    assert cards.values("lot", "serial").distinct().count() == cards.count()
    accepted = cards.filter(accepted_on__isnull=False)
    assert accepted.count() == accepted.values("carton", "carton_position").distinct().count()
    assert not Batch.objects.filter(pk__in=demo.batch_ids).annotate(n=Count("items")).exclude(quantity=F("n"))


def assert_blanks_add_up(demo: steps.Demo) -> None:
    """Check for each batch: withdrawn = good + spoiled + samples + returned, as the ledger has it (R-21)."""
    moved = StockMovement.objects.filter(batch__in=demo.batch_ids).values_list("batch", "kind")
    ledger: Counter[tuple[int, str]] = Counter()
    for batch, kind, quantity in moved.annotate(total=Sum("quantity")).order_by("batch"):
        ledger[batch, kind] += quantity
    for batch in demo.batch_ids:
        cards = Card.objects.filter(batch=batch)
        good, used = cards.filter(outcome=Outcome.GOOD).count(), cards.count()
        assert ledger[batch, MovementKind.GOOD] == good
        assert ledger[batch, MovementKind.SPOILAGE] == used - good
        gone = used + ledger[batch, MovementKind.SAMPLE] + ledger[batch, MovementKind.RETURN]
        assert ledger[batch, MovementKind.WITHDRAWAL] == gone


def assert_nothing_is_left() -> None:
    """Check that no task waits, no raw row or record in production remains, and the audit holds."""
    assert set(Task.objects.values_list("status", flat=True)) == {TaskStatus.DONE}
    assert not IntakeChunk.objects.exists()
    assert not PendingRemoval.objects.exists()
    assert not CardholderRecord.objects.filter(batch_item__isnull=False).exists()
    assert Package.objects.get().status == "validated"
    assert verify_chain()[1] is None
