"""One card on demand (R-14): started by an operator, carried out by an agent, ended by its outcome.

The agent only carries bytes: the portal computes every command and compares every answer. Whatever stops
the exchange leaves the card rejected or unknown, never made twice (D8).
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from orders.models import CardholderRecord
from portal.audit import unit_of_work
from portal.choices import OrganisationKind
from portal.core.errors import ConflictError, InputRefusedError, PermissionRefusedError
from portal.models import User
from portal.roles import require
from portal.workflow import check_move, locked, move
from production.choices import Outcome
from production.line.made import LineOutcome
from production.models import Batch
from production.services.cards import settle_unknown
from production.services.counter import (
    CAN_START,
    CounterReport,
    hand_over,
    open_counter_batch,
    report_card,
    take_blank,
)
from production.services.payment import payment_of
from production.services.station_runs import report_station_card
from quality.services.inspection import conclude_pass, inspect_run
from stations.choices import FeederStatus, IssuanceStatus, PrintState, StepKind
from stations.models import Issuance, Station
from stations.queues import ISSUE, RESOLVE
from stations.services.blanks import spend_blank
from stations.services.card_jobs import lot_transport_key
from stations.services.memory import load_memory
from stations.services.plant_runs import conclude_run, stop_run
from stations.services.registry import NotEnrolledError
from stations.services.steps import begin_step, end_step
from stations.services.waking import wake_station

LOOK_REASONS = {
    "print_fault": "卡面打印缺陷",
    "body_damaged": "卡体损伤",
    "wrong_face": "卡面内容不符",
}


class StationBusyError(ConflictError):
    """The station, or somebody else, is making a card already."""

    code = "station_busy"


class LookRefusedError(InputRefusedError):
    """A look that cannot be taken: another state, or no reason for a rejection."""

    code = "look_refused"


def require_station(station: Station, actor: User, bank_id: int | None) -> None:
    """Refuse people of another operator, and cards of a bank that this operator does not serve."""
    home = actor.organisation
    if home is None or (home.kind != OrganisationKind.PURCHASER and home.pk != station.operator_id):
        raise PermissionRefusedError("该制卡点不属于您的单位", where=str(station))
    if station.operator.kind == OrganisationKind.BANK and bank_id not in (None, station.operator_id):
        raise PermissionRefusedError("本制卡点只为本行制卡", where=str(station))


def require_no_feeding(station: Station) -> None:
    """Refuse while the station's feeder makes a batch: its agent takes nothing else then."""
    if station.feeder_runs.filter(status=FeederStatus.RUNNING).exists():
        raise StationBusyError("该制卡点正在制作批次，请先停止送卡", where=str(station))


def start_issuance(record: CardholderRecord, *, station: Station, serial: str, actor: User) -> Issuance:
    """Start a card for one matched record with one blank of the station's own stock.

    A record that has its counter batch already (an earlier try was rejected) gets its next try. Raises
    StationBusyError, BlankMissingError, what the order or the person's data refuses, and what is wrong with
    the bank's payment data or the lot's transport key: nothing stays then, the blank is still in the drawer.
    """
    require(actor, "stations.issue_card", station)
    require_station(station, actor, record.bank_id)
    with unit_of_work(actor) as work:
        held = locked(station)
        if held.credential_digest is None or not held.is_active:
            raise NotEnrolledError("该制卡点未启用或没有凭证", where=held.code)
        require_no_feeding(held)
        blank = spend_blank(held, serial, actor=actor)
        batch = _batch_of(record) or open_counter_batch(record, station=held.code, actor=actor)
        card = take_blank(batch, blank.lot, blank.serial, actor=actor)
        payment_of(card)
        lot_transport_key(card)
        try:
            with transaction.atomic():
                issuance = Issuance.objects.create(
                    station=held, batch=batch, card=card, operator=actor, heard_at=timezone.now(),
                    prints_front=not held.front_is_preprinted,
                )  # fmt: skip
        except IntegrityError as exc:
            raise StationBusyError("该制卡点正在制卡，或此人的卡正在制作", where=str(held)) from exc
        begin_step(issuance, StepKind.QUEUE)
        work.record("issuance.started", issuance, station=held.code, serial=card.serial)
        wake_station(held, ISSUE, issuance.pk)
    return issuance


def _batch_of(record: CardholderRecord) -> Batch | None:
    """Return the record's own counter batch that waits for another try."""
    batches = Batch.objects.filter(items__record=record, quantity=1, status__in=CAN_START)
    found: Batch | None = batches.filter(issuances__isnull=False).distinct().first()
    return found


def cancel_issuance(issuance: Issuance, *, actor: User) -> Issuance:
    """Take a card back that no agent has begun; its blank counts as spoiled, for it may have been touched."""
    require(actor, "stations.issue_card", issuance)
    with unit_of_work(actor):
        fresh = locked(issuance)
        check_move(fresh, IssuanceStatus.CANCELLED)
        return reject(fresh, "cancelled", "操作员取消", status=IssuanceStatus.CANCELLED)


def confirm_look(issuance: Issuance, *, good: bool, reason: str = "", actor: User) -> Issuance:
    """Take the operator's word on the printed card: good hands it over, else it is rejected with a reason."""
    require(actor, "stations.issue_card", issuance)
    if not good and reason not in LOOK_REASONS:
        raise LookRefusedError("须选择不合格原因", expected="、".join(LOOK_REASONS.values()))
    with unit_of_work(actor):
        fresh = locked(issuance)
        check_move(fresh, IssuanceStatus.GOOD if good else IssuanceStatus.REJECTED)
        if fresh.status != IssuanceStatus.AWAITING_LOOK:
            raise LookRefusedError("该卡还没有打印完", got=str(fresh.get_status_display()))
        if good and fresh.print_state == PrintState.NOT_SUBMITTED:
            raise LookRefusedError("卡面没有打印，不能确认为良品", got=str(fresh.get_print_state_display()))
        end_step(fresh, StepKind.LOOK, code="" if good else reason)
        if not good:
            return reject(fresh, reason, LOOK_REASONS[reason])
        return accept(fresh, actor)


def accept(issuance: Issuance, actor: User) -> Issuance:
    """Settle a written, printed and looked-at card as good: inspected, balanced, handed over."""
    with unit_of_work(actor):
        _settle(issuance, LineOutcome.MADE, "")
        batch = Batch.objects.get(pk=issuance.batch_id)
        hand_over(batch, actor=issuance.operator)
        begin_step(issuance, StepKind.HAND_OVER, done=True)
        return ended(issuance, IssuanceStatus.GOOD, "", "")


def finish_plant_card(issuance: Issuance) -> Issuance | None:
    """Settle a plant's written card as made, the batch's inspection decides the rest; None: print it first.

    A print that may have marked the card leaves it unknown: its chip says nothing about its face (D8).
    """
    run, printed = issuance.feeder_run, issuance.print_state
    assert run is not None
    if run.prints and printed in (PrintState.NONE, PrintState.NOT_SUBMITTED):
        return None
    if run.prints and printed != PrintState.COMPLETED:
        return lose(issuance, "print_unknown", "芯片相符，卡面是否印好须由两人认定")
    with unit_of_work(issuance.operator):
        _settle(issuance, LineOutcome.MADE, "")
        return ended(issuance, IssuanceStatus.MADE, "", "")


def plant_printed(issuance: Issuance) -> Issuance:
    """Settle a plant's card by how its print job ended; whatever is not completed stops the run (D8)."""
    if issuance.print_state == PrintState.COMPLETED and (done := finish_plant_card(issuance)):
        return done
    run, text = issuance.feeder_run, "；".join(("打印没有完成", str(PrintState(issuance.print_state).label)))
    assert run is not None
    if issuance.print_state == PrintState.LOST:
        done = lose(issuance, "print_unknown", text)
    else:
        done = reject(issuance, "print_fault", text)
    stop_run(run, "print_trouble", text)
    return done


def reject(
    issuance: Issuance, reason: str, text: str, *, status: IssuanceStatus = IssuanceStatus.REJECTED
) -> Issuance:
    """Settle a card as spoiled; the next try takes another blank."""
    with unit_of_work(issuance.operator):
        _settle(issuance, LineOutcome.BAD, reason)
        return ended(issuance, status, reason, text)


def lose(issuance: Issuance, reason: str, text: str) -> Issuance:
    """Note that nobody knows what became of the card: its record is locked until it is read again (D8)."""
    with unit_of_work(issuance.operator):
        if issuance.card.outcome == Outcome.PENDING:
            _settle(issuance, LineOutcome.UNKNOWN, reason)
        return ended(issuance, IssuanceStatus.UNKNOWN, reason, text)


def _settle(issuance: Issuance, outcome: LineOutcome, reason: str) -> None:
    """Report the card as a line does, then inspect it as every card is (R-18)."""
    card, operator, system = issuance.card, issuance.operator, User.objects.system()
    card.refresh_from_db()
    if card.outcome == Outcome.UNKNOWN:  # read again in the reader since
        settle_unknown(card, good=outcome == LineOutcome.MADE, reason=reason[:40], actor=system)
    elif card.outcome == Outcome.PENDING:
        report = CounterReport(
            outcome,
            reason[:40],
            issuance.station.code,
            operator.get_full_name() or operator.username,
            issuance.requested_at,
            timezone.now(),
            load_memory(issuance).readback if outcome == LineOutcome.MADE else b"",
        )
        if issuance.feeder_run_id is not None:
            report_station_card(card, report, actor=system)  # its operator may be gone by then
        else:
            report_card(card, report, actor=operator)
            inspect_run(card.machine_file, actor=system)
    conclude_pass(issuance.batch_id)


def follow_decision(issuance: Issuance) -> Issuance:
    """Bring an unknown issuance to the outcome that two people gave its card since (D8)."""
    with unit_of_work(issuance.operator):
        fresh = locked(issuance)
        outcome = fresh.card.outcome
        if fresh.status != IssuanceStatus.UNKNOWN or outcome not in (Outcome.GOOD, Outcome.REJECTED):
            return fresh
        conclude_pass(fresh.batch_id)
        if outcome == Outcome.REJECTED:
            return ended(fresh, IssuanceStatus.REJECTED, "decided", "由两人认定为废品")
        if fresh.feeder_run_id is not None:
            return ended(fresh, IssuanceStatus.MADE, "decided", "由两人认定为良品")
        hand_over(Batch.objects.get(pk=fresh.batch_id), actor=fresh.operator)
        return ended(fresh, IssuanceStatus.GOOD, "decided", "由两人认定为良品")


def ended(issuance: Issuance, status: IssuanceStatus, reason: str, text: str) -> Issuance:
    """Move an issuance to where it ends or waits; at its end what was remembered is forgotten.

    What a plant's card showed is kept for the report on its run, which is written after the last card.
    """
    with unit_of_work(issuance.operator):
        moved = move(
            issuance,
            status,
            actor=issuance.operator,
            reason=reason[:64],
            reason_text=text[:200],
            ended_at=timezone.now(),
        )
        if status not in (IssuanceStatus.UNKNOWN, IssuanceStatus.MADE):
            Issuance.objects.filter(pk=moved.pk).update(
                exchange_sealed=None, answer_sealed=None, asked_digest=None
            )
            moved.refresh_from_db()
        if moved.feeder_run is not None:
            conclude_run(moved.feeder_run)
    return moved


def ask_to_resolve(issuance: Issuance, *, actor: User) -> Issuance:
    """Have an unknown card read again in the station's reader: its content decides (D8)."""
    plant = issuance.feeder_run
    require(actor, "stations.run_feeder" if plant else "stations.issue_card", issuance)
    with unit_of_work(actor) as work:
        station = locked(issuance.station)
        require_no_feeding(station)
        try:
            with transaction.atomic():
                fresh = move(
                    issuance, IssuanceStatus.RESOLVING, actor=actor, step=0, heard_at=timezone.now(),
                    asked_digest=None, answer_sealed=None,
                )  # fmt: skip
        except IntegrityError as exc:
            raise StationBusyError("该制卡点正在制作另一张卡", where=str(station)) from exc
        begin_step(fresh, StepKind.RESOLVE)
        work.record("issuance.resolve_asked", fresh, serial=fresh.card.serial)
        wake_station(station, RESOLVE, fresh.pk)
    return fresh
