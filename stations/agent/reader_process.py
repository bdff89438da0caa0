"""The reader's own process: it alone loads the driver, so that a driver that hangs can be killed (D7).

It knows no address, no credential and no job: it is told what to do with the card, one order after the
other, and hands on what the card answered to a script within milliseconds.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from portal.core.errors import PortalError
from portal.lifeline import end_with_parent
from production.personalization.profile import load_profile
from stations.agent.feeder import CardSource, RealReader, VirtualFeeder
from stations.agent.reading import Terminal, read_card
from stations.transport.base import CardResetError, NoCardError, TransportError


@dataclass(frozen=True, slots=True)
class ReaderPlan:
    """Which reader a process is to open."""

    virtual: bool = False
    name: str = ""
    psam_name: str = ""
    profile: str = "sssc-3.0-sm4"
    area: str = "440600"
    hopper: int = 0
    faults: tuple[str, ...] = ()


BUNDLE_SECONDS = 0.005  # waking the agent for every answer would cost as much as a fast card's command
Order = tuple[str, tuple[Any, ...]]
Command = tuple[bytes, frozenset[int]]


def serve(link: Connection, plan: ReaderPlan, parent: int) -> None:
    """Obey orders until the other end closes or dies."""
    if os.getppid() != parent:
        return
    end_with_parent(signal.SIGKILL, parent=parent)()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the agent decides when a card is left alone
    source = (
        VirtualFeeder(plan.hopper, plan.faults) if plan.virtual else RealReader(plan.name, plan.psam_name)
    )
    orders = _orders(source, plan)
    try:
        while True:
            name, given = link.recv()
            if name == "run":
                _run(link, source, *given)
            else:
                _answer(link, orders[name], given)
    except (EOFError, OSError):
        return


def _orders(source: CardSource, plan: ReaderPlan) -> Mapping[str, Callable[..., Any]]:
    return {
        "readers": source.readers,
        "present": source.present,
        "connect": lambda: _connect(source),
        "release": source.release,
        "feed": source.feed,
        "read": lambda: _read(source, plan),
    }


def _connect(source: CardSource) -> tuple[bytes, int]:
    """Power the card up; return its ATR and how many microseconds that took."""
    begun = time.perf_counter_ns()
    atr = source.connect()
    return atr, (time.perf_counter_ns() - begun) // 1000


def _read(source: CardSource, plan: ReaderPlan) -> int:
    terminal = Terminal(source.psam, plan.area) if source.psam else None
    return read_card(source.transport, load_profile(plan.profile), terminal).milliseconds


def _answer(link: Connection, work: Callable[..., Any], given: Sequence[Any]) -> None:
    try:
        value = work(*given)
    except PortalError as exc:
        link.send(("error", (exc.code, exc.message, exc.where, exc.expected, exc.got)))
    else:
        link.send(("value", value))


def _run(link: Connection, source: CardSource, script: Sequence[Command], changes_from: int) -> None:
    """Send commands until one is answered unexpectedly; answers go out within BUNDLE_SECONDS.

    All of them do before the first command that changes the card: whatever happens then, the agent knows.
    """
    bundle = _Bundle(link)
    for place, (apdu, accepted) in enumerate(script):
        if place == changes_from:
            bundle.send()
        try:
            answer = source.transport.transmit(apdu)
        except TransportError as exc:
            bundle.send()
            link.send(("fault", (exc.code, exc.message, may_have_been_sent(exc))))
            return
        bundle.add((answer.data, answer.sw, answer.microseconds))
        if answer.sw not in accepted:
            break
    bundle.send()
    link.send(("value", None))


class _Bundle:
    """Answers on their way to the agent."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._answers: list[tuple[bytes, int, int]] = []
        self._sent = time.monotonic()

    def add(self, answer: tuple[bytes, int, int]) -> None:
        """Take an answer along, and send all of them when the last time is long enough ago."""
        self._answers.append(answer)
        if time.monotonic() - self._sent >= BUNDLE_SECONDS:
            self.send()

    def send(self) -> None:
        """Send what there is."""
        if self._answers:
            self._link.send(("answers", self._answers))
            self._answers = []
        self._sent = time.monotonic()


def may_have_been_sent(exc: TransportError) -> bool:
    """Say whether the card may have carried the command out: only an empty reader and a reset deny it."""
    return not (type(exc) is NoCardError or isinstance(exc, CardResetError))
