"""Printing a written card once more: only when the first print certainly left no mark on it (D8)."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from portal.audit import unit_of_work
from portal.core.crypto import sm3
from portal.core.errors import ConflictError
from portal.models import User
from portal.roles import require
from portal.workflow import locked, move
from stations.choices import IssuanceStatus, PrintState, StepKind
from stations.models import Issuance
from stations.queues import PRINT_AGAIN
from stations.services.card_jobs import print_order
from stations.services.steps import begin_step, end_step
from stations.services.waking import wake_station


class PrintedAlreadyError(ConflictError):
    """A card that a printer may have marked, or that is being printed: it is looked at, not printed again."""

    code = "print_again_refused"


class PrintClaimedError(ConflictError):
    """A print that is not wanted any more, or that another worker carries out."""

    code = "print_claimed"


def may_print_again(issuance: Issuance) -> bool:
    """Say whether a written card waits whose print was certainly not submitted."""
    return (
        issuance.status == IssuanceStatus.AWAITING_LOOK
        and issuance.is_written
        and issuance.print_state == PrintState.NOT_SUBMITTED
    )


def print_again(issuance: Issuance, *, actor: User) -> Issuance:
    """Have the station print the same card, its chip left alone; raise PrintedAlreadyError.

    Of two who ask at once one is refused: the first one's print may be at the printer by then.
    """
    require(actor, "stations.issue_card", issuance)
    with unit_of_work(actor) as work:
        fresh = locked(issuance)
        if not may_print_again(fresh):
            raise PrintedAlreadyError(
                "不能再次打印：只有确定没有提交给打印机的卡可以",
                got=f"{fresh.get_status_display()}、{fresh.get_print_state_display()}",
            )
        end_step(fresh, StepKind.LOOK, code="print_again", text="没有提交给打印机，再次打印")
        moved = move(
            fresh, IssuanceStatus.PRINTING, actor=actor, print_state=PrintState.NONE, print_job=None,
            print_text="", asked_digest=None, answer_sealed=None, heard_at=timezone.now(),
        )  # fmt: skip
        begin_step(moved, StepKind.PRINT)
        work.record("issuance.print_again_asked", moved, serial=moved.card.serial)
        wake_station(moved.station, PRINT_AGAIN, moved.pk)
    return moved


def is_unclaimed(issuance: Issuance) -> bool:
    """Say whether a print was asked for again that no agent has begun: nothing is at the printer."""
    return issuance.print_state == PrintState.NONE and issuance.asked_digest is None


def claim_print(issuance: Issuance, claim: bytes) -> dict[str, Any]:
    """Tell one agent's worker what to print; the same claim again is a lost answer, another is refused."""
    digest = sm3(claim)
    with unit_of_work(issuance.operator):
        fresh = locked(issuance)
        asked_before = bytes(fresh.asked_digest or digest)
        if (fresh.status, fresh.print_state) != (IssuanceStatus.PRINTING, PrintState.NONE):
            raise PrintClaimedError("该卡现在不打印", got=str(fresh.get_status_display()))
        if asked_before != digest:
            raise PrintClaimedError("该卡已在打印")
        Issuance.objects.filter(pk=fresh.pk).update(asked_digest=digest, heard_at=timezone.now())
    return print_order(fresh)
