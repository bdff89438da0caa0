"""Card after card from a feeder: the portal says what each blank becomes, and when to stop (R-18, D8).

A real feeder moves its hopper when the card in its reader is powered down; a person who inserts the next card
does the same. A virtual one brings the blank it is asked for.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from portal.core.errors import PortalError
from stations.agent.bench import Bench
from stations.agent.client import AnswerRefusedError
from stations.agent.issuing import PAUSE_SECONDS, make_card, tell_of_the_past
from stations.transport.base import CardSilentError, HopperEmptyError, NoCardError, TransportError

logger = logging.getLogger(__name__)
ASK_SECONDS = 10.0  # how often the portal hears of an agent that waits, and may stop it
MOST_STRAYS = 3  # cards in a row that are none of the batch's, or mute
CARD, OTHER, STOP = "card", "other", "stop"


class AgentStoppedError(PortalError):
    """The agent was told to end."""

    code = "agent_stopped"


class PrinterMissingError(PortalError):
    """The batch is to be printed and no printer answers; its next card is not begun."""

    code = "no_printer"


class StrayCardsError(PortalError):
    """Nothing but other cards comes from the hopper."""

    code = "stray_cards"


class CardStuckError(TransportError):
    """The last card does not leave the reader."""

    code = "card_stuck"


class _ToldToStopError(Exception):
    """The portal stopped the run while the agent waited for a card."""


def feed_batch(bench: Bench, run: int) -> None:
    """Make a batch's cards until the portal says to stop, or tell it what stopped the feeder."""
    tell_of_the_past(bench)
    try:
        _Feeder(bench, run).work()
    except _ToldToStopError:
        logger.info("batch run %d: stopped by the portal", run)
    except AnswerRefusedError as exc:  # moved to another station, or the portal's own refusal
        logger.warning("batch run %d: the portal goes no further (%s)", run, exc.got)


class _Feeder:
    """One run; `_strays` counts the cards in a row of which nothing can be made here."""

    def __init__(self, bench: Bench, run: int) -> None:
        self._bench, self._run = bench, run
        self._strays = 0
        self._used = False  # the card in the reader is one that is done with

    def work(self) -> None:
        """Take card after card until the portal says to stop, or tell it why none can be taken."""
        answer = self._ask()
        try:
            while answer["action"] != STOP:
                self._check(answer)
                answer = self._one(answer)
        except (TransportError, AgentStoppedError, PrinterMissingError, StrayCardsError) as exc:
            answer = self._bench.client.next_card(self._run, b"", (exc.code, exc.message))
        finally:
            self._bench.reader.release()
        logger.info("batch run %d: %s %s", self._run, answer["code"] or "done", answer["text"])

    def _one(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Take one card from the hopper and return the portal's next word."""
        atr = self._next_blank(str(asked["serial"]))
        self._used = True
        # A mute card is put aside like one of another batch: nobody can say whose it is.
        answer = self._ask(atr) if atr else {**asked, "action": OTHER}
        if answer["action"] == CARD:
            self._strays = 0
            make_card(self._bench, int(answer["issuance"]), prints=bool(answer["prints"]))
            return self._ask()
        if answer["action"] == OTHER:
            self._strays += 1
            self._bench.reader.release()
        return answer

    def _ask(self, atr: bytes = b"") -> dict[str, Any]:
        return self._bench.client.next_card(self._run, atr, None)

    def _check(self, answer: dict[str, Any]) -> None:
        """Refuse to begin a card that this station could not finish."""
        if self._bench.stopping.is_set():
            raise AgentStoppedError("制卡点程序已停止")
        if self._strays >= MOST_STRAYS:
            raise StrayCardsError(f"连续 {MOST_STRAYS} 张不是本批次的待制白卡，或没有应答")
        printer = self._bench.printer
        if answer["prints"] and (printer is None or printer.status().state == "unreachable"):
            raise PrinterMissingError("打印机连不上，没有开始下一张")

    def _next_blank(self, serial: str) -> bytes:
        """Return the next card's ATR, nothing for a mute one; raise what is wrong with hopper or reader."""
        reader = self._bench.reader
        if not reader.feed(serial):
            if self._used:
                self._await(CardStuckError("上一张卡没有离开读写器"), present=False)
                self._used = False
            self._await(HopperEmptyError("卡仓空：限定时间内没有下一张卡"), present=True)
        try:
            return reader.connect()
        except CardSilentError:
            return b""
        except NoCardError as exc:
            raise HopperEmptyError("卡仓空：限定时间内没有下一张卡") from exc

    def _await(self, late: TransportError, *, present: bool) -> None:
        """Wait for a card to come or go; the portal is asked meanwhile, for somebody may stop the run."""
        deadline = time.monotonic() + self._bench.card_seconds
        asked = time.monotonic()
        while self._bench.reader.present() is not present:
            if self._bench.stopping.is_set():
                raise AgentStoppedError("制卡点程序已停止")
            if time.monotonic() >= deadline:
                raise late
            if time.monotonic() - asked >= ASK_SECONDS:
                asked = time.monotonic()
                if self._ask()["action"] == STOP:
                    raise _ToldToStopError
            time.sleep(PAUSE_SECONDS)
