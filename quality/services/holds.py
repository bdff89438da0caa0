"""Holds: a batch above 0.1 % ships only when somebody else has dealt with the cause (R-26)."""

from __future__ import annotations

from django.utils import timezone

from portal.audit import unit_of_work
from portal.core.errors import ConflictError, InputRefusedError
from portal.models import User
from portal.roles import require, require_second_person
from portal.workflow import locked, move
from production.models import Batch
from production.services.cards import hold_batch, release_batch_hold
from quality.choices import HoldStatus
from quality.models import Hold
from quality.selectors import defect_rate


class MeasureMissingError(InputRefusedError):
    """A hold is released only with the measure that was taken against its cause (R-31)."""

    code = "measure_missing"


def place_hold(batch: Batch, *, reason: str, actor: User) -> Hold:
    """Stop the batch from shipping."""
    require(actor, "quality.place_hold", batch)
    with unit_of_work(actor) as work:
        fresh = locked(batch)
        if Hold.objects.filter(batch=fresh, status=HoldStatus.ACTIVE).exists():
            raise ConflictError("该批次已冻结", where=fresh.number)
        hold_batch(fresh, reason, actor=actor)
        hold = Hold.objects.create(batch=fresh, reason=reason[:200], placed_by=actor)
        work.record("hold.placed", hold, reason=reason)
    return hold


def hold_if_exceeded(batch: Batch) -> bool:
    """Hold the batch when its rate lies above 0.1 %, once at a time; say whether it is held now (R-26)."""
    rate = defect_rate(batch)
    if rate.exceeded and not batch.held_reason:
        reason = f"错卡、坏卡率 {rate.text}，超过 0.1 %（{rate.wrong + rate.bad}/{rate.made}）"
        place_hold(batch, reason=reason, actor=User.objects.system())
        return True
    return bool(batch.held_reason)


def release_hold(hold: Hold, *, measure: str, actor: User) -> Hold:
    """Release a hold as another person than the one who placed it, naming the measure."""
    require(actor, "quality.release_hold", hold)
    require_second_person(hold.placed_by, actor, hold)
    if not measure.strip():
        raise MeasureMissingError("请填写处置措施", where=hold.batch.number)
    with unit_of_work(actor):
        batch = locked(hold.batch)
        released = move(
            hold,
            HoldStatus.RELEASED,
            actor=actor,
            measure=measure.strip()[:500],
            released_by=actor,
            released_at=timezone.now(),
        )
        release_batch_hold(batch, actor=actor)
    return released
