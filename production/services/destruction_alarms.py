"""Raise an alarm once for each thing overdue for destruction, and clear it when it is gone (R-22)."""

from __future__ import annotations

from datetime import datetime

from django.db import connection
from django.utils import timezone

from portal.audit import unit_of_work
from portal.models import User
from production.models import DestructionAlarm
from production.selectors.overdue import Overdue, overdue

_ALARM_LOCK = 0x414C524D  # "ALRM"


def update_alarms(now: datetime | None = None) -> list[DestructionAlarm]:
    """Raise what is newly overdue, clear what is not any more; return the alarms that stand.

    One at a time: the scheduler and a person may look at once, and each event is audited once.
    """
    moment = now or timezone.now()
    with unit_of_work(User.objects.system()) as work:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ALARM_LOCK])
        late = {(each.kind.value, each.subject): each for each in overdue(moment)}
        standing = {
            (alarm.kind, alarm.subject): alarm for alarm in DestructionAlarm.objects.filter(cleared_at=None)
        }
        for key, alarm in standing.items():
            if key not in late:
                alarm.cleared_at = moment
                alarm.save(update_fields=["cleared_at"])
                work.record("destructionalarm.cleared", alarm, kind=alarm.kind)
        for key, each in late.items():
            if key not in standing:
                alarm = _raised(each)
                work.record("destructionalarm.raised", alarm, kind=alarm.kind, count=alarm.count)
    return list(DestructionAlarm.objects.filter(cleared_at=None).order_by("due_at", "pk"))


def _raised(late: Overdue) -> DestructionAlarm:
    alarm: DestructionAlarm = DestructionAlarm.objects.create(
        kind=late.kind,
        subject=late.subject,
        batch_id=late.batch_id,
        package_id=late.package_id,
        count=late.count,
        due_at=late.due_at,
    )
    return alarm
