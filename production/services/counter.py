"""A counter card is a batch of one (D10): the same rows, balance and inspection, driven card by card.

What a plant does by hand between the steps happens here at once: the station's standing approval stands in
for a work plan, and the blank comes from the counter's own stock, one serial at a time.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from orders.models import CardholderRecord
from orders.services.ordering import order_record
from portal.audit import unit_of_work
from portal.bulk import next_ids
from portal.core.clock import today
from portal.core.errors import ConflictError, InputRefusedError
from portal.core.keystore import KeyPurpose
from portal.core.periods import add_months
from portal.files import keystore, write_sealed
from portal.models import User
from portal.roles import require
from portal.workflow import locked, move
from production.choices import BatchStatus, ItemStatus, LocationKind, MovementKind, Outcome, RunStatus
from production.files import report_name, run_label
from production.line.made import LineOutcome, MadeCard
from production.line.report import write_report
from production.models import Batch, BatchItem, Card, MachineFile, StockLot
from production.personalization.blank import answer_to_reset, chip_serial
from production.personalization.holder import build_card_identifier
from production.selectors.batches import outcome_counts
from production.services.closing import close_batch
from production.services.delivery import WARRANTY_MONTHS, complete_order
from production.services.machine_files import check_makeable, write_run
from production.services.planning import plan_batches
from production.services.running import POSITION
from production.services.stock import post

CAN_START = frozenset({BatchStatus.RELEASED, BatchStatus.INSPECTING})
_OUTCOMES = {
    LineOutcome.MADE: Outcome.MADE,
    LineOutcome.BAD: Outcome.REJECTED,
    LineOutcome.UNKNOWN: Outcome.UNKNOWN,
}


class BlankUsedError(ConflictError):
    """A blank that a card was made of already; a serial is used at most once."""

    code = "blank_used"


class NotOneCardError(InputRefusedError):
    """A batch that a counter cannot make: more than one position, or none that waits."""

    code = "not_one_card"


@dataclass(frozen=True, slots=True)
class CounterReport:
    """What became of one card at a station; `readback` is the chip's content, b"" without."""

    outcome: LineOutcome
    reason: str
    machine: str
    operator: str
    started_at: dt.datetime
    finished_at: dt.datetime
    readback: bytes = b""


def open_counter_batch(record: CardholderRecord, *, station: str, actor: User) -> Batch:
    """Order one matched record and release its batch at once, under the station's standing approval (R-14).

    Raises the order's refusals (no supplier chosen, contract used up, R-1) and what the person's data does
    not allow (a missing glyph, a photo that cannot be printed) before anything is written.
    """
    require(actor, "stations.issue_card")
    system = User.objects.system()
    with unit_of_work(actor) as work:
        order = order_record(record, actor=actor)
        (batch,) = plan_batches(order, sizes=[1], actor=system)
        details = {"station": station, "approval": "standing"}
        batch = move(batch, BatchStatus.APPROVED, actor=system, details=details)
        check_makeable(batch.items.select_related("record__package").get(), batch)
        key_id = keystore().create(KeyPurpose.BATCH, batch.number)
        batch = move(batch, BatchStatus.RELEASED, actor=system, released_at=timezone.now(), key_id=key_id)
        work.record("batch.opened_at_counter", batch, station=station)
    return batch


def take_blank(batch: Batch, lot: StockLot, serial: str, *, actor: User) -> Card:
    """Spend one blank of the counter's stock on the batch's only position and write its machine file.

    Raises BlankUsedError when a card was made of it, StockShortError when the counter has none of the lot.
    """
    require(actor, "stations.issue_card", batch)
    system = User.objects.system()
    with unit_of_work(actor) as work:
        fresh = locked(batch)
        item = _waiting_item(fresh)
        post(
            lot,
            MovementKind.COUNTER,
            1,
            source=LocationKind.COUNTER,
            target=LocationKind.FLOOR,
            batch=fresh,
            requested_by=actor,
            note=serial,
        )
        passed = fresh.pass_number + 1
        fresh = move(fresh, BatchStatus.PREPARING, actor=system, details={"pass": passed}, pass_number=passed)
        card = _card(fresh, item, lot, serial)
        write_run(card.machine_file, actor=system)
        move(fresh, BatchStatus.PREPARED, actor=system, details={"pass": passed})
        move(fresh, BatchStatus.RUNNING, actor=system, details={"pass": passed})
        work.record("batch.blanks_taken", fresh, serials=[serial])
    card.refresh_from_db()
    return card


def _waiting_item(batch: Batch) -> BatchItem:
    items = list(batch.items.select_related("record")[:2])
    if len(items) != 1 or batch.status not in CAN_START:
        raise NotOneCardError(
            "该批次不能在制卡点制作", where=batch.number, got=str(batch.get_status_display())
        )
    (item,) = items
    if item.status != ItemStatus.PENDING or item.record is None:
        raise NotOneCardError("该批次没有待制作的卡", where=batch.number, got=str(item.get_status_display()))
    return item


def _card(batch: Batch, item: BatchItem, lot: StockLot, serial: str) -> Card:
    assert item.record is not None
    (run_id,) = next_ids(MachineFile, 1)
    run = MachineFile.objects.create(
        id=run_id, batch=batch, pass_number=batch.pass_number, part=1, card_count=1, status=RunStatus.QUEUED
    )
    identifier = build_card_identifier(settings.CITY_CODE, chip_serial(serial))
    try:
        with transaction.atomic():
            return Card.objects.create(
                serial=serial,
                lot=lot,
                batch=batch,
                item=item,
                machine_file=run,
                attempt=item.cards.count() + 1,
                bank=batch.order.bank,
                card_kind=batch.card_kind,
                issue_kind=item.record.issue_kind,
                number_index=item.record.number_index,
                card_number_index=item.record.card_number_index,
                card_identifier=identifier.hex().upper(),
                atr=answer_to_reset(serial).hex().upper(),
            )
    except IntegrityError as exc:
        raise BlankUsedError("这张白卡已经用过", where=serial) from exc


def report_card(card: Card, report: CounterReport, *, actor: User) -> Card:
    """Write down what became of a card that was made: a sealed report as the plant's line writes it.

    A good card still waits for its inspection; a second report of the same card is a ConflictError.
    """
    require(actor, "stations.issue_card", card.batch)
    system = User.objects.system()
    with unit_of_work(actor) as work:
        batch = locked(card.batch)
        fresh = locked(card)
        if fresh.outcome != Outcome.PENDING:
            raise ConflictError("该卡已有结果", where=fresh.serial, got=str(fresh.get_outcome_display()))
        run = locked(fresh.machine_file)
        with write_sealed(report_name(run), batch.key_id) as sink:
            write_report(sink, run_label(run), iter([_made(fresh, report)]))
        outcome = note_outcome(fresh, report)
        run.station = fresh.machine
        run.save(update_fields=["station"])
        move(run, RunStatus.MADE, actor=system, details={"reported": 1}, report_name=report_name(run))
        move(batch, BatchStatus.INSPECTING, actor=system, details={"pass": batch.pass_number})
        work.record("card.reported", fresh, outcome=str(outcome), reason=report.reason)
    return fresh


def note_outcome(card: Card, report: CounterReport) -> Outcome:
    """Write a report onto a locked card and its position; part of the caller's unit of work."""
    outcome = _OUTCOMES[report.outcome]
    card.outcome, card.reason = outcome, report.reason
    card.machine, card.operator = report.machine[:32], report.operator[:50]
    card.made_at = report.finished_at
    card.save(update_fields=["outcome", "reason", "machine", "operator", "made_at"])
    BatchItem.objects.filter(pk=card.item_id).update(status=POSITION[outcome])
    return outcome


def _made(card: Card, report: CounterReport) -> MadeCard:
    return MadeCard(
        card.item.sequence,
        card.serial,
        report.outcome,
        report.reason,
        report.machine[:32],
        report.operator[:50],
        report.started_at,
        report.finished_at,
        report.readback,
    )


def hand_over(batch: Batch, *, actor: User) -> Batch:
    """Close an inspected batch of one with what its ledger must show, and hand the card to the person.

    Its day of acceptance starts the warranty (R-34) and settles it (R-39).
    """
    require(actor, "stations.issue_card", batch)
    system = User.objects.system()
    with unit_of_work(actor) as work:
        fresh = locked(batch)
        counts = outcome_counts(fresh)
        closed = close_batch(
            fresh,
            good=counts[Outcome.GOOD],
            rejected=counts[Outcome.REJECTED],
            samples=0,
            returned=0,
            actor=system,
        )
        day = today()
        good = Card.objects.filter(batch=closed, outcome=Outcome.GOOD)
        good.update(delivered_on=day, accepted_on=day, warranty_until=add_months(day, WARRANTY_MONTHS))
        now = timezone.now()
        details: dict[str, Any] = {"cards": counts[Outcome.GOOD], "collected": True}
        signed = move(closed, BatchStatus.SIGNED, actor=system, signed_at=now, details=details)
        complete_order(signed.order, system, now)
        work.record("card.collected", good.first(), batch=signed.number)
    return signed
