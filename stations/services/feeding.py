"""A prepared batch made card after card at a station with a feeder (R-16, R-18, D8).

The agent asks for the next card and says which blank lies in its reader; the portal looks the blank up among
the batch's own, so that no order of blanks in the hopper can make a card wrong, and none is made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from orders.choices import CardKind
from portal.audit import unit_of_work
from portal.core.errors import ConflictError, InputRefusedError, PermissionRefusedError
from portal.models import User
from portal.roles import require
from portal.workflow import locked, move
from production.line.made import LINE_FAULTS, LineOutcome
from production.models import Batch, Card
from production.services.counter import CounterReport
from production.services.station_runs import give_to_station, report_station_card, run_at_station
from stations.choices import FeederStatus, IssuanceStatus, StepKind
from stations.models import FeederRun, Issuance, Station
from stations.queues import FEED
from stations.services.desk import StationNotReadyError, lacks_turning
from stations.services.issuance import StationBusyError
from stations.services.plant_runs import AT_WORK, conclude_run, stop_run, waiting_cards
from stations.services.registry import NotEnrolledError, is_online
from stations.services.steps import begin_step
from stations.services.waking import FEEDER_SECONDS, wake_station

FAILED = frozenset({IssuanceStatus.REJECTED, IssuanceStatus.UNKNOWN, IssuanceStatus.CANCELLED})
BLANK_REASONS = {**LINE_FAULTS, "blank_missing": "白卡缺失"}
OTHER_CARD = "这张卡不是本批次的待制白卡"


class FeederStoppedError(ConflictError):
    """A change that only a stopped run allows."""

    code = "feeder_not_stopped"


class BlankNotWaitingError(InputRefusedError):
    """A serial that is none of the run's waiting blanks, or no known reason."""

    code = "blank_not_waiting"


@dataclass(frozen=True, slots=True)
class Stopped:
    """What stopped the agent, for people and by code."""

    code: str
    text: str


def start_feeder(batch: Batch, *, station: Station, actor: User) -> FeederRun:
    """Start a prepared batch at a station of its own supplier, in place of the line.

    Raises StationBusyError, StationNotReadyError, BatchTooLargeError, and TransitionRefusedError for a batch
    that somebody else started meanwhile; nothing stays then.
    """
    require(actor, "production.run_batch", batch)
    require(actor, "stations.run_feeder", station)
    with unit_of_work(actor) as work:
        held, now = _free_station(station, batch), timezone.now()
        file = run_at_station(batch, station=held.code, most=settings.FEEDER_MOST_CARDS, actor=actor)
        try:
            with transaction.atomic():
                run = FeederRun.objects.create(
                    station=held, batch=batch, machine_file=file, operator=actor, prints=_prints(held, batch),
                    continued_at=now, heard_at=now,
                )  # fmt: skip
        except IntegrityError as exc:
            raise StationBusyError("该制卡点正在制作另一个批次", where=str(held)) from exc
        work.record("feederrun.started", run, station=held.code, prints=run.prints)
        wake_station(held, FEED, run.pk, seconds=FEEDER_SECONDS)
    return run


def _free_station(station: Station, batch: Batch) -> Station:
    """Return the locked station when it can make this batch now."""
    held = locked(station)
    if held.operator_id != batch.order.contract.supplier_id:
        raise PermissionRefusedError("该制卡点不属于本批次的中标人", where=str(held))
    if held.credential_digest is None or not held.is_active:
        raise NotEnrolledError("该制卡点未启用或没有凭证", where=held.code)
    if not held.has_feeder:
        raise StationNotReadyError("该制卡点没有送卡器", where=str(held))
    if not is_online(held) or not held.report.get("readers"):
        raise StationNotReadyError("制卡点离线，或没有读写器", where=str(held))
    if Issuance.objects.filter(station=held, status__in=AT_WORK).exists():
        raise StationBusyError("该制卡点正在制卡", where=str(held))
    return held


def _prints(station: Station, batch: Batch) -> bool:
    """Say whether faces are printed here: the station has a printer, and the cards a face (R-4)."""
    prints = bool(station.report.get("printer")) and batch.card_kind != CardKind.PREMADE
    if prints and lacks_turning(station):
        raise StationNotReadyError("打印机不能两面打印", where=str(station))
    return prints


def next_card(run: FeederRun, *, atr: bytes = b"", stopped: Stopped | None = None) -> dict[str, Any]:
    """Answer the agent: which blank to bring, which issuance the card in its reader is, or to stop and why.

    The same message twice gets the same issuance: a blank is given out once.
    """
    with unit_of_work(run.operator):
        locked(run.station)  # always before the run, as those do who start one
        fresh = locked(run)
        FeederRun.objects.filter(pk=fresh.pk).update(heard_at=timezone.now())
        fresh = _judged(fresh, stopped)
        if fresh.status != FeederStatus.RUNNING:
            return _answer(fresh, "stop", code=fresh.reason, text=fresh.reason_text)
        if not atr:
            return _answer(fresh, "feed")
        card = waiting_cards(fresh).filter(atr=atr.hex().upper()).select_related("batch").first()
        if card is None:
            return _answer(fresh, "other", code="card_other", text=OTHER_CARD)
        return _given_out(fresh, card)


def _judged(run: FeederRun, stopped: Stopped | None) -> FeederRun:
    """Stop or end a run that is to go no further."""
    if run.status != FeederStatus.RUNNING:
        return run
    if stopped is not None:
        return stop_run(run, stopped.code, stopped.text)
    most = settings.FEEDER_MOST_REJECTS
    tried = run.issuances.filter(requested_at__gte=run.continued_at).order_by("-id")
    latest = list(tried.values_list("status", flat=True)[:most])
    if len(latest) == most and FAILED.issuperset(latest):
        return stop_run(run, "too_many_rejects", f"连续 {most} 张没有制成")
    return conclude_run(run)


def _given_out(run: FeederRun, card: Card) -> dict[str, Any]:
    """Return the card's issuance, which is new unless the answer was lost."""
    open_one = Issuance.objects.filter(station=run.station_id, status__in=AT_WORK).first()
    if open_one is not None and (open_one.card_id, open_one.status) == (card.pk, IssuanceStatus.QUEUED):
        return _answer(run, "card", issuance=open_one.pk)
    if open_one is not None:
        held = stop_run(run, "card_open", "制卡点的上一张卡尚未了结，请稍后再继续")
        return _answer(held, "stop", code=held.reason, text=held.reason_text)
    with unit_of_work(run.operator) as work:
        issuance = Issuance.objects.create(
            station=run.station, batch=run.batch, card=card, operator=run.operator, feeder_run=run,
            heard_at=timezone.now(), prints_front=not run.station.front_is_preprinted,
        )  # fmt: skip
        begin_step(issuance, StepKind.QUEUE)
        work.record("issuance.started", issuance, station=run.station.code, serial=card.serial)
    return _answer(run, "card", issuance=issuance.pk)


def _answer(
    run: FeederRun, action: str, *, code: str = "", text: str = "", issuance: int = 0
) -> dict[str, Any]:
    serial = "" if action == "stop" else waiting_cards(run).values_list("serial", flat=True).first() or ""
    return {
        "action": action,
        "issuance": issuance,
        "serial": serial,
        "prints": run.prints,
        "code": code,
        "text": text,
    }


def current_run(station: Station) -> FeederRun | None:
    """Return the run that a station's agent is to go on with after its own restart."""
    found: FeederRun | None = FeederRun.objects.filter(station=station, status=FeederStatus.RUNNING).first()
    return found


def stop_feeder(run: FeederRun, *, actor: User) -> FeederRun:
    """Stop a run after the card in the reader; the agent hears of it before its next card."""
    require(actor, "stations.stop_feeder", run)
    with unit_of_work(actor):
        return move(
            run, FeederStatus.STOPPED, actor=actor, details={"reason": "stopped"}, reason="stopped",
            reason_text=f"由 {actor.get_full_name() or actor.username} 停止",
        )  # fmt: skip


def continue_feeder(run: FeederRun, *, station: Station | None = None, actor: User) -> FeederRun:
    """Go on with the cards that are left, at the same station or at another one of the supplier."""
    require(actor, "stations.run_feeder", run)
    target = station or run.station
    require(actor, "stations.run_feeder", target)
    with unit_of_work(actor):
        held, fresh, now = _free_station(target, run.batch), locked(run), timezone.now()
        if fresh.issuances.filter(status__in=AT_WORK).exists():
            raise StationBusyError("上一张卡尚未了结，请稍后再继续", where=str(fresh.station))
        give_to_station(fresh.machine_file, held.code)
        try:
            with transaction.atomic():
                moved = move(
                    fresh, FeederStatus.RUNNING, actor=actor, details={"station": held.code}, station=held,
                    operator=actor, prints=_prints(held, fresh.batch), reason="", reason_text="",
                    continued_at=now, heard_at=now,
                )  # fmt: skip
        except IntegrityError as exc:
            raise StationBusyError("该制卡点正在制作另一个批次", where=str(held)) from exc
        wake_station(held, FEED, moved.pk, seconds=FEEDER_SECONDS)
    return moved


def spoil_blanks(run: FeederRun, serials: Sequence[str], *, reason: str, actor: User) -> FeederRun:
    """Reject waiting blanks of a stopped run that cannot be made: mute, damaged, missing. All or none.

    Their positions wait for the remake; the last of them ends the run.
    """
    require(actor, "stations.run_feeder", run)
    with unit_of_work(actor) as work:
        fresh, now = locked(run), timezone.now()
        if fresh.status != FeederStatus.STOPPED or fresh.issuances.filter(status__in=AT_WORK).exists():
            raise FeederStoppedError("须先停止送卡，并等上一张卡了结", where=str(fresh.batch))
        cards = list(waiting_cards(fresh).filter(serial__in=serials).select_related("batch"))
        if not cards or len(cards) != len(serials) or reason not in BLANK_REASONS:
            missing = sorted(set(serials) - {card.serial for card in cards})
            raise BlankNotWaitingError("不是本批次待制的白卡，或没有选择原因", where="、".join(missing)[:200])
        who = actor.get_full_name() or actor.username
        report = CounterReport(LineOutcome.BAD, reason, fresh.station.code, who, now, now)
        for card in cards:
            report_station_card(card, report, actor=User.objects.system())
        work.record("feederrun.blanks_spoiled", fresh, serials=sorted(serials), reason=reason)
        return conclude_run(fresh)
