"""Intake under real threads and killed processes: one wins, and no record is lost or doubled (R-9)."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection, connections

from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, IntakeChunk, Package
from orders.services import chunks
from orders.services.intake import open_package
from orders.services.packages import receive_package
from orders.services.refusals import ReplayedError
from portal.audit import verify_chain
from portal.choices import TaskStatus
from portal.core import clock
from portal.models import AuditEntry, Task
from portal.queue import run_task
from portal.samples.hostile import honest_members
from portal.samples.package import SampleOrder
from tests.orders.intake.world import World, actions, run_tasks

WORKER = """
import random, django
django.setup()
from portal.models import Task
from portal.queue import run_task
list(Task.objects.all())
print("ready", flush=True)
while waiting := list(Task.objects.filter(status="queued").values_list("pk", flat=True)):
    run_task(random.choice(waiting))
"""
KILLS = 4  # below portal.queue.MAX_ATTEMPTS, should the same task be hit each time


def in_threads(*works: Callable[[], object]) -> list[object]:
    """Run all at once, each on its own connection; return results or exceptions in order."""
    barrier = threading.Barrier(len(works))
    results: list[object] = [None] * len(works)

    def run(place: int, work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[place] = work()
        except Exception as exc:  # noqa: BLE001 - the test looks at it
            results[place] = exc
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("other", ["the same file", "the same number", "the same content"])
def test_of_two_uploads_at_once_exactly_one_wins(world: World, other: str) -> None:
    """R-46: the loser's file and keys are gone, and its refusal is on record."""
    first = world.container()
    second = world.container(6) if other == "the same number" else first
    results = in_threads(*(partial(receive, world, container) for container in (first, second)))
    won = [result for result in results if isinstance(result, Package)]
    lost = [result for result in results if isinstance(result, ReplayedError)]
    assert (len(won), len(lost)) == (1, 1)
    statuses = sorted(Package.objects.values_list("status", "refusal_code"))
    assert statuses == [(PackageStatus.RECEIVED, ""), (PackageStatus.REFUSED, "replayed")]
    stored = [path for path in Path(settings.FILES_DIR).rglob("*") if path.is_file()]
    assert [path.relative_to(settings.FILES_DIR) for path in stored] == [Path(won[0].stored_name)]
    assert len([path for path in Path(settings.KEYSTORE_DIR).glob("*.key") if len(path.stem) == 32]) == 2
    assert sorted(actions()) == ["package.received", "package.refused"]
    assert verify_chain() == (2, None)


def test_two_packages_of_the_same_people_checked_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-9: whichever comes first, each person has one open record, and no check waits for ever."""
    count = 60
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 10)
    packages = [
        world.receive(world.container(count, number="P-1")),
        world.receive(reversed_rows(world, count)),
    ]
    for package in packages:
        open_package(package, actor=world.clerk)
    parts = [list(Task.objects.filter(subject_id=p.pk, handler__endswith="check_chunk")) for p in packages]
    in_threads(*(partial(run_all, tasks) for tasks in parts))
    run_tasks()
    opened = CardholderRecord.objects.filter(status=RecordStatus.ACCEPTED)
    assert opened.count() == opened.values("number_index").distinct().count() == count
    assert CardholderRecord.objects.filter(problem_codes=["already_in_production"]).count() == count
    for package in packages:
        package.refresh_from_db()
        assert package.status == PackageStatus.VALIDATED
        assert package.record_count == count == (package.accepted_count or 0) + (package.returned_count or 0)
    checks = Task.objects.filter(handler__endswith="check_chunk")
    assert set(checks.values_list("status", "attempts")) == {(TaskStatus.DONE, 1)}
    assert verify_chain()[1] is None


def receive(world: World, container: bytes) -> Package:
    return receive_package(io.BytesIO(container), file_name="p", actor=world.clerk)


def run_all(tasks: list[Task]) -> list[bool]:
    return [run_task(task.pk) for task in tasks]


def reversed_rows(world: World, count: int) -> bytes:
    """Seal the same people in the opposite order."""
    order = SampleOrder(count, fault_rate=0, issue_date=clock.today())
    members = honest_members(order, world.head("P-2"))
    heading, *rows = members["records.csv"].splitlines(keepends=True)
    return world.container_of(members | {"records.csv": b"".join([heading, *reversed(rows)])}, "P-2")


def test_killed_workers_lose_and_double_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue: kill any worker at any moment and start it again; the counts are exact (D7, R-9)."""
    count = 300
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 15)
    inner_report = world.inner(count, fault_rate=0.1)[1]
    package = world.receive(world.container(count, fault_rate=0.1))
    open_package(package, actor=world.clerk)
    Task.objects.filter(handler="orders.jobs.open_package").update(status=TaskStatus.DONE)
    rng = random.Random(20261123)
    for _ in range(KILLS):
        pair = [start_worker(), start_worker()]
        wait_for_ready(pair)
        time.sleep(rng.uniform(0.01, 0.1))
        for worker in pair:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
    last = start_worker()
    wait_for_ready([last])
    assert last.wait(120) == 0
    package.refresh_from_db()
    assert package.status == PackageStatus.VALIDATED
    assert (package.record_count, package.returned_count) == (count, len(inner_report.bad))
    assert package.accepted_count == count - len(inner_report.bad)
    rows = CardholderRecord.objects.order_by("row_number").values_list("row_number", "version")
    assert list(rows) == [(number, 1) for number in range(1, count + 1)]
    assert not IntakeChunk.objects.exists()
    assert AuditEntry.objects.filter(action="package.validated").count() == 1
    assert verify_chain()[1] is None


def start_worker() -> subprocess.Popen[bytes]:
    """Start a process of its own on the test's database, files and keys."""
    address = urlsplit(os.environ["DATABASE_URL"])
    environment = os.environ | {
        "DATABASE_URL": address._replace(path=f"/{connection.settings_dict['NAME']}").geturl(),
        "FILES_DIR": str(settings.FILES_DIR),
        "KEYSTORE_DIR": str(settings.KEYSTORE_DIR),
        "PYTHONPATH": str(settings.BASE_DIR),
    }
    return subprocess.Popen([sys.executable, "-c", WORKER], env=environment, stdout=subprocess.PIPE)


def wait_for_ready(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        worker.stdout.close()
