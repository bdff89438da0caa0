"""A batch of a plant made card after card at a station with a feeder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.models import User
from portal.scoping import ScopedModel
from production.models import Batch, MachineFile
from stations.choices import FeederStatus
from stations.models.registry import Station


class FeederRun(ScopedModel):
    """One machine file at one station; each of its cards is an issuance, each blank is used at most once.

    A stopped run keeps what it made and goes on, at this station or at another one, with what is left.
    """

    Status = FeederStatus
    TRANSITIONS: ClassVar[Mapping[FeederStatus, frozenset[FeederStatus]]] = {
        FeederStatus.RUNNING: frozenset({FeederStatus.STOPPED, FeederStatus.ENDED}),
        FeederStatus.STOPPED: frozenset({FeederStatus.RUNNING, FeederStatus.ENDED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "batch__order__contract__supplier",
    }

    station = models.ForeignKey(
        Station, verbose_name=_("制卡点"), on_delete=models.PROTECT, related_name="feeder_runs"
    )
    batch = models.ForeignKey(
        Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="feeder_runs"
    )
    machine_file = models.OneToOneField(
        MachineFile, verbose_name=_("机器文件"), on_delete=models.PROTECT, related_name="feeder_run"
    )
    operator = models.ForeignKey(
        User, verbose_name=_("操作员"), on_delete=models.PROTECT, related_name="feeder_runs"
    )
    status = models.CharField(
        _("状态"), max_length=16, choices=FeederStatus.choices, default=FeederStatus.RUNNING
    )
    prints = models.BooleanField(_("打印卡面"), default=False)
    reason = models.CharField(_("停止原因代码"), max_length=64, blank=True)
    reason_text = models.CharField(_("停止原因"), max_length=200, blank=True)
    started_at = models.DateTimeField(_("开始时间"), auto_now_add=True)
    continued_at = models.DateTimeField(_("最近启动"))
    heard_at = models.DateTimeField(_("最近应答"))
    ended_at = models.DateTimeField(_("结束时间"), null=True)

    class Meta:
        verbose_name = _("送卡制作")
        verbose_name_plural = pgettext_lazy("plural", "送卡制作")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="feeder_one_at_a_station",
                fields=["station"],
                condition=Q(status="running"),
                violation_error_message=_("该制卡点正在制作另一个批次"),
            )
        ]

    def __str__(self) -> str:
        return f"{self.batch} {self.station}"
