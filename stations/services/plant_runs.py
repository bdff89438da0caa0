"""How a run at a feeder stops and ends: its report is written when every card has its outcome (R-18)."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from portal.audit import unit_of_work
from portal.models import User
from portal.workflow import locked, move
from production.choices import Outcome
from production.line.made import LineOutcome, MadeCard
from production.models import Card
from production.services.station_runs import close_station_run
from stations.choices import FeederStatus, IssuanceStatus
from stations.models import FeederRun, Issuance
from stations.services.memory import load_memory

AT_WORK = ("queued", "running", "printing", "awaiting_look", "resolving")
_SEEN = {
    Outcome.MADE: LineOutcome.MADE,
    Outcome.GOOD: LineOutcome.MADE,  # unknown at first, read again since
    Outcome.REJECTED: LineOutcome.BAD,
    Outcome.UNKNOWN: LineOutcome.UNKNOWN,
}


def stop_run(run: FeederRun, reason: str, text: str) -> FeederRun:
    """Stop a running run with its reason; the card in the reader is finished first. Nothing otherwise."""
    with unit_of_work(run.operator):
        fresh = locked(run)
        if fresh.status != FeederStatus.RUNNING:
            return fresh
        return move(
            fresh, FeederStatus.STOPPED, actor=run.operator, details={"reason": reason[:64]},
            reason=reason[:64], reason_text=text[:200],
        )  # fmt: skip


def conclude_run(run: FeederRun) -> FeederRun:
    """End a run when none of its cards waits: sealed report, batch to its inspection; nothing before that.

    What was read back from each card stays sealed with its issuance until then, and not longer.
    """
    with unit_of_work(run.operator):
        fresh = locked(run)
        if waiting_cards(fresh).exists():
            return fresh
        if fresh.status != FeederStatus.ENDED:
            close_station_run(fresh.machine_file, _lines(fresh), actor=User.objects.system())
            fresh = move(
                fresh, FeederStatus.ENDED, actor=run.operator, reason="", reason_text="",
                ended_at=timezone.now(),
            )  # fmt: skip
        fresh.issuances.filter(status=IssuanceStatus.MADE).update(
            exchange_sealed=None, answer_sealed=None, asked_digest=None
        )
    return fresh


def waiting_cards(run: FeederRun) -> models.QuerySet[Card]:
    """Return the cards of a run that have no outcome yet, in the order of the batch."""
    found: models.QuerySet[Card] = Card.objects.filter(
        machine_file=run.machine_file_id, outcome=Outcome.PENDING
    )
    return found.order_by("item__sequence")


def _lines(run: FeederRun) -> list[MadeCard]:
    """Return the report's lines; cards that their data refused before the run are not in it (R-20)."""
    tries = {issuance.card_id: issuance for issuance in run.issuances.select_related("batch")}
    cards = Card.objects.filter(machine_file=run.machine_file_id, made_at__isnull=False)
    return [
        _line(card, tries.get(card.pk)) for card in cards.select_related("item").order_by("item__sequence")
    ]


def _line(card: Card, issuance: Issuance | None) -> MadeCard:
    assert card.made_at is not None
    outcome = _SEEN[Outcome(card.outcome)]
    return MadeCard(
        card.item.sequence,
        card.serial,
        outcome,
        card.reason,
        card.machine,
        card.operator,
        issuance.requested_at if issuance else card.made_at,
        card.made_at,
        load_memory(issuance).readback if issuance and outcome == LineOutcome.MADE else b"",
    )
