"""Stations: their heartbeat and supplies, credentials, tests, queue, throughput and daily journal."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant

from portal.adminkit import (
    EditableAdmin,
    VerbForm,
    badge,
    bar,
    grouped,
    organisation_filter,
    register,
    result_page,
    signed_in,
    table,
    verb,
    written,
)
from portal.adminkit.columns import Colour
from portal.choices import OrganisationKind
from portal.core.clock import today
from portal.texts import told
from production.admin.references import reference
from stations.choices import SelfTestKind
from stations.models import SelfTest, Station
from stations.selectors import failures, queue, throughput
from stations.services.journal import COLUMNS, export_journal, journal
from stations.services.registry import is_online, offer_enrolment, withdraw_credential
from stations.services.self_tests import request_self_test

TESTS_SHOWN = 10
LOW_SUPPLY = 15  # per cent
PRINTER_STATES: Mapping[str, tuple[Any, Colour]] = {
    "idle": (_("就绪"), "success"),
    "processing": (_("打印中"), "info"),
    "stopped": (_("停止"), "danger"),
    "unreachable": (_("连不上"), "danger"),
}
CARD_STATES = {"none": _("无卡"), "present": _("有卡"), "mute": _("卡片无应答")}


class DayForm(VerbForm):
    """Which day."""

    on = forms.DateField(label=_("日期"))

    def prepare(self) -> None:
        """Offer today."""
        self.initial.setdefault("on", today())


def _enrolled(row: Station) -> bool:
    return row.credential_digest is not None


@register(Station)
class StationAdmin(EditableAdmin[Station]):
    """Where single cards are made."""

    list_display = ("code", "name", "place", "operator", "heartbeat", "reader", "printer", "agent_version")
    list_select_related = ("operator",)
    list_filter = (
        "is_active",
        organisation_filter("operator", OrganisationKind.SUPPLIER, _("运营单位")),
    )
    fieldsets: ClassVar[tuple[Any, ...]] = (
        (
            None,
            {
                "fields": (
                    "code",
                    "name",
                    "place",
                    "operator",
                    "has_feeder",
                    "is_active",
                    "front_is_preprinted",
                )
            },
        ),
        (
            _("状态"),
            {
                "fields": (
                    "heartbeat",
                    "last_seen_at",
                    "readers_table",
                    "printer_table",
                    "agent_version",
                    "credential",
                )
            },
        ),
        (_("队列"), {"fields": ("queue_table",)}),
        (_("产量与用时（近 14 天）"), {"fields": ("throughput_table", "failure_table")}),
        (_("自检"), {"fields": ("test_table",)}),
    )
    readonly_fields = (
        "heartbeat", "last_seen_at", "reader", "printer", "readers_table", "printer_table", "agent_version",
        "credential", "queue_table", "throughput_table", "failure_table", "test_table",
    )  # fmt: skip
    actions_detail: ClassVar[tuple[str, ...]] = (
        "enrol", "withdraw", "test_reader",
        "test_printer", "show_journal", "download_journal",
    )  # fmt: skip

    def get_fieldsets(self, request: HttpRequest, obj: Station | None = None) -> Any:
        """Ask for the station's own columns only while it is being added."""
        found = super().get_fieldsets(request, obj)
        return found if obj is not None else found[:1]

    @display(description=_("心跳"))
    def heartbeat(self, row: Station) -> SafeString:
        """Show whether the station's agent reports."""
        if not row.is_active:
            return badge(_t("停用"))
        if row.last_seen_at is None:
            return badge(_t("从未连接"), "warning", "link_off")
        if is_online(row):
            return badge(_t("在线"), "success", "wifi")
        return badge(_t("离线"), "danger", "wifi_off")

    @display(description=_("读写器"))
    def reader(self, row: Station) -> Any:
        """Show the reader's last report."""
        return told(row.reader_state) or "-"

    @display(description=_("打印机"))
    def printer(self, row: Station) -> Any:
        """Show the printer's last report."""
        return told(row.printer_state) or "-"

    @display(description=_("凭证"))
    def credential(self, row: Station) -> SafeString:
        """Say whether the station may sign in."""
        return badge(_t("已登记"), "success") if _enrolled(row) else badge(_t("未登记"), "warning")

    @display(description=_("读写器与卡"))
    def readers_table(self, row: Station) -> SafeString:
        """List the readers and what lies in them."""
        found = row.report.get("readers") or []
        rows = [(reader["name"], CARD_STATES.get(reader["card"], reader["card"])) for reader in found]
        return table([_t("读写器"), _t("卡片")], rows, empty=_t("没有报告读写器"))

    @display(description=_("打印机与耗材"))
    def printer_table(self, row: Station) -> SafeString:
        """Show the printer's state and how full its supplies are, in words and as bars."""
        printer = row.report.get("printer")
        if not printer:
            return table([], [], empty=_t("没有报告打印机"))
        text, colour = PRINTER_STATES.get(printer["state"], (printer["state"], ""))
        reasons = "、".join(printer.get("reasons") or []) or "-"
        lines = [
            (printer["name"], format_html("{} {}", badge(text, colour), reasons)),
            (_t("两面打印"), _turns(printer.get("turns_over"), needed=not row.front_is_preprinted)),
            *((supply["name"], _level(supply["level"])) for supply in printer.get("supplies") or []),
        ]
        return table([_t("部件"), _t("状态")], lines)

    @display(description=_("未完成的卡"))
    def queue_table(self, row: Station) -> SafeString:
        """List what is being made and what is unknown."""
        rows = [
            (
                reference(issuance, issuance.card.serial),
                issuance.get_status_display(),
                told(issuance.reason_text) or "-",
                issuance.operator,
                date_format(issuance.requested_at, "DATETIME_FORMAT"),
            )
            for issuance in queue(row)
        ]
        headers = [_t("芯片序列号"), _t("状态"), _t("说明"), _t("操作员"), _t("开始时间")]
        return table(headers, rows, empty=_t("没有未完成的卡"))

    @display(description=_("每日产量"))
    def throughput_table(self, row: Station) -> SafeString:
        """Show counts and times of writing with read-back, day by day (R-24)."""
        rows = [
            (
                date_format(day.on), grouped(day.started), grouped(day.good), grouped(day.rejected),
                grouped(day.unknown), _seconds(day.median), _seconds(day.slowest),
            )
            for day in throughput(row)
        ]  # fmt: skip
        headers = [
            _t("日期"), _t("开始"), _t("良品"), _t("废品"), _t("未知"), _t("写卡用时中位数（秒）"),
            _t("写卡用时 95 分位（秒）"),
        ]  # fmt: skip
        return table(headers, rows, empty=_t("还没有制卡"))

    @display(description=_("失败原因"))
    def failure_table(self, row: Station) -> SafeString:
        """Show why cards failed."""
        rows = [(code, told(text) or "-", grouped(count)) for code, text, count in failures(row)]
        return table([_t("代码"), _t("原因"), _t("张数")], rows, empty=_t("没有失败"))

    @display(description=_("近期自检"))
    def test_table(self, row: Station) -> SafeString:
        """Show the latest self-tests; EF05 and EF06 take 3 s at most (R-24)."""
        rows = [
            (
                date_format(test.requested_at, "DATETIME_FORMAT"),
                test.get_kind_display(),
                _test_state(test),
                _seconds(test.read_milliseconds),
                told(test.error_text) or "-",
            )
            for test in row.self_tests.all()[:TESTS_SHOWN]
        ]
        return table([_t("发起时间"), _t("内容"), _t("结果"), _t("用时（秒）"), _t("说明")], rows)

    @verb(
        label=_("发出登记码"),
        permission="stations.enrol_station",
        when=lambda row: row.is_active,
        icon="key",
        help_text=_("生成一次性登记码，15 分钟内在制卡点电脑上输入一次；原凭证在登记码用过后失效。"),
    )
    def enrol(self, request: HttpRequest, row: Station, cleaned: dict[str, Any]) -> HttpResponse:
        """Show a one-time code for the station's machine this once."""
        station, one_time = offer_enrolment(row, actor=signed_in(request))
        body = format_html('<p class="pk-secret">{}</p>', one_time)
        help_text = _t("只显示这一次，只能用一次；请当面告知制卡点的操作人员，不要写入邮件或聊天工具。")
        return result_page(self, request, station, title=_t("制卡点登记码"), body=body, help_text=help_text)

    @verb(
        label=_("收回凭证"),
        permission="stations.enrol_station",
        when=_enrolled,
        icon="key_off",
        variant=ActionVariant.DANGER,
        help_text=_("电脑遗失或停用时收回；该制卡点立即不能再连接。"),
    )
    def withdraw(self, request: HttpRequest, row: Station, cleaned: dict[str, Any]) -> str:
        """Shut the station out."""
        withdraw_credential(row, actor=signed_in(request))
        return _t("凭证已收回")

    @verb(
        label=_("读卡自检"),
        permission="stations.test_station",
        when=_enrolled,
        icon="contactless",
        help_text=_("请先在读写器中放入测试卡；结果在本页“自检”中显示。"),
    )
    def test_reader(self, request: HttpRequest, row: Station, cleaned: dict[str, Any]) -> str:
        """Ask the station to read the card in its reader."""
        request_self_test(row, actor=signed_in(request))
        return _t("已通知制卡点，稍后刷新本页查看结果")

    @verb(
        label=_("打印测试卡"),
        permission="stations.test_station",
        when=_enrolled,
        icon="print",
        help_text=_("打印一张不含个人数据的测试卡，消耗一张卡片和色带；结果在本页“自检”中显示。"),
    )
    def test_printer(self, request: HttpRequest, row: Station, cleaned: dict[str, Any]) -> str:
        """Ask the station to print the test card."""
        request_self_test(row, kind=SelfTestKind.PRINT, actor=signed_in(request))
        return _t("已通知制卡点，稍后刷新本页查看结果")

    @verb(
        label=_("制卡日志"), permission="stations.view_issuance", form=DayForm, icon="list_alt",
        help_text=_("列出当天每一张卡；号码和姓名已脱敏。"),
    )  # fmt: skip
    def show_journal(self, request: HttpRequest, row: Station, cleaned: dict[str, Any]) -> HttpResponse:
        """Show a day's journal."""
        on: dt.date = cleaned["on"]
        lines = journal(row, on, actor=signed_in(request))
        body = table([told(column.label) for column in COLUMNS], lines, empty=_t("当天没有制卡"))
        title = _t("%(day)s 制卡日志，共 %(count)s 张") % {"day": date_format(on), "count": len(lines)}
        return result_page(self, request, row, title=title, body=body)

    @verb(
        label=_("下载制卡日志"), permission="stations.view_issuance", form=DayForm, icon="download",
    )  # fmt: skip
    def download_journal(
        self, request: HttpRequest, row: Station, cleaned: dict[str, Any]
    ) -> HttpResponseBase:
        """Send a day's journal as Excel."""
        on, actor = cleaned["on"], signed_in(request)
        return written(
            f"制卡日志-{row.code}-{on:%Y%m%d}.xlsx", lambda file: export_journal(row, on, file, actor=actor)
        )


def _level(level: int) -> SafeString | str:
    """Return a supply's level; negative figures mean that the printer does not know (RFC 8011, 5.4.1)."""
    if level < 0:
        return _t("打印机未报告余量")
    return bar(level, 100, f"{level}%", "warning" if level <= LOW_SUPPLY else "success")


def _turns(turns_over: bool | None, *, needed: bool) -> SafeString | str:
    """Say whether the printer prints both sides, and whether this station needs it."""
    if turns_over is None:
        return _t("打印机未报告")
    if turns_over:
        return badge(_t("支持"), "success")
    return badge(_t("不支持"), "danger" if needed else "")


def _seconds(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds / 1000:.1f}"


def _test_state(test: SelfTest) -> SafeString:
    if test.passed is None:
        return badge(_t("等待结果"), "warning", "hourglass_empty")
    return badge(_t("通过"), "success", "check") if test.passed else badge(_t("未通过"), "danger", "close")
