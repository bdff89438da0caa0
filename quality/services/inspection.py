"""Inspection: every card is read back against its record; the rate decides on a hold (R-18, R-26)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from django.conf import settings
from django.db.models import QuerySet

from portal.audit import unit_of_work
from portal.core.errors import TransitionRefusedError
from portal.models import User
from portal.queue import schedule
from portal.roles import require
from portal.workflow import locked, move
from production.choices import BatchStatus, Outcome, RunStatus
from production.line.made import CHIP_UNREADABLE, WRONG_CARD
from production.models import Batch, Card, MachineFile
from production.personalization.chip import ChipContent, ChipContentError, compare
from production.personalization.profile import load_profile
from production.selectors.batches import item_counts, line_report, runs_of_pass
from production.selectors.holders import holder_of
from production.services.cards import CardsOpenError, finish_inspection, settle_cards, start_remake
from production.services.preparation import BlanksMissingError, NothingToMakeError
from quality.choices import DefectKind, FoundAt, InspectionResult, Liability
from quality.models import Defect, DefectCode, Inspection
from quality.selectors import defect_rate
from quality.services.defects import CHIP_DIFFERS, OTHER, ensure_codes
from quality.services.holds import hold_if_exceeded

INSPECT_RUN = "quality.jobs.inspect_cards"


@dataclass(slots=True)
class Findings:
    """What the read-back of one run found, ready to be settled."""

    outcomes: dict[int, tuple[str, str]] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)


def inspect_batch(batch: Batch, *, actor: User) -> Batch:
    """Read back every card of the current pass; workers do it run by run."""
    require(actor, "quality.inspect_batch", batch)
    with unit_of_work(actor) as work:
        fresh = locked(batch)
        if fresh.status != BatchStatus.INSPECTING:
            raise TransitionRefusedError(
                f"批次 {fresh} 当前状态不能检验",
                expected=str(BatchStatus.INSPECTING.label),
                got=str(fresh.get_status_display()),
            )
        for run in runs_of_pass(fresh).filter(status=RunStatus.MADE):
            schedule(INSPECT_RUN, run, actor=actor, queue="bulk")
        work.record("batch.inspection_started", fresh, pass_number=fresh.pass_number)
    return fresh


def inspect_run(run: MachineFile, *, actor: User) -> None:
    """Compare every card of a made run with its record and settle it; nothing when that is done."""
    ensure_codes()
    with unit_of_work(actor):
        fresh = locked(run)
        if fresh.status != RunStatus.MADE:
            return
        found = _read_back(fresh)
        settle_cards(fresh.batch, found.outcomes, actor=actor)
        Defect.objects.bulk_create(found.defects)
        Defect.objects.bulk_create(_unregistered(Card.objects.filter(machine_file=fresh)))
        details = {"read": len(found.outcomes), "wrong": len(found.defects)}
        move(fresh, RunStatus.INSPECTED, actor=actor, details=details)


def _read_back(run: MachineFile) -> Findings:
    cards = {
        card.serial: card
        for card in Card.objects.filter(machine_file=run, outcome=Outcome.MADE).select_related(
            "item__record__package"
        )
    }
    found = Findings()
    for made in line_report(run):
        card = cards.get(made.serial)
        if card is not None:
            _judge(card, made.readback, found)
    return found


def _judge(card: Card, readback: bytes, found: Findings) -> None:
    """Compare one read-back with the record, value by value (R-18)."""
    record = card.item.record
    assert record is not None, "a card in inspection has its record"
    try:
        files = ChipContent.from_bytes(readback).files
    except ChipContentError:
        found.outcomes[card.pk] = (Outcome.REJECTED, CHIP_UNREADABLE)
        found.defects.append(_defect(card, CHIP_UNREADABLE, DefectKind.BAD_CARD, FoundAt.READ_BACK))
        return
    profile = load_profile(settings.CARD_PROFILE)
    identifier = bytes.fromhex(card.card_identifier)
    differences = compare(holder_of(record), files, profile, card_identifier=identifier)
    if not differences:
        found.outcomes[card.pk] = (Outcome.GOOD, "")
        return
    found.outcomes[card.pk] = (Outcome.REJECTED, WRONG_CARD)
    # Which tags differ may be told; what they hold may not.
    tags = [difference.tag for difference in differences]
    found.defects.append(_defect(card, CHIP_DIFFERS, DefectKind.WRONG_CARD, FoundAt.READ_BACK, tags))


def _unregistered(cards: QuerySet[Card]) -> list[Defect]:
    """Return defects for rejected cards that have none yet (R-20, R-21).

    They were thrown out by the line, refused for their data, read again, or rejected by two people.
    """
    codes = {code.code: code for code in DefectCode.objects.all()}
    found = []
    for card in cards.filter(outcome=Outcome.REJECTED, defect__isnull=True).order_by("pk"):
        wrong = card.reason == WRONG_CARD
        code = codes.get(CHIP_DIFFERS if wrong else card.reason, codes[OTHER])
        defect = _defect(card, code.code, code.kind, FoundAt.READ_BACK if wrong else FoundAt.LINE)
        defect.liability = code.liability
        found.append(defect)
    return found


def _defect(card: Card, code: str, kind: str, found_at: str, tags: list[str] | None = None) -> Defect:
    return Defect(
        card=card,
        code_id=code,
        kind=kind,
        liability=Liability.SUPPLIER,
        found_at=found_at,
        tags=tags or [],
    )


def conclude_pass(batch_id: int) -> Inspection | None:
    """Write the inspection of a pass whose runs are all read back; hold, remake or finish. Idempotent."""
    system = User.objects.system()
    with unit_of_work(system) as work:
        batch = Batch.objects.select_for_update(of=("self",)).get(pk=batch_id)
        if batch.status != BatchStatus.INSPECTING or not _all_read(batch):
            return None
        late = Defect.objects.bulk_create(_unregistered(Card.objects.filter(batch=batch)))
        inspection = Inspection.objects.filter(batch=batch, pass_number=batch.pass_number).first()
        counts = _counts(batch)
        brought = inspection is None and counts["wrong_count"] + counts["bad_count"] > 0
        # A hold that was released comes back for new defects only, whichever pass they belong to.
        held = hold_if_exceeded(batch) if late or brought else bool(batch.held_reason)
        if inspection is None or any(getattr(inspection, name) != count for name, count in counts.items()):
            inspection = _write(batch, counts, held=held)
            work.record("batch.inspected", batch, rate=defect_rate(batch).text, result=inspection.result)
    _go_on(batch, system)
    return inspection


def _all_read(batch: Batch) -> bool:
    runs = runs_of_pass(batch)
    return runs.exists() and not runs.exclude(status=RunStatus.INSPECTED).exists()


def _counts(batch: Batch) -> dict[str, int]:
    """Count the present pass; what its data spoiled is nobody's wrong or bad card (R-20)."""
    cards = Card.objects.filter(batch=batch, machine_file__pass_number=batch.pass_number)
    defects = Defect.objects.filter(card__in=cards)
    supplied = defects.filter(liability=Liability.SUPPLIER)
    good = cards.filter(outcome=Outcome.GOOD).count()
    return {
        "read_count": good + defects.exclude(found_at=FoundAt.LINE).count(),
        "good_count": good,
        "wrong_count": supplied.filter(kind=DefectKind.WRONG_CARD).count(),
        "bad_count": supplied.filter(kind=DefectKind.BAD_CARD).count(),
        "unknown_count": cards.filter(outcome=Outcome.UNKNOWN).count(),
    }


def _write(batch: Batch, counts: dict[str, int], *, held: bool) -> Inspection:
    result = InspectionResult.HELD if held else InspectionResult.PASSED
    inspection, _ = Inspection.objects.update_or_create(
        batch=batch, pass_number=batch.pass_number, defaults={**counts, "result": result}
    )
    return inspection


def _go_on(batch: Batch, actor: User) -> None:
    """Remake what is missing, or finish; what people must do first is left to them and shown to them."""
    counts = item_counts(batch)
    # Blanks may be missing, or another call may have been quicker: the next round tries again.
    with suppress(BlanksMissingError, CardsOpenError, NothingToMakeError, TransitionRefusedError):
        if counts.is_complete:
            finish_inspection(batch, actor=actor)
        elif counts.pending:
            start_remake(batch, actor=actor)
