"""Run the demo's steps in this process: tasks run where the demo would wait for its workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from django.conf import settings
from django.test import Client
from rest_framework.test import APIClient
from rich.console import Console

from orders.dictionary import COLUMN_CODES
from orders.models import DeliveryPoint
from portal.choices import Role, TaskStatus
from portal.core.clock import today
from portal.management.commands.demo import STEPS
from portal.management.demo import outcome, steps
from portal.management.demo.programme import COUNTER_BANK, Programme, set_up
from portal.management.demo.workers import Crew, look_after
from portal.models import Organisation, Task, User
from portal.queue import run_task
from portal.samples.banks import BankSpec
from portal.samples.people import people
from portal.samples.photos import draw_bust, encode_to_weight
from stations.models import Station, StationBlank
from stations.services.blanks import close_day
from stations.services.cases import CasePerson, decide_case, open_case
from stations.services.issuance import confirm_look, start_issuance
from stations.services.registry import enrol_station
from tests.stations.counter import Agent

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
    counts = outcome.counts(whole)
    work_at_the_counter(programme)
    return Finished(users, counts)


def work_at_the_counter(programme: Programme) -> None:
    """Make one good card at the bank's counter, leave a case undecided, close the day."""
    bank = programme.banks[COUNTER_BANK]
    operator = programme.person(Role.COUNTER_OPERATOR, bank)
    supervisor = programme.person(Role.COUNTER_SUPERVISOR, bank)
    station = Station.objects.get(code="demo-1")
    station, credential = enrol_station(station, actor=programme.person(Role.SECURITY_ADMINISTRATOR))
    for place in (1, 2):
        case = open_case(_newcomer(bank, place), station=station, reason="住院急用", actor=operator)
        if place == 1:
            record = decide_case(case, approve=True, actor=supervisor).record
            assert record is not None
            serial = StationBlank.objects.filter(status="available").earliest("serial").serial
            issuance = start_issuance(record, station=station, serial=serial, actor=operator)
            agent = Agent(agent_client(station.code, credential))
            agent.insert(serial)
            agent.make(issuance)
            agent.print(issuance, "submitted", "completed")
            issuance.refresh_from_db()
            confirm_look(issuance, good=True, actor=operator)
    left = StationBlank.objects.filter(station=station, status="available").count()
    close_day(station, counted=left, actor=supervisor)


def _newcomer(bank: Organisation, place: int) -> CasePerson:
    points = DeliveryPoint.objects.filter(bank=bank).values_list("code", flat=True)
    specs = [BankSpec(bank.code, bank.name, tuple(points))]
    (person,) = people(1, 7, specs, issue_date=today(), start=900_000 + place)
    row = dict(zip(COLUMN_CODES, replace(person, card_kind="finished").row(1), strict=True))
    del row["seq"]
    return CasePerson(row, encode_to_weight(draw_bust("newcomer")), f"62220212345678901{place:02d}")


def agent_client(code: str, credential: str) -> APIClient:
    """Return what calls as a station."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Station {code}:{credential}")
    return client


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
