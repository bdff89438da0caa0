"""Data preparation (R-16): blanks get their positions, runs their machine files, all of it exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from django.conf import settings
from django.db.models import Count

from portal.audit import UnitOfWork, unit_of_work
from portal.bulk import copy_rows, next_ids
from portal.core.errors import InputRefusedError, TransitionRefusedError
from portal.models import User
from portal.queue import schedule
from portal.roles import require
from portal.workflow import locked, move
from production.choices import BatchStatus, ItemStatus, Outcome, RunStatus
from production.models import Batch, BatchItem, Card, MachineFile, StockLot
from production.personalization.blank import answer_to_reset, chip_serial, serial_text
from production.personalization.holder import build_card_identifier
from production.selectors.stock import free_by_lot

RUN_SIZE = 250  # about a second or two of a worker's time
PREPARE_RUN = "production.jobs.prepare_run"
_CARD_FIELDS = (
    "serial", "lot", "batch", "item", "machine_file", "attempt", "outcome", "reason", "machine", "operator",
    "bank", "card_kind", "issue_kind", "number_index", "card_number_index", "card_identifier", "atr",
)  # fmt: skip
_ITEM_FIELDS = (
    "id", "attempts", "record__issue_kind", "record__number_index", "record__card_number_index",
)  # fmt: skip


class BlanksMissingError(InputRefusedError):
    """Fewer withdrawn blanks than cards to make."""

    code = "blanks_missing"


class NothingToMakeError(InputRefusedError):
    """No position of the batch waits for a card."""

    code = "nothing_to_make"


def prepare_batch(batch: Batch, *, actor: User) -> Batch:
    """Start the first pass of a released batch: machine files are written by workers."""
    require(actor, "production.prepare_batch", batch)
    return _start_pass(batch, BatchStatus.RELEASED, actor)


def start_remake(batch: Batch, *, actor: User) -> Batch:
    """Make again, inside the same deadline, what has no good and no unknown card (R-10, R-11).

    Raises BlanksMissingError when fewer blanks are withdrawn and free than cards are to be made.
    """
    require(actor, "production.prepare_batch", batch)
    return _start_pass(batch, BatchStatus.INSPECTING, actor)


def _start_pass(batch: Batch, source: BatchStatus, actor: User) -> Batch:
    with unit_of_work(actor) as work:
        fresh = locked(batch)
        if fresh.status != source:
            raise TransitionRefusedError(
                f"批次 {fresh} 当前状态不允许此操作",
                expected=str(source.label),
                got=str(fresh.get_status_display()),
            )
        items = _waiting_items(fresh)
        serials = _take_serials(fresh, len(items))
        moved = move(
            fresh,
            BatchStatus.PREPARING,
            actor=actor,
            details={"pass": fresh.pass_number + 1, "cards": len(items)},
            pass_number=fresh.pass_number + 1,
        )
        runs = _create_runs(moved, len(items))
        copy_rows(Card, _CARD_FIELDS, _card_rows(moved, moved.order.bank_id, runs, items, serials))
        for run in runs:
            schedule(PREPARE_RUN, run, actor=actor, queue="bulk")
        _record_serials(work, moved, serials)
    return moved


def _waiting_items(batch: Batch) -> list[dict[str, Any]]:
    """Return the positions that wait for a card, in order; refuse when there are none."""
    waiting = BatchItem.objects.filter(batch=batch, status=ItemStatus.PENDING, record__isnull=False)
    items = list(waiting.annotate(attempts=Count("cards")).order_by("sequence").values(*_ITEM_FIELDS))
    if not items:
        raise NothingToMakeError("没有待制作的明细", where=batch.number, expected="≥ 1", got="0")
    return items


def _take_serials(batch: Batch, count: int) -> list[tuple[int, str]]:
    """Allocate blanks from the batch's withdrawn lots; return lot id and serial of each."""
    free = free_by_lot(batch)
    there = sum(lot.free for lot in free)
    if there < count:
        raise BlanksMissingError(
            f"已领用的白卡不足，还缺 {count - there} 张",
            where=batch.number,
            expected=str(count),
            got=str(there),
        )
    taken: list[tuple[int, str]] = []
    # By id, so that batches that share lots lock them in one order.
    for held in sorted(free, key=lambda lot: lot.lot_id):
        if wanted := min(held.free, count - len(taken)):
            taken += take_from(held.lot_id, wanted)
    return taken


def take_from(lot_id: int, count: int) -> list[tuple[int, str]]:
    """Spend the next serials of a lot, under its lock; return lot id and serial of each."""
    lot = StockLot.objects.select_for_update(of=("self",)).get(pk=lot_id)
    first = lot.next_offset
    if first + count > lot.quantity:
        raise BlanksMissingError(
            "该白卡批的序列号已用完", where=lot.number, expected=str(count), got=str(lot.quantity - first)
        )
    lot.next_offset = first + count
    lot.save(update_fields=["next_offset"])
    numbers = range(lot.first_serial + first, lot.first_serial + first + count)
    return [(lot_id, serial_text(lot.serial_prefix, number)) for number in numbers]


def _create_runs(batch: Batch, cards: int) -> list[MachineFile]:
    counts = [min(RUN_SIZE, cards - done) for done in range(0, cards, RUN_SIZE)]
    ids = next_ids(MachineFile, len(counts))
    return MachineFile.objects.bulk_create(
        [
            MachineFile(
                id=run_id,
                batch=batch,
                pass_number=batch.pass_number,
                part=part,
                card_count=count,
                status=RunStatus.QUEUED,
            )
            for part, (run_id, count) in enumerate(zip(ids, counts, strict=True), 1)
        ]
    )


def _card_rows(
    batch: Batch,
    bank_id: int,
    runs: list[MachineFile],
    items: list[dict[str, Any]],
    serials: list[tuple[int, str]],
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the pass's cards; asks the database nothing, as it is busy copying them."""
    pairs = zip(items, serials, strict=True)
    for run in runs:
        for item, (lot_id, serial) in islice(pairs, run.card_count):
            record = (item["record__issue_kind"], *_bytes(item))
            state = (item["attempts"] + 1, Outcome.PENDING.value, "", "", "")
            place = (serial, lot_id, batch.pk, item["id"], run.pk)
            yield *place, *state, bank_id, batch.card_kind, *record, *_chip_values(serial)


def _bytes(item: dict[str, Any]) -> tuple[bytes, bytes]:
    return bytes(item["record__number_index"]), bytes(item["record__card_number_index"])


def _chip_values(serial: str) -> tuple[str, str]:
    """Return 卡识别码 and answer to reset of a blank, as hexadecimal digits."""
    identifier = build_card_identifier(settings.CITY_CODE, chip_serial(serial))
    return identifier.hex().upper(), answer_to_reset(serial).hex().upper()


def _record_serials(work: UnitOfWork, batch: Batch, serials: Iterable[tuple[int, str]]) -> None:
    """Audit which blanks the pass took: first and last serial of each lot."""
    by_lot: dict[int, list[str]] = {}
    for lot_id, serial in serials:
        by_lot.setdefault(lot_id, []).append(serial)
    ranges = [f"{taken[0]}–{taken[-1]}" for taken in by_lot.values()]
    work.record("batch.blanks_taken", batch, serials=ranges)
