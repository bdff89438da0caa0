"""Where a batch stands: its runs, its cards by outcome, and the line's reports on them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Count, Q, QuerySet

from portal.files import read_sealed
from production.choices import BatchStatus, ItemStatus, Outcome, RunStatus
from production.files import line_cipher, run_label
from production.line.made import MadeCard
from production.line.report import read_report
from production.models import Batch, BatchItem, Card, MachineFile
from production.personalization.machinefile import MachineCard, MachineFileReader

WORKING = (BatchStatus.PREPARING, BatchStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class ItemCounts:
    """Positions of a batch by where they stand."""

    pending: int
    prepared: int
    good: int
    unknown: int
    cancelled: int

    @property
    def wanted(self) -> int:
        """Return how many good cards the batch is to deliver."""
        return self.pending + self.prepared + self.good + self.unknown

    @property
    def is_complete(self) -> bool:
        """Say whether every position that is not cancelled has its good card."""
        return self.good == self.wanted


def item_counts(batch: Batch) -> ItemCounts:
    """Count the positions of a batch by status."""
    counted = BatchItem.objects.filter(batch=batch).aggregate(
        **{status.value: Count("id", filter=Q(status=status)) for status in ItemStatus}
    )
    return ItemCounts(**counted)


def outcome_counts(batch: Batch) -> dict[str, int]:
    """Count the batch's cards by outcome, every outcome named."""
    return Card.objects.filter(batch=batch).aggregate(
        **{outcome.value: Count("id", filter=Q(outcome=outcome)) for outcome in Outcome}
    )


def reason_counts(batch: Batch) -> dict[str, int]:
    """Count the batch's rejected cards by reason."""
    rejected = Card.objects.filter(batch=batch, outcome=Outcome.REJECTED).order_by("reason")
    return dict(rejected.values_list("reason").annotate(count=Count("id")))


def runs_of_pass(batch: Batch) -> QuerySet[MachineFile]:
    """Return the runs of the batch's current pass, in order."""
    runs: QuerySet[MachineFile] = MachineFile.objects.filter(batch=batch, pass_number=batch.pass_number)
    return runs.order_by("part")


def run_progress(batch: Batch) -> tuple[int, int]:
    """Return how many runs of the current pass are past their present step, and how many there are."""
    waiting = {BatchStatus.PREPARING: RunStatus.QUEUED, BatchStatus.RUNNING: RunStatus.PREPARED}
    runs = runs_of_pass(batch)
    total = runs.count()
    step = waiting.get(BatchStatus(batch.status))
    return (total - runs.filter(status=step).count() if step else total), total


def line_report(run: MachineFile) -> Iterator[MadeCard]:
    """Yield the line's report on a made run, card by card; raise ReportError when it is not whole."""
    with read_sealed(run.report_name, run.batch.key_id) as sealed:
        yield from read_report(io.BufferedReader(sealed), run_label(run))


def machine_cards(run: MachineFile) -> Iterator[MachineCard]:
    """Yield the cards of a prepared run's machine file; memory is that of one card."""
    with read_sealed(run.stored_name, run.batch.key_id) as sealed:
        yield from MachineFileReader(io.BufferedReader(sealed, 128 * 1024), line_cipher(run.batch))
