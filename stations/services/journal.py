"""The daily journal of a station: every try with its person masked, its blank and its outcome (R-21)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from django.utils import timezone

from orders.personal import masked_name, masked_number
from portal.audit import unit_of_work
from portal.core.keystore import KeyDestroyedError, KeyMissingError
from portal.core.sheets import Column, write_list
from portal.models import User
from portal.roles import require
from portal.texts import told, told_columns
from stations.models import Issuance, Station
from stations.selectors import issuances_of_day

COLUMNS = (
    Column("序号", 6),
    Column("开始时间", 12),
    Column("结束时间", 12),
    Column("社会保障号码", 22),
    Column("姓名", 14),
    Column("白卡批", 18),
    Column("芯片序列号", 20),
    Column("结果", 12),
    Column("原因", 30),
    Column("写卡用时（秒）", 14),
    Column("卡片与读写器（秒）", 18),
    Column("等待平台（秒）", 14),
    Column("操作员", 14),
)


def journal(station: Station, on: dt.date, *, actor: User) -> list[list[str]]:
    """Return a day's lines in the order of COLUMNS; numbers and names masked, "-" once destroyed."""
    require(actor, "stations.view_issuance", station)
    return [_line(place, issuance) for place, issuance in enumerate(issuances_of_day(station, on), 1)]


def export_journal(station: Station, on: dt.date, target: Path | BinaryIO, *, actor: User) -> int:
    """Write a day's journal as Excel; return how many lines it has."""
    rows = journal(station, on, actor=actor)
    with unit_of_work(actor) as work:
        count = write_list(
            target,
            title=told(f"{station.name} {on.isoformat()} 制卡日志"),
            columns=told_columns(COLUMNS),
            rows=rows,
            header_lines=[told(f"导出人：{actor}")],
            sheet_name=told("制卡日志"),
        )
        work.record("station.journal_exported", station, on=on.isoformat(), rows=count)
    return count


def _line(place: int, issuance: Issuance) -> list[str]:
    return [
        str(place),
        _clock(issuance.requested_at),
        _clock(issuance.ended_at),
        *_masked(issuance),
        issuance.card.lot.number,
        issuance.card.serial,
        str(issuance.get_status_display()),
        told(issuance.reason_text),
        _seconds(issuance.total_milliseconds),
        _seconds(issuance.reader_milliseconds),
        _seconds(issuance.waited_milliseconds),
        str(issuance.operator),
    ]


def _seconds(milliseconds: int | None) -> str:
    return "" if milliseconds is None else f"{milliseconds / 1000:.1f}"


def _clock(moment: dt.datetime | None) -> str:
    return "" if moment is None else f"{timezone.localtime(moment):%H:%M:%S}"


def _masked(issuance: Issuance) -> Iterator[str]:
    record = issuance.card.item.record
    for shown in (masked_number, masked_name):
        try:
            yield shown(record) if record is not None else "-"
        except (KeyDestroyedError, KeyMissingError):
            yield "-"
