"""The exchange between a station's agent and the portal: commands out, responses in; no key leaves here.

Every message may come twice: the same one is answered as before, another one in its place is a conflict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from portal.audit import unit_of_work
from portal.core.crypto import sm3
from portal.core.errors import ConflictError, InputRefusedError
from portal.workflow import locked, move
from production.personalization import scripts
from production.personalization.keys import FACTOR_SIZE
from production.personalization.scripts import CardJob, CardResponse, Script, Verification
from stations.choices import IssuanceStatus, PrintState, StepKind
from stations.models import Issuance, Station
from stations.services.card_jobs import card_job, face_of, front_of, print_order, sides_to_print
from stations.services.issuance import finish_plant_card, lose, plant_printed, reject
from stations.services.memory import Memory, kept_answer, load_memory, sealed_answer, sealed_memory
from stations.services.steps import begin_step, end_step, fail_open_steps
from stations.services.timing import AgentTimes, count_commands, keep_times

APDU_SECONDS = 10
TOTAL_SECONDS = 90
# Commands of these phases change the card: a fault after the first of them leaves it unknown (D8).
CHANGING = frozenset({"write", "payment", "finish"})
_RUNS = frozenset({IssuanceStatus.RUNNING, IssuanceStatus.RESOLVING})


class StepConflictError(ConflictError):
    """A message for another step than the one that waits, or another message for the same step."""

    code = "issuance_step"


@dataclass(frozen=True, slots=True)
class Fault:
    """What stopped the agent: code, words for people, the command it was at and whether that was sent."""

    code: str
    text: str
    at: int
    sent: bool


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a script brought back: responses as far as it went, microseconds of each, times, any fault."""

    responses: Sequence[CardResponse] = field(repr=False)
    microseconds: Sequence[int] = ()
    fault: Fault | None = None
    times: AgentTimes | None = None


@dataclass(frozen=True, slots=True)
class PrintReport:
    """What the printer, or the agent about it, says of the job."""

    state: PrintState
    job: int | None = None
    reasons: Sequence[str] = ()
    text: str = ""
    times: AgentTimes | None = None


def issuances_of(station: Station) -> QuerySet[Issuance]:
    """Return the station's own issuances with all that an exchange needs."""
    own: QuerySet[Issuance] = Issuance.objects.filter(station=station)
    return own.select_related(
        "batch", "card__item__record__package", "card__lot", "card__bank", "card__machine_file__batch",
        "station", "operator__organisation",
    )  # fmt: skip


def begin(issuance: Issuance, *, reader: str, atr: bytes) -> dict[str, Any]:
    """Answer the agent's first message: a card lies in the reader; the first script identifies it.

    Another card than the chosen blank spends nothing: the answer says so and the agent waits for the next.
    """
    if code := _other_card(issuance, atr):
        return _another_card(issuance, code)
    return _once(issuance, 1, {"reader": reader, "atr": atr.hex()}, _begin)


_OTHER_CARDS = {
    "card_wrong_type": "读写器中的不是社会保障卡白卡",
    "card_other_serial": "读写器中的不是所选的白卡，请换成所选序列号的白卡",
}


def _other_card(issuance: Issuance, atr: bytes) -> str:
    expected = bytes.fromhex(issuance.card.atr)
    if atr == expected:
        return ""
    return "card_other_serial" if atr[:-FACTOR_SIZE] == expected[:-FACTOR_SIZE] else "card_wrong_type"


def _another_card(issuance: Issuance, code: str) -> dict[str, Any]:
    text = _OTHER_CARDS[code]
    waiting = Issuance.objects.filter(
        pk=issuance.pk, status__in=[IssuanceStatus.QUEUED, IssuanceStatus.RESOLVING]
    )
    waiting.update(reason=code, reason_text=text, heard_at=timezone.now())
    return {**_result(0, IssuanceStatus(issuance.status), code, text), "serial": issuance.card.serial}


def take_step(issuance: Issuance, step: int, report: StepReport) -> dict[str, Any]:
    """Take what a script brought back; answer with the next script, or with what became of the card."""
    asked = {
        "responses": [[response.data.hex(), response.sw] for response in report.responses],
        "fault": report.fault and report.fault.code,
    }
    return _once(issuance, step + 1, asked, lambda fresh: _take(fresh, step, report))


def _once(
    issuance: Issuance, step: int, asked: Mapping[str, Any], answer: Callable[[Issuance], dict[str, Any]]
) -> dict[str, Any]:
    """Answer a step once; the same message again gets the kept answer (a lost reply), another is refused."""
    digest = sm3(json.dumps(asked, sort_keys=True).encode())
    with unit_of_work(issuance.operator):
        held = locked(issuance)
        for name in _FRESH:  # as it is under the lock, and what was loaded with the row stays loaded
            setattr(issuance, name, getattr(held, name))
        if held.step == step and held.asked_digest is not None:
            if bytes(held.asked_digest) != digest:
                raise StepConflictError("同一步骤收到了不同的内容", where=f"第 {step} 步")
            return kept_answer(issuance)
        if held.step != step - 1:
            raise StepConflictError("步骤次序不符", expected=str(held.step + 1), got=str(step))
        found = answer(issuance)
        issuance.refresh_from_db(fields=list(_FRESH))
        kept = None if issuance.status in _ENDED else sealed_answer(issuance, found)
        Issuance.objects.filter(pk=issuance.pk).update(
            step=step, asked_digest=digest if kept else None, answer_sealed=kept, heard_at=timezone.now()
        )
    return found


_FRESH = ("status", "step", "exchange_sealed", "answer_sealed", "asked_digest", "is_written", "print_state")
_ENDED = frozenset(
    {IssuanceStatus.MADE, IssuanceStatus.GOOD, IssuanceStatus.REJECTED, IssuanceStatus.CANCELLED}
)


def _begin(issuance: Issuance) -> dict[str, Any]:
    resolving = issuance.status == IssuanceStatus.RESOLVING
    if not resolving:
        if issuance.status != IssuanceStatus.QUEUED:
            raise StepConflictError("该任务不在等待开始", got=str(issuance.get_status_display()))
        move(issuance, IssuanceStatus.RUNNING, actor=issuance.operator, reason="", reason_text="")
        end_step(issuance, StepKind.QUEUE)
        begin_step(issuance, StepKind.IDENTIFY)
    memory = Memory(purpose="resolve" if resolving else "issue")
    job = card_job(issuance)
    first = scripts.reidentify if resolving else scripts.identify
    script, memory.state = first(job)
    return _next(issuance, memory, script, 1)


def _take(issuance: Issuance, step: int, report: StepReport) -> dict[str, Any]:
    if step == 0 and report.fault is not None:
        return _not_begun(issuance, report.fault)
    if step == 0 or issuance.status not in _RUNS:
        raise StepConflictError("该任务已结束", got=str(issuance.get_status_display()))
    memory = load_memory(issuance)
    count_commands(memory, report.microseconds)
    if report.fault is not None:
        return _stopped(issuance, memory, report, report.fault)
    job = card_job(issuance)
    return (_identified if step == 1 else _done)(issuance, memory, job, report)


def _identified(issuance: Issuance, memory: Memory, job: CardJob, report: StepReport) -> dict[str, Any]:
    resolving = memory.purpose == "resolve"
    following = scripts.reread if resolving else scripts.personalize
    try:
        script, memory.state = following(job, memory.state, report.responses)
    except InputRefusedError as exc:  # another card, a used one, one of another city: nothing was written
        return _refused_card(issuance, exc)
    if not resolving:
        end_step(issuance, StepKind.IDENTIFY, commands=len(report.responses))
        begin_step(issuance, StepKind.PERSONALIZE)
    return _next(issuance, memory, script, 2)


def _done(issuance: Issuance, memory: Memory, job: CardJob, report: StepReport) -> dict[str, Any]:
    resolving = memory.purpose == "resolve"
    check = scripts.verify_reread if resolving else scripts.verify
    found = check(job, memory.state, report.responses)
    kind = StepKind.RESOLVE if resolving else StepKind.PERSONALIZE
    end_step(issuance, kind, code=found.code, text=found.text, commands=len(report.responses))
    keep_times(issuance, memory, report.times)
    if not found.good:
        reject(issuance, found.code, _differing(found))
        return _result(3, IssuanceStatus.REJECTED, found.code, found.text)
    memory.readback = found.readback
    Issuance.objects.filter(pk=issuance.pk).update(
        is_written=True, exchange_sealed=sealed_memory(issuance, memory)
    )
    issuance.refresh_from_db()
    return _to_print(issuance)


def _to_print(issuance: Issuance) -> dict[str, Any]:
    """Have the face printed, unless that was done before the card's outcome became unknown."""
    if issuance.feeder_run_id is not None and (done := finish_plant_card(issuance)):
        return _result(3, IssuanceStatus(done.status), done.reason, done.reason_text)
    if issuance.print_state in (PrintState.NONE, PrintState.NOT_SUBMITTED):
        move(issuance, IssuanceStatus.PRINTING, actor=issuance.operator, print_state=PrintState.NONE)
        begin_step(issuance, StepKind.PRINT)
        return {**_result(3, IssuanceStatus.PRINTING, "", ""), "print": print_order(issuance)}
    move(issuance, IssuanceStatus.AWAITING_LOOK, actor=issuance.operator)
    begin_step(issuance, StepKind.LOOK)
    return _result(3, IssuanceStatus.AWAITING_LOOK, "", "")


def _not_begun(issuance: Issuance, fault: Fault) -> dict[str, Any]:
    """Settle what could not begin: no reader, no card in time. Nothing was sent to any card."""
    if issuance.status not in (IssuanceStatus.QUEUED, IssuanceStatus.RESOLVING):
        raise StepConflictError("该任务不在等待开始", got=str(issuance.get_status_display()))
    resolving = issuance.status == IssuanceStatus.RESOLVING
    fail_open_steps(issuance, fault.code, fault.text)
    (lose if resolving else reject)(issuance, fault.code, fault.text)
    ended = IssuanceStatus.UNKNOWN if resolving else IssuanceStatus.REJECTED
    return _result(1, ended, fault.code, fault.text)


def _stopped(issuance: Issuance, memory: Memory, report: StepReport, fault: Fault) -> dict[str, Any]:
    """Settle an exchange that a fault ended: untouched cards are rejected, others unknown (D8)."""
    # An agent that was killed brings no answers, only how far it may have come.
    reached = max(len(report.responses), fault.at) + (1 if fault.sent else 0)
    touched = any(phase in CHANGING for phase in memory.phases[:reached])
    fail_open_steps(issuance, fault.code, fault.text)
    keep_times(issuance, memory, report.times)
    if memory.purpose == "resolve" or touched:
        lose(issuance, fault.code, fault.text)
        return _result(3, IssuanceStatus.UNKNOWN, fault.code, fault.text)
    reject(issuance, fault.code, fault.text)
    return _result(3, IssuanceStatus.REJECTED, fault.code, fault.text)


def _refused_card(issuance: Issuance, exc: InputRefusedError) -> dict[str, Any]:
    """Settle a card that is refused: a try is over; an unknown card that was never finished is spoiled."""
    fail_open_steps(issuance, exc.code, exc.message)
    if issuance.status == IssuanceStatus.RESOLVING and not isinstance(exc, scripts.UnfinishedCardError):
        lose(issuance, exc.code, exc.message)
        return _result(3, IssuanceStatus.UNKNOWN, exc.code, exc.message)
    reject(issuance, exc.code, exc.message)
    return _result(3, IssuanceStatus.REJECTED, exc.code, exc.message)


def faces(issuance: Issuance) -> list[tuple[str, bytes]]:
    """Return the sides to print as JPEG at 300 DPI, only while they are to be printed; never kept (R-17)."""
    with unit_of_work(issuance.operator) as work:
        if issuance.status != IssuanceStatus.PRINTING:
            raise StepConflictError("该卡现在不打印", got=str(issuance.get_status_display()))
        drawn = {"front": front_of, "back": face_of}
        pictures = [(side, drawn[side](issuance)) for side in sides_to_print(issuance)]
        work.record("issuance.face_sent", issuance)
    return pictures


def note_print(issuance: Issuance, report: PrintReport) -> Issuance:
    """Take a change of the print job; its end leads to the operator's look, never to a good card (D8)."""
    with unit_of_work(issuance.operator):
        fresh = locked(issuance)
        if fresh.status != IssuanceStatus.PRINTING:
            return fresh  # a late or repeated message
        fresh.print_state, fresh.print_job = _believed(fresh, report), report.job or fresh.print_job
        fresh.print_text = "；".join([*report.reasons, report.text])[:200].strip("；")
        fresh.heard_at = timezone.now()
        columns = report.times.columns() if report.times else {}
        for name, value in columns.items():
            setattr(fresh, name, value)
        fresh.save(update_fields=["print_state", "print_job", "print_text", "heard_at", *columns])
        if fresh.print_state in _PRINT_ENDS:
            failed = "" if fresh.print_state == PrintState.COMPLETED else f"print_{fresh.print_state}"
            end_step(fresh, StepKind.PRINT, code=failed, text=fresh.print_text)
            if fresh.feeder_run is not None:
                return plant_printed(fresh)
            begin_step(fresh, StepKind.LOOK)
            return move(fresh, IssuanceStatus.AWAITING_LOOK, actor=fresh.operator)
    return fresh


def _believed(issuance: Issuance, report: PrintReport) -> PrintState:
    """Take no job for unsent that was at the printer already, whatever a late message says (D8)."""
    unsent = report.state == PrintState.NOT_SUBMITTED
    return PrintState.LOST if unsent and issuance.print_state != PrintState.NONE else report.state


_PRINT_ENDS = frozenset(
    {
        PrintState.COMPLETED,
        PrintState.ABORTED,
        PrintState.CANCELED,
        PrintState.LOST,
        PrintState.NOT_SUBMITTED,
    }
)


def _next(issuance: Issuance, memory: Memory, script: Script, step: int) -> dict[str, Any]:
    memory.phases = [str(command.phase) for command in script]
    Issuance.objects.filter(pk=issuance.pk).update(exchange_sealed=sealed_memory(issuance, memory))
    return {
        "step": step,
        "serial": issuance.card.serial,
        "commands": [
            {
                "apdu": command.apdu.hex(),
                "text": command.label,
                "phase": str(command.phase),
                "expect": [f"{sw:04X}" for sw in command.expect],
            }
            for command in script
        ],
        "timeouts": {"apdu_seconds": APDU_SECONDS, "total_seconds": TOTAL_SECONDS},
    }


def _result(step: int, status: IssuanceStatus, code: str, text: str) -> dict[str, Any]:
    return {"step": step, "result": str(status), "code": code, "text": text, "print": None}


def _differing(found: Verification) -> str:
    return f"{found.text}（{'、'.join(found.tags)}）" if found.tags else found.text
