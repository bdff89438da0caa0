"""The audit as a CSV file: for people to read, and exact enough to verify it without a database."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Any, ClassVar, TextIO

from portal.core.audit_anchors import Anchor, AnchorFault, check_anchors, held_against
from portal.core.audit_findings import ChainFault
from portal.core.audit_forms import GENESIS, Entry
from portal.core.audit_marks import Mark, held_by_marks, joined
from portal.core.audit_walk import MOST_FAULTS, ChainReport, ChainWalk
from portal.core.clock import local
from portal.core.errors import InputRefusedError

HEADINGS = (
    "序号", "时间", "用户", "单位", "来源地址", "动作", "对象类别", "对象编号", "对象", "内容", "结果",
    "用户编号", "摘要格式", "上一条摘要", "SM3 摘要",
)  # fmt: skip
_TEXTS = (
    "actor_name", "organisation_code", "address", "action", "object_type", "object_id", "object_label",
    "details", "result",
)  # fmt: skip
_RISKY = ("=", "+", "-", "@", "\t", "\r", "'")


class AuditFileError(InputRefusedError):
    """A file that is no export of the audit."""

    code: ClassVar[str] = "audit_file"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of chain and anchors found."""

    report: ChainReport
    faults: tuple[ChainFault, ...]
    anchor_faults: tuple[AnchorFault, ...] = ()
    anchors: int = 0

    @property
    def holds(self) -> bool:
        return not self.faults and not self.anchor_faults

    def found(self) -> list[str]:
        """Say in Chinese what is wrong, the chain's faults first."""
        return [fault.text for fault in self.faults] + [fault.text for fault in self.anchor_faults]


def cells(entry: Entry) -> tuple[str, ...]:
    """Return an entry as cells in the order of HEADINGS; what a spreadsheet would run gets an apostrophe."""
    actor = entry.number("actor_id")
    return (
        str(entry.position),
        local(entry.at).isoformat(" "),
        *(harmless(entry.text(name)) for name in _TEXTS),
        "" if actor is None else str(actor),
        str(entry.number("form")),
        entry.previous.hex(),
        entry.digest.hex(),
    )


def harmless(text: str) -> str:
    """Put an apostrophe before text that begins like a formula, or like text that already has one."""
    return f"'{text}" if text.startswith(_RISKY) else text


def read(file: TextIO) -> Iterator[bytes]:
    """Yield rows for the walk from an export opened with newline=""; raise AuditFileError for another file.

    A line whose cells cannot be read is yielded as a row that does not hold.
    """
    lines = csv.reader(file)
    heading = next(lines, [])
    if len(heading) != len(HEADINGS):
        raise AuditFileError("不是审计导出文件", expected=f"{len(HEADINGS)} 列", got=f"{len(heading)} 列")
    try:
        for line in lines:
            yield _row(line)
    except (csv.Error, UnicodeDecodeError) as exc:
        raise AuditFileError("审计导出文件读不完整", where=f"第 {lines.line_num} 行") from exc


def _row(line: Sequence[str]) -> bytes:
    try:
        position, at, *texts, actor, form, previous, digest = line
        values: dict[str, Any] = {
            name: text.removeprefix("'") for name, text in zip(_TEXTS, texts, strict=True)
        }
        values |= {"position": int(position), "at": datetime.fromisoformat(at), "form": int(form)}
        values |= {"actor_id": int(actor) if actor else None}
        values |= {"previous_digest": bytes.fromhex(previous), "digest": bytes.fromhex(digest)}
        return Entry.of(values).raw()
    except (ValueError, OverflowError, TypeError):
        return b""


def check_file(
    file: TextIO,
    *,
    anchors: Sequence[Anchor] = (),
    trusted: Collection[bytes] | None = None,
    most_faults: int = MOST_FAULTS,
    progress: Callable[[int], None] = lambda checked: None,
) -> Verdict:
    """Walk an exported file and hold it against anchors.

    An export of a period begins in the middle of the chain: what its first entry says of the one before it is
    taken as it stands.
    """
    rows = read(file)
    first = next(rows, None)
    if first is None:
        raise AuditFileError("审计导出文件没有记录")
    start = _position(first)
    return judge(
        chain((first,), rows),
        ChainWalk(start, GENESIS if start == 1 else None, most_faults, progress=progress),
        own=(),
        kept=anchors,
        trusted=trusted,
    )


def judge(
    rows: Iterable[bytes],
    walk: ChainWalk,
    *,
    own: Sequence[Anchor],
    kept: Sequence[Anchor],
    trusted: Collection[bytes] | None,
    marks: Sequence[Mark] = (),
) -> Verdict:
    """Walk rows and hold them against the anchors stored with them (`own`) and those kept elsewhere (`kept`).

    Only anchors that are sound themselves speak for or against the chain. `marks` tell of what no anchor
    covers.
    """
    start = walk.expected
    doubts = (
        list(check_anchors(own, trusted=trusted)),
        list(check_anchors(kept, trusted=trusted, is_whole=False)),
    )
    sound = [*_sound(own, doubts[0]), *_sound(kept, doubts[1])]
    walk.marked = {anchor.position for anchor in sound} | {mark.position for mark in marks}
    report = walk.run(rows)
    found = replace(report, faults=(*report.faults, *held_against(sound, report, start=start)))
    faults = joined([*found.faults, *held_by_marks(marks, found, start=start)], report)
    count = len({anchor.number for anchor in (*own, *kept)})
    return Verdict(report, faults, tuple(dict.fromkeys(chain(*doubts))), count)


def _sound(anchors: Sequence[Anchor], doubts: Sequence[AnchorFault]) -> list[Anchor]:
    doubted = {doubt.number for doubt in doubts if doubt.reason in ("signature", "key")}
    return [anchor for anchor in anchors if anchor.number not in doubted]


def _position(row: bytes) -> int:
    try:
        return Entry.parse(row).position
    except ValueError:
        return 1
