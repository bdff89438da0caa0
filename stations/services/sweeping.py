"""What no message will end any more: agents that vanished, unknown cards that two people decided (D8)."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Exists, OuterRef
from django.utils import timezone

from portal.audit import unit_of_work
from portal.workflow import locked
from production.choices import Outcome
from stations.choices import FeederStatus, IssuanceStatus, PrintState
from stations.models import FeederRun, Issuance
from stations.services.exchange import PrintReport, note_print
from stations.services.issuance import follow_decision, lose, reject
from stations.services.plant_runs import AT_WORK, stop_run
from stations.services.printing import is_unclaimed
from stations.services.steps import fail_open_steps

QUEUED_FOR = timedelta(minutes=6)  # longer than a job waits for its station
SILENT_FOR = timedelta(seconds=120)  # longer than a script may take with every retry of a message
PRINTING_FOR = timedelta(minutes=10)
_TEXT = "制卡点失去联系"


def sweep_issuances() -> int:
    """End issuances whose agent went silent, follow decisions about unknown ones; return how many moved."""
    now = timezone.now()
    waits = {
        IssuanceStatus.QUEUED: QUEUED_FOR,
        IssuanceStatus.RUNNING: SILENT_FOR,
        IssuanceStatus.RESOLVING: SILENT_FOR,
        IssuanceStatus.PRINTING: PRINTING_FOR,
    }
    moved = 0
    for status, wait in waits.items():
        silent = Issuance.objects.filter(status=status, heard_at__lt=now - wait)
        for issuance in silent.select_related("card", "batch", "station", "operator"):
            moved += _end_silent(issuance, status)
    decided = Issuance.objects.filter(
        status=IssuanceStatus.UNKNOWN, card__outcome__in=[Outcome.GOOD, Outcome.REJECTED]
    )
    for issuance in decided.select_related("card", "batch", "station", "operator"):
        follow_decision(issuance)
        moved += 1
    return moved


def sweep_feeders() -> int:
    """Stop runs whose agent neither asks for a card nor makes one; return how many."""
    at_work = Issuance.objects.filter(feeder_run=OuterRef("pk"), status__in=list(AT_WORK))
    silent = FeederRun.objects.filter(
        ~Exists(at_work), status=FeederStatus.RUNNING, heard_at__lt=timezone.now() - SILENT_FOR
    )
    runs = list(silent.select_related("operator"))
    for run in runs:
        stop_run(run, "station_silent", _TEXT)
    return len(runs)


def _end_silent(issuance: Issuance, status: IssuanceStatus) -> bool:
    with unit_of_work(issuance.operator):
        fresh = locked(issuance)
        if fresh.status != status or fresh.heard_at != issuance.heard_at:
            return False
        if status == IssuanceStatus.PRINTING:
            state = PrintState.NOT_SUBMITTED if is_unclaimed(fresh) else PrintState.LOST
            note_print(fresh, PrintReport(state, text=_TEXT))
            return True
        fail_open_steps(fresh, "station_silent", _TEXT)
        # Nothing was sent to a card before the agent's first message, so such a blank was not touched.
        untouched = status == IssuanceStatus.QUEUED
        (reject if untouched else lose)(fresh, "station_silent", _TEXT)
    return True
