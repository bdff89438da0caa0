"""Settling cards: good, rejected or unknown, and what two people decide about the unknown (D8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from django.conf import settings
from django.utils import timezone

from portal.audit import unit_of_work
from portal.bulk import update_from
from portal.core.errors import ConflictError, InputRefusedError
from portal.models import User
from portal.roles import require, require_second_person
from portal.workflow import check_move, locked, move
from production.choices import BatchStatus, Outcome, RequestStatus
from production.line.made import WRONG_CARD
from production.line.virtual import LineRates
from production.models import Batch, BatchItem, Card, MachineFile, UnknownDecision
from production.personalization.chip import ChipContent, ChipContentError, compare
from production.personalization.machinefile import MachineCard
from production.personalization.profile import load_profile
from production.selectors.batches import item_counts, machine_cards
from production.selectors.holders import holder_of
from production.services.preparation import start_remake
from production.services.running import POSITION, line_of

DECIDED = "decided"
SETTLED = frozenset({Outcome.GOOD, Outcome.REJECTED, Outcome.UNKNOWN})


class CardsOpenError(InputRefusedError):
    """Positions of the batch still lack their good card."""

    code = "cards_open"


class UnknownCardError(InputRefusedError):
    """A decision about a card that is not unknown, or without evidence."""

    code = "unknown_card"


def settle_cards(batch: Batch, outcomes: Mapping[int, tuple[str, str]], *, actor: User) -> None:
    """Give made cards of the batch their outcome and reason, by card id; positions follow.

    All or none: ConflictError when one of them is not a made card of this batch, so that a second
    inspection of the same run changes nothing.
    """
    require(actor, "quality.inspect_batch", batch)
    _settle(batch, outcomes, Outcome.MADE, actor)


def reject_good(card: Card, *, reason: str, actor: User) -> bool:
    """Reject a good card in which a person found a defect while its batch is inspected; say whether it was.

    Its position waits for another card then (R-11).
    """
    require(actor, "quality.record_defect", card)
    with unit_of_work(actor):
        batch = locked(card.batch)
        fresh = locked(card)
        if batch.status != BatchStatus.INSPECTING or fresh.outcome != Outcome.GOOD:
            return False
        _settle(batch, {fresh.pk: (Outcome.REJECTED, reason)}, Outcome.GOOD, actor)
    return True


def finish_inspection(batch: Batch, *, actor: User) -> Batch:
    """Close the inspection when every position that is not cancelled has its good card."""
    require(actor, "quality.inspect_batch", batch)
    with unit_of_work(actor):
        fresh = locked(batch)
        check_move(fresh, BatchStatus.INSPECTED)
        counts = item_counts(fresh)
        if not counts.is_complete:
            raise CardsOpenError(
                "还有明细没有良品卡", where=fresh.number, expected=str(counts.wanted), got=str(counts.good)
            )
        return move(fresh, BatchStatus.INSPECTED, actor=actor)


def hold_batch(batch: Batch, reason: str, *, actor: User) -> Batch:
    """Freeze a batch: it is neither packed nor dispatched until the hold is released (R-26)."""
    require(actor, "quality.place_hold", batch)
    if not reason.strip():
        raise InputRefusedError("冻结须说明原因", where="冻结原因")
    return _set_held(batch, reason.strip()[:200], "batch.held", actor)


def release_batch_hold(batch: Batch, *, actor: User) -> Batch:
    """Let a held batch go on."""
    require(actor, "quality.release_hold", batch)
    return _set_held(batch, "", "batch.hold_released", actor)


def read_unknown(card: Card, *, actor: User) -> Card:
    """Put an unknown card into a reader: right content makes it good, other content rejected (R-18).

    A card that stays mute stays unknown; two people then decide. The line's cards only: UnknownCardError for
    one that a station made, which is read in that station's reader.
    """
    require(actor, "production.decide_unknown", card)
    if station := card.machine_file.station:
        raise UnknownCardError("该卡由制卡点制作，请在制卡点重新读卡", where=card.serial, got=station)
    with unit_of_work(actor) as work:
        fresh = _locked_unknown(card)
        outcome, reason = _judge(fresh)
        work.record("card.read_again", fresh, outcome=outcome, reason=reason)
        if outcome != Outcome.UNKNOWN:
            _settle(fresh.batch, {fresh.pk: (outcome, reason)}, Outcome.UNKNOWN, actor)
            fresh.refresh_from_db()
    return fresh


def settle_unknown(card: Card, *, good: bool, reason: str, actor: User) -> Card:
    """Give an unknown card what reading it at a station showed: its content decides (D8)."""
    require(actor, "production.decide_unknown", card)
    with unit_of_work(actor):
        fresh = _locked_unknown(card)
        outcome = Outcome.GOOD if good else Outcome.REJECTED
        _settle(fresh.batch, {fresh.pk: (outcome, reason)}, Outcome.UNKNOWN, actor)
        fresh.refresh_from_db()
    return fresh


def request_unknown_decision(card: Card, *, outcome: str, evidence: str, actor: User) -> UnknownDecision:
    """Propose what became of an unknown card, with the evidence; a second person decides."""
    require(actor, "production.decide_unknown", card)
    if outcome not in {Outcome.GOOD, Outcome.REJECTED} or not evidence.strip():
        raise UnknownCardError("须认定为良品或废品，并写明依据", got=str(outcome)[:20])
    with unit_of_work(actor) as work:
        fresh = _locked_unknown(card)
        if fresh.decisions.filter(status=RequestStatus.REQUESTED).exists():
            raise ConflictError("该卡已有待复核的认定", where=fresh.serial)
        decision = UnknownDecision.objects.create(
            card=fresh, outcome=outcome, evidence=evidence.strip()[:200], requested_by=actor
        )
        work.record("unknowndecision.requested", decision, outcome=outcome)
    return decision


def decide_unknown(decision: UnknownDecision, *, approve: bool, actor: User) -> UnknownDecision:
    """Confirm or refuse a proposal as the second person; a confirmed one settles the card (D8)."""
    require(actor, "production.decide_unknown", decision)
    require_second_person(decision.requested_by, actor, decision)
    target = RequestStatus.APPROVED if approve else RequestStatus.REFUSED
    with unit_of_work(actor):
        fresh = move(
            decision,
            target,
            actor=actor,
            details={"outcome": decision.outcome},
            decided_by=actor,
            decided_at=timezone.now(),
        )
        if approve:
            card = _locked_unknown(fresh.card)
            _settle(card.batch, {card.pk: (fresh.outcome, DECIDED)}, Outcome.UNKNOWN, actor)
    return fresh


def _settle(batch: Batch, outcomes: Mapping[int, tuple[str, str]], source: Outcome, actor: User) -> None:
    if any(outcome not in SETTLED for outcome, _ in outcomes.values()):
        raise InputRefusedError("卡片结果只能是良品、废品或未知", where=batch.number)
    with unit_of_work(actor) as work:
        cards = Card.objects.select_for_update(of=("self",)).filter(batch=batch, outcome=source)
        items = dict(cards.filter(pk__in=outcomes).order_by("id").values_list("id", "item_id"))
        if len(items) != len(outcomes):
            raise ConflictError(
                "卡片已有结果，或不属于该批次",
                where=batch.number,
                expected=str(len(outcomes)),
                got=str(len(items)),
            )
        update_from(
            Card, ["id"], ["outcome", "reason"], [(pk, str(o), r) for pk, (o, r) in sorted(outcomes.items())]
        )
        for outcome in SETTLED:
            ids = [items[pk] for pk, (found, _) in outcomes.items() if found == outcome]
            BatchItem.objects.filter(pk__in=ids).update(status=POSITION[outcome])
        counts = Counter(f"{outcome} {reason}".strip() for outcome, reason in outcomes.values())
        work.record("batch.cards_settled", batch, counts=dict(sorted(counts.items())))


def _set_held(batch: Batch, reason: str, action: str, actor: User) -> Batch:
    with unit_of_work(actor) as work:
        fresh = locked(batch)
        fresh.held_reason = reason
        fresh.save(update_fields=["held_reason"])
        work.record(action, fresh, reason=reason)
    return fresh


def _locked_unknown(card: Card) -> Card:
    fresh = locked(card)
    if fresh.outcome != Outcome.UNKNOWN:
        raise UnknownCardError(
            "该卡的结果不是未知", where=fresh.serial, expected=str(Outcome.UNKNOWN.label),
            got=str(fresh.get_outcome_display()),
        )  # fmt: skip
    return fresh


def _judge(card: Card) -> tuple[Outcome, str]:
    """Read the chip again and compare it with the record."""
    readback = _read_again(card.machine_file, card.serial)
    record = card.item.record
    if not readback or record is None:
        return Outcome.UNKNOWN, card.reason
    try:
        content = ChipContent.from_bytes(readback)
    except ChipContentError:
        return Outcome.REJECTED, WRONG_CARD
    identifier = bytes.fromhex(card.card_identifier)
    profile = load_profile(settings.CARD_PROFILE)
    found = compare(holder_of(record), content.files, profile, card_identifier=identifier)
    return (Outcome.REJECTED, WRONG_CARD) if found else (Outcome.GOOD, "")


def _read_again(run: MachineFile, serial: str) -> bytes:
    written = _machine_card(run, serial)
    never = LineRates(0, 0, 0)
    return line_of(run, never).read_again(written) if written else b""


def _machine_card(run: MachineFile, serial: str) -> MachineCard | None:
    for written in machine_cards(run):
        if written.blank_serial == serial:
            return written
    return None


__all__ = [
    "CardsOpenError",
    "UnknownCardError",
    "decide_unknown",
    "finish_inspection",
    "hold_batch",
    "read_unknown",
    "reject_good",
    "release_batch_hold",
    "request_unknown_decision",
    "settle_cards",
    "start_remake",
]
