"""Run the demo's steps in this process: tasks run where the demo would wait for its workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from django.conf import settings
from django.test import Client
from rich.console import Console

from portal.choices import TaskStatus
from portal.management.commands.demo import STEPS
from portal.management.demo import outcome, steps
from portal.management.demo.programme import set_up
from portal.management.demo.workers import Crew, look_after
from portal.models import Task, User
from portal.queue import run_task

RECORDS = 60
# A second package stops half-way, so that there are people whose data still stands.
HALF_WAY = 6


@dataclass(frozen=True)
class Finished:
    """The programme's people, one for each role, and what the run counted."""

    users: dict[str, User]
    counts: dict[str, int]

    def client(self, role: str) -> Client:
        """Return a browser signed in as somebody of the role."""
        client = Client()
        client.force_login(self.users[role])
        return client


def folders(folder: Path) -> dict[str, Any]:
    """Return the settings that keep files and keys in the folder."""
    default = settings.STORAGES["default"]
    options = default.get("OPTIONS", {}) | {"location": folder / "files"}
    return {
        "FILES_DIR": folder / "files",
        "KEYSTORE_DIR": folder / "keys",
        "INTAKE_DIR": folder / "intake",
        "STORAGES": settings.STORAGES | {"default": default | {"OPTIONS": options}},
    }


def run_programme(folder: Path) -> Finished:
    """Run one package through the whole job and a second one half-way."""
    programme = set_up(blanks_needed=4 * RECORDS)
    (folder / "accounts").mkdir()
    console = Console(quiet=True)
    with mock.patch.object(steps, "wait_for", work_off):
        whole = steps.Demo(programme, folder, RECORDS, console, Crew(0))
        for _label, step in STEPS:
            step(whole)
        for old in folder.glob("DEMO-*.scp"):
            old.unlink()
        half = steps.Demo(programme, folder, RECORDS, console, Crew(0))
        for _label, step in STEPS[:HALF_WAY]:
            step(half)
    users = {role: user for user in programme.users.values() for role in user.roles}
    return Finished(users, outcome.counts(whole))


def work_off(label: str, done: Callable[[], bool], console: Console, crew: Crew, *, since: int) -> None:
    """Run the tasks that wait, and those they lead to, until `done` says yes."""
    for _ in range(20):
        waiting = Task.objects.filter(pk__gt=since, status=TaskStatus.QUEUED).order_by("pk")
        for number in list(waiting.values_list("pk", flat=True)):
            run_task(number)
        failed = Task.objects.filter(pk__gt=since, status=TaskStatus.FAILED).first()
        assert failed is None, f"{label}: {failed} {failed.error_code} {failed.error_text}"
        look_after()
        if not waiting.exists() and done():
            return
    raise AssertionError(f"{label}: the work does not end")
