"""Many hands at once and workers killed at any moment: no blank overdrawn, no card lost or doubled (D7)."""

from __future__ import annotations

from typing import Any

import pytest

from portal.audit import verify_chain
from portal.choices import TaskStatus
from portal.models import AuditEntry, Task
from portal.queue import run_task
from production.choices import BatchStatus, Outcome, RunStatus
from production.models import Batch, Card, MachineFile, StockMovement
from production.selectors.batches import line_report, machine_cards, outcome_counts
from production.selectors.stock import balance, batch_blanks
from production.services import planning, preparation, running, stock
from tests.concurrency.rivals import at_once, killed_at
from tests.production.world import World, build_world, run_queued, work_off

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(transactional_db: None, settings: Any) -> World:
    settings.LINE_WRONG_RATE, settings.LINE_BAD_RATE, settings.LINE_UNKNOWN_RATE = 0.0, 0.2, 0.1
    return build_world()


class TestStock:
    def test_twenty_threads_withdraw_the_last_hundred_blanks(self, world: World) -> None:
        """R-21: ten requests of ten fit; the other ten are refused and the balance is exactly zero."""
        batch = planning.plan_batches(world.order(200), actor=world.planner)[0]
        world.approve(batch)
        lot = world.lot(100)
        requests = [stock.request_withdrawal(batch, lot, 10, actor=world.keeper) for _ in range(20)]
        found = at_once(
            [
                lambda request=request: stock.decide_request(request, approve=True, actor=world.keeper_two)
                for request in requests
            ]
        )
        assert found == {"True": 10, "stock_short": 10}
        assert (balance(lot, "warehouse"), balance(lot, "floor")) == (0, 100)
        assert batch_blanks(batch).withdrawn == 100
        assert StockMovement.objects.filter(kind="withdrawal").count() == 10

    def test_one_request_is_decided_once(self, world: World) -> None:
        batch = planning.plan_batches(world.order(5), actor=world.planner)[0]
        world.approve(batch)
        lot = world.lot(100)
        request = stock.request_withdrawal(batch, lot, 10, actor=world.keeper)
        decide = lambda: stock.decide_request(request, approve=True, actor=world.keeper_two)  # noqa: E731
        assert at_once([decide] * 8) == {"True": 1, "transition_refused": 7}
        assert balance(lot, "warehouse") == 90

    def test_batches_that_share_lots_never_share_a_serial(self, world: World) -> None:
        """R-25: four batches prepared at once from two lots; also no dead lock."""
        batches = planning.plan_batches(world.order(80), batch_size=20, actor=world.planner)
        lots = [world.lot(40), world.lot(40, prefix="FS26B")]
        for batch in batches:
            world.approve(batch)
            for lot in lots if batch.pk % 2 else reversed(lots):
                world.withdraw(batch, lot, 10)
        found = at_once(
            [lambda batch=batch: preparation.prepare_batch(batch, actor=world.operator) for batch in batches]
        )
        assert found == {"True": 4}
        assert Card.objects.values("serial").distinct().count() == Card.objects.count() == 80


class TestClicks:
    def test_two_clicks_on_run(self, world: World) -> None:
        """One of many clicks wins; the others are told that the state no longer allows it."""
        batch = world.prepared(3)
        click = lambda: running.run_batch(batch, actor=world.operator)  # noqa: E731
        assert at_once([click] * 6) == {"True": 1, "transition_refused": 5}
        assert Task.objects.filter(handler=running.MAKE_RUN).count() == 1
        assert AuditEntry.objects.filter(action="batch.running").count() == 1

    def test_two_clicks_on_prepare(self, world: World) -> None:
        batch = world.released(3)
        click = lambda: preparation.prepare_batch(batch, actor=world.operator)  # noqa: E731
        assert at_once([click] * 6) == {"True": 1, "transition_refused": 5}
        assert Card.objects.filter(batch=batch).count() == 3

    def test_two_proposals(self, world: World) -> None:
        """R-15: a batch has one open plan."""
        batch = planning.plan_batches(world.order(3), actor=world.planner)[0]
        assert at_once([lambda: world.propose(batch)] * 4) == {"True": 1, "conflict": 3}

    def test_duplicates_of_a_task_run_once(self, world: World) -> None:
        batch = world.released(4)
        preparation.prepare_batch(batch, actor=world.operator)
        task = Task.objects.get(handler=preparation.PREPARE_RUN)
        assert at_once([lambda: run_task(task.pk)] * 5) == {"True": 1, "False": 4}
        assert AuditEntry.objects.filter(action="machinefile.prepared").count() == 1

    def test_many_sweepers_advance_a_batch_once(self, world: World) -> None:
        batch = world.prepared(2)
        Batch.objects.filter(pk=batch.pk).update(status=BatchStatus.PREPARING)
        found = at_once([lambda: running.advance_batch(batch.pk) is not None] * 6)
        assert found == {"True": 1, "False": 5}
        assert AuditEntry.objects.filter(action="batch.prepared").count() == 2


WORK = "production.services.machine_files"
PREPARING = [
    (f"{WORK}.build_chip", 1),  # before anything is written
    (f"{WORK}.build_chip", 3),  # in the middle of the machine file
    (f"{WORK}._send_back", 1),  # the file stands, the rows do not
    ("portal.audit._append", 1),  # the rows are written, nothing is committed
    ("production.jobs.advance_batch", 1),  # committed, the batch not yet brought on
]
MAKING = [
    ("production.services.running.write_report", 1),
    ("production.line.report._as_json", 2),
    ("production.services.running._settle", 1),
    ("portal.audit._append", 1),
    ("production.jobs.advance_batch", 1),
]


class TestKilledWorkers:
    @pytest.mark.parametrize(("point", "call_number"), PREPARING)
    def test_preparation_survives(
        self, world: World, monkeypatch: pytest.MonkeyPatch, point: str, call_number: int
    ) -> None:
        """A worker killed at this point and started again: every position has its one card in one file."""
        monkeypatch.setattr(preparation, "RUN_SIZE", 4)
        batch = world.released(8)
        preparation.prepare_batch(batch, actor=world.operator)
        assert killed_at(point, call_number, run_queued)
        assert work_off(batch).status == BatchStatus.PREPARED
        self._check_files(batch, 8)

    @pytest.mark.parametrize(("point", "call_number"), MAKING)
    def test_making_survives(
        self, world: World, monkeypatch: pytest.MonkeyPatch, point: str, call_number: int
    ) -> None:
        """R-21: the line's report and the cards' outcomes agree, and each card has exactly one of each."""
        monkeypatch.setattr(preparation, "RUN_SIZE", 4)
        batch = running.run_batch(world.prepared(8), actor=world.operator)
        assert killed_at(point, call_number, run_queued)
        assert work_off(batch).status == BatchStatus.INSPECTING
        self._check_files(batch, 8)
        reported = {
            made.serial: made for run in MachineFile.objects.filter(batch=batch) for made in line_report(run)
        }
        cards = Card.objects.filter(batch=batch)
        assert {card.serial: card.made_at for card in cards} == {
            serial: made.finished_at for serial, made in reported.items()
        }
        assert outcome_counts(batch)["pending"] == 0
        assert AuditEntry.objects.filter(action="machinefile.made").count() == 2
        assert AuditEntry.objects.filter(action="batch.inspecting").count() == 1

    def test_a_worker_killed_again_and_again_gives_the_task_up(self, world: World) -> None:
        """What kills every worker must not come back for ever; the card rows wait for a person."""
        batch = world.released(2)
        preparation.prepare_batch(batch, actor=world.operator)
        task = Task.objects.get(handler=preparation.PREPARE_RUN)
        for _ in range(5):
            assert killed_at(f"{WORK}.build_chip", 1, lambda: run_task(task.pk))
        assert not run_task(task.pk)
        task.refresh_from_db()
        assert (task.status, task.error_code) == (TaskStatus.FAILED, "too_many_attempts")
        assert MachineFile.objects.get(batch=batch).status == RunStatus.QUEUED
        assert set(Card.objects.values_list("outcome", flat=True)) == {Outcome.PENDING}

    def _check_files(self, batch: Batch, count: int) -> None:
        runs = MachineFile.objects.filter(batch=batch).order_by("part")
        written = [card.blank_serial for run in runs for card in machine_cards(run)]
        assert len(written) == len(set(written)) == count
        assert set(written) == set(Card.objects.filter(batch=batch).values_list("serial", flat=True))
        assert Card.objects.values("item").distinct().count() == count
        assert AuditEntry.objects.filter(action="machinefile.prepared").count() == runs.count()
        assert verify_chain()[1] is None
        assert not Task.objects.exclude(status=TaskStatus.DONE).exists()
