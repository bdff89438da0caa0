"""The steps of an issuance, each a row with its time, as the counter page shows them live (R-24)."""

from __future__ import annotations

from django.utils import timezone

from stations.choices import StepKind, StepStatus
from stations.models import Issuance, IssuanceStep


def begin_step(issuance: Issuance, kind: StepKind, *, done: bool = False) -> IssuanceStep:
    """Open a step; one that takes no time is done at once."""
    return IssuanceStep.objects.create(
        issuance=issuance,
        kind=kind,
        started_at=timezone.now(),
        status=StepStatus.DONE if done else StepStatus.RUNNING,
        milliseconds=0 if done else None,
    )


def end_step(
    issuance: Issuance, kind: StepKind, *, code: str = "", text: str = "", commands: int = 0
) -> None:
    """Close the open step of a kind with its time; a code says that it failed, and with what."""
    step = issuance.steps.filter(kind=kind, status=StepStatus.RUNNING).order_by("-id").first()
    if step is None:
        return
    IssuanceStep.objects.filter(pk=step.pk).update(
        milliseconds=round((timezone.now() - step.started_at).total_seconds() * 1000),
        status=StepStatus.FAILED if code else StepStatus.DONE,
        code=code[:64],
        text=text[:200],
        command_count=commands,
    )


def fail_open_steps(issuance: Issuance, code: str, text: str) -> None:
    """Close whatever is open as failed: the exchange ended in the middle of it."""
    for step in issuance.steps.filter(status=StepStatus.RUNNING):
        end_step(issuance, StepKind(step.kind), code=code, text=text)
