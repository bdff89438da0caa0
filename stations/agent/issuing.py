"""One card through reader and printer: the agent carries bytes, the portal decides (D7, D8)."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from portal.core.errors import PortalError
from stations.agent.bench import Bench
from stations.agent.client import AnswerRefusedError
from stations.agent.journal import NOT_PRINTED, PRINTING
from stations.agent.reader import ScriptFault, ScriptResult
from stations.agent.timing import Stopwatch
from stations.printing.following import PrintNote, print_face
from stations.printing.printer import ENDS, JobState, Printer
from stations.printing.sides import checked_sides
from stations.transport.base import AmbiguousReaderError, CardSilentError, NoCardError, TransportError

logger = logging.getLogger(__name__)
PAUSE_SECONDS = 0.1
HARMLESS = frozenset({"select", "authenticate", "read"})
CLAIM_BYTES = 16


class NoCardInTimeError(NoCardError):
    """Nobody put the card in."""

    code = "no_card"


class TwoCardsInTimeError(AmbiguousReaderError):
    """Nobody took the second card away."""


class NoPrinterError(PortalError):
    """The station has no printer."""

    code = "no_printer"


def make_card(bench: Bench, issuance: int, *, prints: bool = True) -> None:
    """Carry one issuance, or the reading again of an unknown card, to where the portal's people go on.

    `prints`: a printer is needed; a plant may print elsewhere.
    """
    tell_of_the_past(bench)
    bench.running, bench.watch = issuance, Stopwatch()
    bench.journal.write(issuance, 0)
    try:
        _make(bench, issuance, prints)
    except AnswerRefusedError as exc:  # it was ended elsewhere: cancelled, swept, told before a restart
        logger.warning("issuance %d: the portal goes no further (%s)", issuance, exc.got)
    finally:
        bench.reader.release()
        bench.running = None
    bench.journal.clear()


def _make(bench: Bench, issuance: int, prints: bool) -> None:
    try:
        if prints:
            _printer(bench)
        answer = _begun(bench, issuance)
    except TransportError as exc:
        answer = _refuse(bench, issuance, exc)
    except NoPrinterError as exc:
        answer = _refuse(bench, issuance, exc)
    while "commands" in answer:
        answer = _step(bench, issuance, answer)
    logger.info("issuance %d: %s %s", issuance, answer.get("result"), answer.get("code") or "")
    if answer.get("print"):
        _print(bench, issuance, answer["print"])


def _refuse(bench: Bench, issuance: int, exc: PortalError) -> dict[str, Any]:
    """Tell a fault that came before any command."""
    fault = ScriptFault(exc.code, exc.message[:200], 0, sent=False)
    return bench.client.send_step(issuance, 0, step_body(ScriptResult(fault=fault)))


def _begun(bench: Bench, issuance: int) -> dict[str, Any]:
    """Wait for the right card; another one is told to the portal and waited out of the reader."""
    deadline = time.monotonic() + bench.card_seconds
    while True:
        atr = _card(bench, deadline)
        answer = bench.client.begin(issuance, bench.reader_name, atr)
        if "commands" in answer or answer.get("step") != 0:
            return answer
        if not bench.reader.feed(str(answer.get("serial", ""))):
            _await(bench, deadline, present=False)


def _card(bench: Bench, deadline: float) -> bytes:
    """Return the ATR of the card in the reader, or to come; a mute one is waited out like a wrong one."""
    while True:
        _await(bench, deadline, present=True)
        try:
            atr = bench.reader.connect()
        except (NoCardError, AmbiguousReaderError):
            continue
        except CardSilentError:
            _await(bench, deadline, present=False)
        else:
            bench.watch.start(bench.reader.connect_microseconds, bench.client.waited)
            return atr


def _await(bench: Bench, deadline: float, *, present: bool) -> None:
    """Wait for a card to come or go, and for one of two to go; raise what is missing when the time is up.

    Whatever else is wrong with the reader is raised at once.
    """
    while (found := _present(bench)) is not present:
        if time.monotonic() >= deadline:
            if found is None:
                raise TwoCardsInTimeError("两台读写器中都有卡片，在限定时间内没有取走一张")
            raise NoCardInTimeError("在限定时间内没有放入所选的白卡")
        time.sleep(PAUSE_SECONDS)


def _present(bench: Bench) -> bool | None:
    """Say whether a card is in the reader; None where it could be one of two: neither is touched then."""
    try:
        return bench.reader.present()
    except AmbiguousReaderError:
        return None


def _step(bench: Bench, issuance: int, asked: dict[str, Any]) -> dict[str, Any]:
    """Send one script to the card and its answers to the portal."""
    step = int(asked["step"])
    script = [
        (bytes.fromhex(command["apdu"]), _accepted(tuple(command["expect"]))) for command in asked["commands"]
    ]
    limits = asked.get("timeouts", {})
    result = bench.reader.run(
        script,
        command_seconds=float(limits.get("apdu_seconds", 10)),
        total_seconds=float(limits.get("total_seconds", 90)),
        progress=lambda at: bench.journal.write(issuance, step, at),
        changes_from=_first_change(asked["commands"]),
    )
    bench.watch.reader += result.microseconds
    body = step_body(result, bench.watch.times(bench.client.waited))
    return bench.client.send_step(issuance, step, body)


@lru_cache(maxsize=64)
def _accepted(words: tuple[str, ...]) -> frozenset[int]:
    """Return status words as numbers; the few sets there are, made and handed to the reader once."""
    return frozenset(int(sw, 16) for sw in words)


def _first_change(commands: Sequence[Mapping[str, Any]]) -> int:
    """Return the place of the first command that changes the card, the script's length where none does."""
    places = (place for place, command in enumerate(commands) if command["phase"] not in HARMLESS)
    return next(places, len(commands))


def step_body(result: ScriptResult, times: dict[str, int] | None = None) -> dict[str, Any]:
    """Return what a script brought back, as the portal reads it."""
    responses = [
        {"answer": data.hex(), "sw": f"{sw:04X}", "reader_us": spent} for data, sw, spent in result.answers
    ]
    fault = result.fault
    told = fault and {"code": fault.code, "text": fault.text[:200], "at": fault.at, "sent": fault.sent}
    return {"responses": responses, "fault": told, "times": times}


def print_again(bench: Bench, issuance: int) -> None:
    """Print a written card whose first print was certainly not submitted; the chip is left alone (D8)."""
    tell_of_the_past(bench)
    bench.running, bench.watch = issuance, Stopwatch()
    bench.journal.write(issuance, NOT_PRINTED)
    try:
        _print(bench, issuance, bench.client.print_order(issuance, secrets.token_hex(CLAIM_BYTES)))
    except AnswerRefusedError as exc:  # swept or looked at meanwhile, or another worker has it
        logger.warning("issuance %d: not printed again (%s)", issuance, exc.got)
    finally:
        bench.running = None
    bench.journal.clear()


def _print(bench: Bench, issuance: int, order: dict[str, Any]) -> None:
    """Print the faces from memory as one job and tell its every change."""
    bench.journal.write(issuance, NOT_PRINTED)
    try:
        printer = _printer(bench)
        faces = bench.client.faces(issuance, checked_sides(order.get("sides")))
    except PortalError as exc:
        note = PrintNote(JobState.NOT_SUBMITTED, None, (), str(exc)[:200])
        bench.client.send_print(issuance, print_body(note))
        return
    bench.watch.stop(bench.client.waited)
    bench.journal.write(issuance, PRINTING)
    print_face(
        printer,
        faces,
        f"card-{issuance}",
        lambda note: _tell(bench, issuance, note),
        seconds=bench.print_seconds,
    )


def _printer(bench: Bench) -> Printer:
    if bench.printer is None:
        raise NoPrinterError("本制卡点没有打印机")
    return bench.printer


def _tell(bench: Bench, issuance: int, note: PrintNote) -> None:
    """Tell a change; only the last one is worth waiting for a portal that is away."""
    body = print_body(note) | {"times": bench.watch.times(bench.client.waited)}
    bench.client.send_print(issuance, body, patient=note.state in ENDS)


def print_body(note: PrintNote) -> dict[str, Any]:
    """Return a change of the print job, as the portal reads it."""
    return {
        "state": str(note.state),
        "job_id": note.number,
        "reasons": [reason[:60] for reason in note.reasons][:20],
        "text": note.text[:200],
    }


def tell_of_the_past(bench: Bench) -> None:
    """Tell the portal of an issuance that a killed agent left; what it knows already is kept."""
    entry = bench.journal.read()
    if entry is None:
        return
    logger.warning("issuance %d was at work when the last agent ended", entry.issuance)
    fault = ScriptFault("agent_restarted", "制卡点程序在制卡中重新启动", entry.at, sent=entry.step > 0)
    if entry.step < PRINTING:
        _told(bench, entry.issuance, entry.step, ScriptResult(fault=fault))
    state = JobState.LOST if entry.step == PRINTING else JobState.NOT_SUBMITTED
    try:
        bench.client.send_print(entry.issuance, print_body(PrintNote(state, None, (), fault.text)))
    except AnswerRefusedError as exc:
        logger.info("issuance %d: %s", entry.issuance, exc.got)
    bench.journal.clear()


def _told(bench: Bench, issuance: int, step: int, result: ScriptResult) -> None:
    try:
        bench.client.send_step(issuance, step, step_body(result))
    except AnswerRefusedError as exc:
        logger.info("issuance %d: %s", issuance, exc.got)
