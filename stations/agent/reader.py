"""The agent's hand on the reader: orders to the reader's process, each with a hard time limit.

A process that does not answer in time is killed and started again: a driver may hang for ever, an agent
must not.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stations.agent.reader_process import Command, ReaderPlan, serve
from stations.agent.reading import CardContentError
from stations.transport import base
from stations.transport.commands import CommandRefusedError

START_SECONDS = 20.0  # a new process loads its modules first
ORDER_SECONDS = 16.0  # connecting: two tries of pcscd's client of 5 s, and some
READ_SECONDS = 60.0
SLACK_SECONDS = 5.0  # the reader's own limit comes first


class ReaderHungError(base.TransportError):
    """The driver did not come back in time; its process was killed."""

    code = "reader_hung"


class ReaderCrashedError(base.TransportError):
    """The reader's process ended by itself."""

    code = "reader_crashed"


_ERRORS: dict[str, type[base.TransportError]] = {
    kind.code: kind
    for kind in (
        base.TransportError, base.NoReaderError, base.ReaderGoneError, base.ReaderBusyError,
        base.AmbiguousReaderError, base.ReaderServiceError, base.NoCardError, base.HopperEmptyError,
        base.CardPulledError, base.CardResetError, base.CardSilentError, base.ProtocolError,
        CommandRefusedError,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScriptFault:
    """What stopped a script: at which command, and whether that may have been carried out."""

    code: str
    text: str
    at: int
    sent: bool


@dataclass(slots=True)
class ScriptResult:
    """The card's answers as far as they came: data, status word, microseconds; the fault; the reader's time.

    A command that failed counts too: ten silent seconds are the card's, not the agent's.
    """

    answers: list[tuple[bytes, int, int]] = field(default_factory=list, repr=False)
    fault: ScriptFault | None = None
    microseconds: int = 0


class CardReader:
    """A reader in a process of its own; safe to use from several threads."""

    def __init__(self, plan: ReaderPlan, target: Callable[..., None] = serve) -> None:
        self._plan = plan
        self._target = target
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._process: Any = None
        self._link: Any = None
        self._known: list[dict[str, Any]] = []
        self.trouble = ""
        self.connect_microseconds = 0

    @property
    def virtual(self) -> bool:
        """Say whether no real card will ever be in it."""
        return self._plan.virtual

    def readers(self) -> list[dict[str, Any]]:
        """Return the readers and their cards; while a card is at work, what was known before."""
        if not self._lock.acquire(timeout=0.2):
            return self._known
        try:
            self._known = self._order("readers")
            self.trouble = ""
        except base.TransportError as exc:
            self._known, self.trouble = [], str(exc)
        finally:
            self._lock.release()
        return self._known

    def present(self) -> bool:
        """Say whether a card is in the reader; raise a TransportError."""
        with self._lock:
            return bool(self._order("present"))

    def connect(self) -> bytes:
        """Power the card up and return its ATR."""
        with self._lock:
            atr, self.connect_microseconds = self._order("connect")
        return bytes(atr)

    def release(self) -> None:
        """Power the card down; trouble with that is no trouble any more."""
        with self._lock, contextlib.suppress(base.TransportError):
            self._order("release")

    def feed(self, serial: str) -> bool:
        """Have a virtual feeder bring a blank; False where a person must."""
        with self._lock:
            return bool(self._order("feed", serial))

    def read_milliseconds(self) -> int:
        """Read the card as every counter does first and return how long it took (R-24)."""
        with self._lock:
            return int(self._order("read", seconds=READ_SECONDS))

    def run(
        self,
        script: Sequence[Command],
        *,
        command_seconds: float,
        total_seconds: float,
        progress: Callable[[int], None],
        changes_from: int = 0,
    ) -> ScriptResult:
        """Send a script; `progress` hears the position of the command that may be on its way.

        `changes_from`: the first command that changes the card; all answers before it come before it.
        """
        heard = time.perf_counter()

        def hear(at: int) -> None:
            nonlocal heard
            progress(at)
            heard = time.perf_counter()

        with self._lock:
            result = self._run((list(script), changes_from), command_seconds, total_seconds, hear)
        result.microseconds = sum(spent for _, _, spent in result.answers)
        if result.fault is not None:
            result.microseconds += round((time.perf_counter() - heard) * 1_000_000)
        return result

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def _run(
        self,
        given: tuple[list[Command], int],
        command_seconds: float,
        total_seconds: float,
        progress: Callable[[int], None],
    ) -> ScriptResult:
        result = ScriptResult()
        progress(0)
        try:
            self._send("run", given)
            deadline = time.monotonic() + total_seconds  # not counting a process that had to be started
            while True:
                left = min(command_seconds + SLACK_SECONDS, deadline - time.monotonic())
                kind, value = self._receive(max(left, 0.0))
                if kind == "value":
                    return result
                if kind == "fault":
                    code, text, sent = value
                    result.fault = ScriptFault(code, text, len(result.answers), sent)
                    return result
                result.answers += value
                progress(min(len(result.answers), len(given[0]) - 1))
        except base.TransportError as exc:
            result.fault = ScriptFault(exc.code, exc.message, len(result.answers), sent=True)
        return result

    def _order(self, name: str, *given: Any, seconds: float = ORDER_SECONDS) -> Any:
        """Give an order and return its value; raise the error that the other side met."""
        self._send(name, given)
        kind, value = self._receive(seconds)
        if kind == "error":
            code, message, where, expected, got = value
            error = (
                CardContentError if code == CardContentError.code else _ERRORS.get(code, base.TransportError)
            )
            raise error(message, where=where, expected=expected, got=got)
        return value

    def _send(self, name: str, given: tuple[Any, ...]) -> None:
        if self._process is None or not self._process.is_alive():
            self._start()
        try:
            self._link.send((name, given))
        except (OSError, ValueError) as exc:
            self._kill()
            raise ReaderCrashedError("读写器进程意外结束") from exc

    def _receive(self, seconds: float) -> tuple[str, Any]:
        try:
            if self._link.poll(seconds):
                kind, value = self._link.recv()
                return kind, value
        except (EOFError, OSError) as exc:
            self._kill()
            raise ReaderCrashedError("读写器进程意外结束") from exc
        self._kill()
        raise ReaderHungError("读写器在限定时间内没有返回，已重新启动")

    def _start(self) -> None:
        self._kill()
        self._link, far = self._context.Pipe()
        self._process = self._context.Process(
            target=self._target, args=(far, self._plan, os.getpid()), name="reader", daemon=True
        )
        self._process.start()
        far.close()
        self._link.send(("readers", ()))
        if not self._link.poll(START_SECONDS):
            self._kill()
            raise ReaderHungError("读写器进程没有启动")
        with contextlib.suppress(EOFError, OSError):
            self._link.recv()  # whatever it says: it runs

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
            self._process.close()
            self._link.close()
        self._process = self._link = None
