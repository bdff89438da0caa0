"""Batches made at a station with a feeder instead of on the line: reported card by card, then the same."""

from __future__ import annotations

from collections.abc import Sequence

from portal.audit import unit_of_work
from portal.core.errors import ConflictError, InputRefusedError
from portal.files import write_sealed
from portal.models import User
from portal.roles import require
from portal.workflow import locked, move
from production.choices import BatchStatus, Outcome, RunStatus
from production.files import report_name, run_label
from production.line.made import MadeCard
from production.line.report import write_report
from production.models import Batch, Card, MachineFile
from production.selectors.batches import outcome_counts, runs_of_pass
from production.services.counter import CounterReport, note_outcome
from production.services.running import advance_batch


class BatchTooLargeError(InputRefusedError):
    """A pass with more cards than stations make, or none."""

    code = "batch_too_large"


def run_at_station(batch: Batch, *, station: str, most: int, actor: User) -> MachineFile:
    """Send a prepared batch to a station; of two starts at once, the line's included, the second is refused.

    Raises BatchTooLargeError when the pass holds more than `most` cards or more than one machine file.
    """
    require(actor, "production.run_batch", batch)
    with unit_of_work(actor):
        details = {"pass": batch.pass_number, "station": station}
        moved = move(batch, BatchStatus.RUNNING, actor=actor, details=details)
        runs = list(runs_of_pass(moved)[:2])
        waiting = Card.objects.filter(machine_file__in=runs, outcome=Outcome.PENDING).count()
        if len(runs) != 1 or not 1 <= waiting <= most:
            raise BatchTooLargeError(
                "送卡制卡点只做小批量", where=moved.number, expected=f"1–{most}", got=str(moved.quantity)
            )
        return give_to_station(runs[0], station)


def give_to_station(run: MachineFile, station: str) -> MachineFile:
    """Note at which station a run's remaining cards are made; part of the caller's unit of work."""
    fresh = locked(run)
    fresh.station = station
    fresh.save(update_fields=["station"])
    return fresh


def report_station_card(card: Card, report: CounterReport, *, actor: User) -> Card:
    """Write down what became of one card of a run; the sealed report follows when all have their outcome.

    A second report of the same card is a ConflictError.
    """
    require(actor, "production.run_batch", card.batch)
    with unit_of_work(actor) as work:
        run = locked(card.machine_file)
        fresh = locked(card)
        if run.status != RunStatus.PREPARED or not run.station or fresh.outcome != Outcome.PENDING:
            raise ConflictError("该卡已有结果", where=fresh.serial, got=str(fresh.get_outcome_display()))
        outcome = note_outcome(fresh, report)
        work.record("card.reported", fresh, outcome=str(outcome), reason=report.reason)
    return fresh


def close_station_run(run: MachineFile, made: Sequence[MadeCard], *, actor: User) -> None:
    """Write the sealed report on a run whose cards all have their outcome; bring the batch on (R-16, R-18).

    Nothing when that is done already; ConflictError while a card still waits.
    """
    require(actor, "production.run_batch", run)
    with unit_of_work(actor):
        fresh = locked(run)
        if fresh.status != RunStatus.PREPARED:
            return
        if Card.objects.filter(machine_file=fresh, outcome=Outcome.PENDING).exists():
            raise ConflictError("还有未制的卡", where=fresh.batch.number)
        with write_sealed(report_name(fresh), fresh.batch.key_id) as sink:
            count = write_report(sink, run_label(fresh), iter(made))
        counts = {str(outcome): number for outcome, number in outcome_counts(fresh.batch).items() if number}
        details = {"reported": count, "counts": counts, "station": fresh.station}
        move(fresh, RunStatus.MADE, actor=actor, details=details, report_name=report_name(fresh))
        advance_batch(fresh.batch_id)
