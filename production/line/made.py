"""What the line says about one card, and the codes it gives for what went wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class LineOutcome(StrEnum):
    """What the line knows: it took the card out as made, threw it out as bad, or lost track of it."""

    MADE = "made"
    BAD = "bad"
    UNKNOWN = "unknown"


# Reasons of the line for a bad card, the supplier's fault.
LINE_FAULTS: Final[Mapping[str, str]] = {
    "chip_mute": "芯片无应答",
    "chip_write_failed": "芯片写入失败",
    "stripe_write_failed": "磁条写入失败",
    "print_fault": "卡面打印缺陷",
    "body_damaged": "卡体损伤",
}
LOST_TRACK: Final = "line_lost"
NOT_REPORTED: Final = "not_reported"
WRONG_CARD: Final = "wrong_card"
CHIP_UNREADABLE: Final = "chip_unreadable"
# Reasons that lie in the data received: not the supplier's cost, no part of its defect rate.
SOURCE_REASONS: Final[Mapping[str, str]] = {
    "glyph_missing": "字库缺字",
    "face_text": "卡面文字放不下",
    "photo_refused": "照片不可用",
    "photo_missing": "缺少照片",
    "chip_content": "数据无法写入芯片",
    "name_too_long": "姓名超出芯片容量",
    "holder_refused": "持卡人数据互相矛盾",
    "stripe_refused": "账号无法写入磁条",
}
REASON_LABELS: Final[Mapping[str, str]] = {
    **LINE_FAULTS,
    **SOURCE_REASONS,
    LOST_TRACK: "生产线失去跟踪",
    NOT_REPORTED: "报告中没有该卡",
    WRONG_CARD: "读回与记录不一致",
    CHIP_UNREADABLE: "芯片内容无法解读",
}


@dataclass(frozen=True, slots=True)
class MadeCard:
    """The line's report on one card; `readback` is the chip as read at the end, b"" without."""

    sequence: int
    serial: str
    outcome: LineOutcome
    reason: str
    machine: str
    operator: str
    started_at: dt.datetime
    finished_at: dt.datetime
    readback: bytes = field(default=b"", repr=False)
