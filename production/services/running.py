"""Making the cards of a prepared batch, and bringing a batch on when all its runs are through (R-16)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.utils import timezone

from portal.audit import unit_of_work
from portal.bulk import update_from
from portal.core.errors import InputRefusedError
from portal.files import write_sealed
from portal.models import User
from portal.queue import schedule
from portal.roles import require
from portal.workflow import locked, move
from production.choices import BatchStatus, ItemStatus, Outcome, PlanStatus, RunStatus
from production.files import report_name, run_label
from production.line.made import NOT_REPORTED, LineOutcome, MadeCard
from production.line.report import write_report
from production.line.virtual import LineRates, VirtualLine
from production.models import Batch, BatchItem, Card, MachineFile
from production.selectors.batches import machine_cards, runs_of_pass

MAKE_RUN = "production.jobs.make_run"
MACHINES = 2
_OUTCOMES = {
    LineOutcome.MADE: Outcome.MADE,
    LineOutcome.BAD: Outcome.REJECTED,
    LineOutcome.UNKNOWN: Outcome.UNKNOWN,
}
# What a card's outcome makes of its position; a rejected card leaves it waiting for the next one.
POSITION = {
    Outcome.MADE: ItemStatus.PREPARED,
    Outcome.GOOD: ItemStatus.GOOD,
    Outcome.REJECTED: ItemStatus.PENDING,
    Outcome.UNKNOWN: ItemStatus.UNKNOWN,
}


class ForeignCardError(InputRefusedError):
    """The line reports a serial that the run does not hold or that has its outcome already."""

    code = "foreign_card"


@dataclass(slots=True)
class Results:
    """What the line reported on a run, ready for the card rows."""

    waiting: dict[str, tuple[int, int]]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    items: dict[Outcome, list[int]] = field(default_factory=dict)

    def take(self, made: MadeCard) -> None:
        """Add one card's report; raise ForeignCardError for a card that is not expected."""
        if made.serial not in self.waiting:
            raise ForeignCardError("生产报告中的卡不属于这一分块，或重复报告", got=made.serial)
        outcome = _OUTCOMES[made.outcome]
        self._add(made.serial, outcome, made.reason, made.machine, made.operator, made.finished_at)

    def close(self) -> None:
        """Count what was not reported as unknown: nobody knows whether it was made (D8)."""
        for serial in list(self.waiting):
            self._add(serial, Outcome.UNKNOWN, NOT_REPORTED, "", "", None)

    def _add(self, serial: str, outcome: Outcome, *values: object) -> None:
        card_id, item_id = self.waiting.pop(serial)
        self.rows.append((card_id, outcome.value, *values))
        self.items.setdefault(outcome, []).append(item_id)


def run_batch(batch: Batch, *, actor: User) -> Batch:
    """Send a prepared batch to the line; of two clicks at once the second is refused."""
    require(actor, "production.run_batch", batch)
    with unit_of_work(actor):
        moved = move(batch, BatchStatus.RUNNING, actor=actor, details={"pass": batch.pass_number})
        for run in runs_of_pass(moved):
            schedule(MAKE_RUN, run, actor=actor, queue="bulk")
    return moved


def play_run(run: MachineFile, *, actor: User) -> None:
    """Let the virtual line make a prepared run, keep its sealed report and settle the cards from it.

    Nothing when that is done already: the line's dice depend on batch and serial alone, so a second try
    after a kill reports the same.
    """
    with unit_of_work(actor):
        fresh = locked(run)
        if fresh.status != RunStatus.PREPARED:
            return
        results = Results(_waiting(fresh))
        with write_sealed(report_name(fresh), fresh.batch.key_id) as sink:
            count = write_report(sink, run_label(fresh), _noted(_made(fresh), results))
        results.close()
        counts = {outcome.value: len(items) for outcome, items in results.items.items()}
        details = {"reported": count, "counts": counts}
        move(fresh, RunStatus.MADE, actor=actor, details=details, report_name=report_name(fresh))
        _settle(results)


def advance_batch(batch_id: int) -> Batch | None:
    """Bring a batch on when every run of its pass is through the present step; return it, or None.

    Any number of calls at any time do it once.
    """
    with unit_of_work(User.objects.system()) as work:
        batch = Batch.objects.select_for_update(of=("self",)).get(pk=batch_id)
        step = {
            BatchStatus.PREPARING: (RunStatus.QUEUED, BatchStatus.PREPARED),
            BatchStatus.RUNNING: (RunStatus.PREPARED, BatchStatus.INSPECTING),
        }.get(BatchStatus(batch.status))
        if step is None or runs_of_pass(batch).filter(status=step[0]).exists():
            return None
        return move(batch, step[1], actor=work.actor, details={"pass": batch.pass_number})


def _waiting(run: MachineFile) -> dict[str, tuple[int, int]]:
    cards = Card.objects.filter(machine_file=run, outcome=Outcome.PENDING)
    return {serial: (pk, item) for serial, pk, item in cards.values_list("serial", "id", "item_id")}


def _made(run: MachineFile) -> Iterator[MadeCard]:
    rates = LineRates(settings.LINE_WRONG_RATE, settings.LINE_BAD_RATE, settings.LINE_UNKNOWN_RATE)
    line = line_of(run, rates)
    return line.make(machine_cards(run), starts_at=timezone.now())


def line_of(run: MachineFile, rates: LineRates) -> VirtualLine:
    """Return the virtual line as it runs this file: seeded by the batch, under the plan's leader."""
    leader = (
        run.batch.plans.filter(status=PlanStatus.APPROVED).values_list("leader__name", flat=True).first()
        or ""
    )
    return VirtualLine(run.batch.number, rates, machine=f"LINE-{run.part % MACHINES + 1}", operator=leader)


def _noted(made: Iterator[MadeCard], results: Results) -> Iterator[MadeCard]:
    for card in made:
        results.take(card)
        yield card


def _settle(results: Results) -> None:
    update_from(
        Card,
        ["id"],
        ["outcome", "reason", "machine", "operator", "made_at"],
        sorted(results.rows),
    )
    for outcome, items in results.items.items():
        BatchItem.objects.filter(pk__in=items).update(status=POSITION[outcome])
