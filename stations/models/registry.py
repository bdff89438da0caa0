"""The registry of stations and their self-tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.models import Organisation, User
from portal.scoping import ScopedModel
from stations.choices import SelfTestKind


class Station(ScopedModel):
    """A counter or plant position with a reader and a printer; its agent reports here."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "operator",
        "bank": "operator",
    }

    code = models.SlugField(_("代码"), max_length=32, unique=True)
    name = models.CharField(_("名称"), max_length=60)
    place = models.CharField(_("地点"), max_length=100)
    operator = models.ForeignKey(Organisation, verbose_name=_("运营单位"), on_delete=models.PROTECT)
    has_feeder = models.BooleanField(
        _("有送卡器"), default=False, help_text=_("工厂制卡点：可按批次逐张自动制卡")
    )
    credential_digest = models.BinaryField(max_length=32, null=True)
    enrolment_digest = models.BinaryField(max_length=32, null=True)
    enrolment_until = models.DateTimeField(_("登记码有效至"), null=True)
    reader_state = models.CharField(_("读写器"), max_length=60, blank=True)
    printer_state = models.CharField(_("打印机"), max_length=60, blank=True)
    agent_version = models.CharField(_("代理版本"), max_length=32, blank=True)
    report = models.JSONField(_("设备状态"), default=dict, blank=True)
    last_seen_at = models.DateTimeField(_("最近心跳"), null=True)
    is_active = models.BooleanField(_("启用"), default=True)
    front_is_preprinted = models.BooleanField(
        _("白卡正面已预印"),
        default=False,
        help_text=_("勾选后只打印背面；未勾选时一次打印两面，打印机须能翻卡。"),
    )

    class Meta:
        verbose_name = _("制卡点")
        verbose_name_plural = pgettext_lazy("plural", "制卡点")
        ordering = ["code"]

    def __str__(self) -> str:
        return self.name


class SelfTest(ScopedModel):
    """One card read, or one test card printed, asked for in the portal and reported by the agent."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "station__operator",
        "bank": "station__operator",
    }

    station = models.ForeignKey(
        Station, verbose_name=_("制卡点"), on_delete=models.PROTECT, related_name="self_tests"
    )
    kind = models.CharField(_("内容"), max_length=16, choices=SelfTestKind.choices, default=SelfTestKind.READ)
    requested_by = models.ForeignKey(User, verbose_name=_("发起人"), on_delete=models.PROTECT)
    requested_at = models.DateTimeField(_("发起时间"), auto_now_add=True)
    reported_at = models.DateTimeField(_("完成时间"), null=True)
    passed = models.BooleanField(_("通过"), null=True)
    read_milliseconds = models.PositiveIntegerField(_("耗时（毫秒）"), null=True)
    error_code = models.CharField(_("错误代码"), max_length=64, blank=True)
    error_text = models.CharField(_("错误"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("自检")
        verbose_name_plural = pgettext_lazy("plural", "自检")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="self_test_report_is_whole",
                condition=Q(reported_at__isnull=True, passed__isnull=True, read_milliseconds__isnull=True)
                | Q(reported_at__isnull=False, passed=True, read_milliseconds__isnull=False, error_code="")
                | (Q(reported_at__isnull=False, passed=False) & ~Q(error_code="")),
            )
        ]

    def __str__(self) -> str:
        return f"{self.station} {self.requested_at:%Y-%m-%d %H:%M:%S}"
