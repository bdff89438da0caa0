"""What an agent's jobs work with, and what it says of it in its heartbeat."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from stations.agent import VERSION
from stations.agent.client import PortalClient
from stations.agent.journal import Journal
from stations.agent.reader import CardReader
from stations.agent.timing import Stopwatch
from stations.printing.printer import Printer, PrinterStatus
from stations.printing.sides import BACK, BOTH, FRONT
from stations.printing.words import in_words
from stations.transport.base import NoReaderError

CARD_SECONDS = 120.0
PRINT_SECONDS = 150.0
TEXT = 60
STATES = {"idle": "空闲", "processing": "打印中", "stopped": "停止", "unreachable": "无法连接"}


class NoReader:
    """Stands where a station has no reader: it says so and refuses whatever needs one."""

    virtual = False
    trouble = "本制卡点没有读写器"
    connect_microseconds = 0

    def _refuse(self, *_given: Any, **_named: Any) -> Any:
        raise NoReaderError(self.trouble)

    present = connect = feed = read_milliseconds = run = _refuse

    def readers(self) -> list[dict[str, Any]]:
        """Name none."""
        return []

    def release(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class Bench:
    """Reader, printer, the portal, and the journal of what is at work."""

    client: PortalClient
    reader: CardReader | NoReader
    printer: Printer | None
    journal: Journal
    reader_name: str = ""
    running: int | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)
    stopping: threading.Event = field(default_factory=threading.Event)
    card_seconds: float = CARD_SECONDS
    print_seconds: float = PRINT_SECONDS
    sides: tuple[str, ...] = (FRONT, BACK)  # what the portal said last

    def report(self) -> dict[str, Any]:
        """Return the heartbeat: every device as it is at this moment."""
        readers = self.reader.readers()
        status = self.printer.status() if self.printer else None
        return {
            "reader_state": self._reader_words(readers)[:TEXT],
            "printer_state": printer_words(status)[:TEXT],
            "agent_version": VERSION,
            "readers": readers[:10],
            "printer": printer_report(status) if status else None,
            "running": self.running,
        }

    def printer_trouble(self, printer: dict[str, Any] | None, words: str) -> str:
        """Say why the printer of a report cannot print what this station prints, empty when it can."""
        if printer is None or printer["state"] == "unreachable":
            return f"打印机：{words}"
        if len(self.sides) == BOTH and printer["turns_over"] is False:
            return "打印机：不能两面打印（白卡正面已预印的，请在制卡点设置中注明）"
        return ""

    def _reader_words(self, readers: list[dict[str, Any]]) -> str:
        if self.reader.trouble:
            return self.reader.trouble
        cards = {"none": "无卡", "present": "有卡", "mute": "卡片无应答"}
        return "；".join(f"{reader['name'][:40]}：{cards[reader['card']]}" for reader in readers)


def printer_words(status: PrinterStatus | None) -> str:
    """Return the printer's state for people."""
    if status is None:
        return "未配置"
    reasons = in_words(status.reasons) if status.state != "unreachable" else ""
    return f"{status.name[:30]}：{STATES[status.state]}" + (f"（{reasons}）" if reasons else "")


def printer_report(status: PrinterStatus) -> dict[str, Any]:
    """Return the printer's state as the portal keeps it."""
    return {
        "name": status.name[:100],
        "state": status.state,
        "turns_over": status.turns_over,
        "reasons": [reason[:60] for reason in status.reasons][:20],
        "supplies": [{"name": supply.name[:60], "level": supply.level} for supply in status.supplies],
    }
