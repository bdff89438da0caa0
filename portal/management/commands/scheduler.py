"""The clock of the portal: wakes stale tasks, moves finished work on, takes in the watched folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from typing import Any

from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, close_old_connections, connection

import orders.jobs
import production.jobs
import quality.jobs
from portal.queue import sweep
from portal.removal import remove_pending
from portal.services.keys import expire_key_imports
from production.services.destruction_alarms import update_alarms
from stations.services.sweeping import sweep_feeders, sweep_issuances

logger = logging.getLogger(__name__)
SCHEDULER_LOCK = 0x534348  # "SCH"


def guarded(work: Callable[[], Any]) -> Callable[[], None]:
    """Let a passing outage of the database skip one round instead of ending the scheduler."""

    def run() -> None:
        close_old_connections()
        try:
            work()
        except DatabaseError as exc:
            logger.warning("%s skipped: %s", work.__name__, type(exc).__name__)

    run.__name__ = work.__name__
    return run


def advance_all() -> None:
    """Move on everything whose last part is done; each app looks after its own."""
    orders.jobs.advance_all()
    production.jobs.advance_all()
    quality.jobs.advance_all()


def take_in_folder() -> None:
    """Take in what arrived in the watched folder."""
    call_command("intake", watched=True)


def clear_sessions() -> None:
    """Remove sessions that have run out."""
    call_command("clearsessions")


def match_all() -> None:
    """Match every bank's waiting records."""
    call_command("match")


def destroy_due() -> None:
    """Destroy the personal data of signed batches (R-22)."""
    call_command("destroy_due")


def check_destruction() -> None:
    """Raise an alarm for what should be destroyed by now, clear those that are settled (R-22)."""
    update_alarms()


def anchor_audit() -> None:
    """Sign what the audit's chain is now."""
    call_command("audit_anchor")


def sweep_keys() -> None:
    """Destroy keys that killed processes left without a row."""
    call_command("sweep_keys")


ROUNDS: tuple[tuple[Callable[[], Any], BaseTrigger], ...] = (
    (sweep, IntervalTrigger(seconds=10)),
    (advance_all, IntervalTrigger(seconds=5)),
    (take_in_folder, IntervalTrigger(seconds=30)),
    (remove_pending, IntervalTrigger(seconds=60)),
    (sweep_issuances, IntervalTrigger(seconds=20)),
    (sweep_feeders, IntervalTrigger(seconds=20)),
    (expire_key_imports, IntervalTrigger(minutes=10)),
    (sweep_keys, CronTrigger(hour=3, minute=30)),
    (clear_sessions, CronTrigger(hour=3, minute=40)),
    (match_all, CronTrigger(hour=1, minute=30)),
    (destroy_due, CronTrigger(minute=30)),  # due at once: within the hour, at night as well
    (check_destruction, IntervalTrigger(minutes=10)),
    (anchor_audit, CronTrigger(minute=7)),
)


class Command(BaseCommand):
    """Run one scheduler; a second copy waits for nothing and says so."""

    help = "Run the scheduler (one copy at a time, held by a database lock)."

    def handle(self, *args: Any, **options: Any) -> None:
        """Take the lock on a connection of its own and run until told to stop."""
        with closing(connection.copy()) as own:
            with own.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [SCHEDULER_LOCK])
                if not cursor.fetchone()[0]:
                    raise CommandError("已有一个调度进程在运行")
            scheduler = BlockingScheduler(timezone=settings.TIME_ZONE)
            for work, trigger in ROUNDS:
                scheduler.add_job(guarded(work), trigger, coalesce=True, max_instances=1)
            try:
                scheduler.start()
            except (KeyboardInterrupt, SystemExit):
                scheduler.shutdown(wait=False)
