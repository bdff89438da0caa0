"""The line's report: a JSON object a line, a head first and the count last, inside a sealed file."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from portal.core.errors import InputRefusedError
from production.line.made import LineOutcome, MadeCard

FORMAT = "line-report-1"
MAX_LINE = 64 * 1024


class ReportError(InputRefusedError):
    """A report of the line that is cut, damaged or about another run."""

    code = "line_report"


class Sink(Protocol):
    """Where a report goes: a sealed writer or an open file."""

    def write(self, content: bytes, /) -> object:
        """Take the next bytes."""
        ...


class Source(Protocol):
    """Where a report comes from, read line by line."""

    def readline(self, size: int, /) -> bytes:
        """Return one line with its end, at most `size` bytes."""
        ...


def write_report(sink: Sink, run: str, made: Iterable[MadeCard]) -> int:
    """Write the report on `run` card by card; return how many cards it tells of."""
    _put(sink, {"format": FORMAT, "run": run})
    count = 0
    for card in made:
        _put(sink, _as_json(card))
        count += 1
    _put(sink, {"count": count})
    return count


def read_report(source: Source, run: str) -> Iterator[MadeCard]:
    """Yield the cards of the report on `run`; raise ReportError unless it is whole."""
    head = _line(source)
    if head.get("format") != FORMAT or head.get("run") != run:
        raise ReportError("不是这一批次分块的生产报告", expected=run, got=str(head.get("run"))[:60])
    count = 0
    while "count" not in (found := _line(source)):
        yield _from_json(found)
        count += 1
    if found["count"] != count or source.readline(1):
        raise ReportError("生产报告张数不符", expected=str(found["count"]), got=str(count))


def _put(sink: Sink, content: dict[str, Any]) -> None:
    sink.write(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def _line(source: Source) -> dict[str, Any]:
    raw = source.readline(MAX_LINE)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise ReportError("生产报告不完整或已损坏", got=f"{len(raw)} 字节") from None
    if not isinstance(found, dict):
        raise ReportError("生产报告的行不是对象")
    return found


def _as_json(card: MadeCard) -> dict[str, Any]:
    return {
        "sequence": card.sequence,
        "serial": card.serial,
        "outcome": card.outcome,
        "reason": card.reason,
        "machine": card.machine,
        "operator": card.operator,
        "started_at": card.started_at.isoformat(),
        "finished_at": card.finished_at.isoformat(),
        "readback": base64.b64encode(card.readback).decode(),
    }


def _from_json(found: dict[str, Any]) -> MadeCard:
    try:
        return MadeCard(
            sequence=int(found["sequence"]),
            serial=str(found["serial"]),
            outcome=LineOutcome(found["outcome"]),
            reason=str(found["reason"]),
            machine=str(found["machine"]),
            operator=str(found["operator"]),
            started_at=dt.datetime.fromisoformat(found["started_at"]),
            finished_at=dt.datetime.fromisoformat(found["finished_at"]),
            readback=base64.b64decode(found["readback"], validate=True),
        )
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise ReportError("生产报告的一行无法读取") from None
