"""Issuances: every try to make one card at a counter, and each of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.models import User
from portal.scoping import ScopedModel
from production.models import Batch, Card
from stations.choices import IssuanceStatus, PrintState, StepKind, StepStatus
from stations.models.feeding import FeederRun
from stations.models.registry import Station

S = IssuanceStatus
OPEN = (S.QUEUED, S.RUNNING, S.PRINTING, S.AWAITING_LOOK, S.UNKNOWN, S.RESOLVING)


class Issuance(ScopedModel):
    """One blank turned into one card in front of the person; a next try is another row with another blank.

    `exchange_sealed` is what the portal must remember between two messages of the agent, sealed under the
    batch's key; it is emptied when the card has its outcome.
    """

    Status = IssuanceStatus
    TRANSITIONS: ClassVar[Mapping[IssuanceStatus, frozenset[IssuanceStatus]]] = {
        S.QUEUED: frozenset({S.RUNNING, S.REJECTED, S.CANCELLED}),
        S.RUNNING: frozenset({S.PRINTING, S.AWAITING_LOOK, S.MADE, S.REJECTED, S.UNKNOWN}),
        S.PRINTING: frozenset({S.AWAITING_LOOK, S.MADE, S.REJECTED, S.UNKNOWN}),
        S.AWAITING_LOOK: frozenset({S.PRINTING, S.GOOD, S.REJECTED}),
        S.UNKNOWN: frozenset({S.RESOLVING, S.MADE, S.GOOD, S.REJECTED}),
        S.RESOLVING: frozenset({S.PRINTING, S.AWAITING_LOOK, S.MADE, S.REJECTED, S.UNKNOWN}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "station__operator",
        "bank": "station__operator",
    }

    station = models.ForeignKey(
        Station, verbose_name=_("制卡点"), on_delete=models.PROTECT, related_name="issuances"
    )
    batch = models.ForeignKey(
        Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="issuances"
    )
    card = models.OneToOneField(
        Card, verbose_name=_("卡片"), on_delete=models.PROTECT, related_name="issuance"
    )
    operator = models.ForeignKey(
        User, verbose_name=_("操作员"), on_delete=models.PROTECT, related_name="issuances"
    )
    feeder_run = models.ForeignKey(
        FeederRun, verbose_name=_("送卡制作"), null=True, on_delete=models.PROTECT, related_name="issuances"
    )
    status = models.CharField(_("状态"), max_length=16, choices=IssuanceStatus.choices, default=S.QUEUED)
    reason = models.CharField(_("原因"), max_length=64, blank=True)
    reason_text = models.CharField(_("说明"), max_length=200, blank=True)
    step = models.PositiveSmallIntegerField(default=0, editable=False)
    exchange_sealed = models.BinaryField(null=True)
    asked_digest = models.BinaryField(max_length=32, null=True)
    answer_sealed = models.BinaryField(null=True)
    is_written = models.BooleanField(_("芯片已核对"), default=False)
    # As the station was set when the card was started; cards of before were printed on the back only.
    prints_front = models.BooleanField(_("打印正面"), default=False)
    print_state = models.CharField(
        _("打印状态"), max_length=16, choices=PrintState.choices, default=PrintState.NONE, blank=True
    )
    print_job = models.PositiveIntegerField(_("打印任务号"), null=True)
    print_text = models.CharField(_("打印机信息"), max_length=200, blank=True)
    requested_at = models.DateTimeField(_("开始时间"), auto_now_add=True)
    heard_at = models.DateTimeField(_("最近应答"), null=True)
    ended_at = models.DateTimeField(_("结束时间"), null=True)
    # By the agent's clock, from the card's power-up until its face is at hand (stations/services/timing.py).
    total_milliseconds = models.PositiveIntegerField(_("写卡总用时（毫秒）"), null=True)
    reader_milliseconds = models.PositiveIntegerField(_("卡片与读写器用时（毫秒）"), null=True)
    write_milliseconds = models.PositiveIntegerField(_("其中写卡（毫秒）"), null=True)
    read_milliseconds = models.PositiveIntegerField(_("其中读卡（毫秒）"), null=True)
    waited_milliseconds = models.PositiveIntegerField(_("等待平台（毫秒）"), null=True)
    portal_milliseconds = models.PositiveIntegerField(_("其中平台处理（毫秒）"), null=True)
    round_trips = models.PositiveSmallIntegerField(_("与平台往返次数"), null=True)

    class Meta:
        verbose_name = _("即时制卡")
        verbose_name_plural = pgettext_lazy("plural", "即时制卡")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="issuance_one_at_a_station",
                fields=["station"],
                condition=Q(status__in=["queued", "running", "printing", "awaiting_look", "resolving"]),
                violation_error_message=_("该制卡点正在制作另一张卡"),
            ),
            models.UniqueConstraint(
                name="issuance_one_open_per_batch",
                fields=["batch"],
                condition=Q(status__in=[str(state) for state in OPEN], feeder_run__isnull=True),
                violation_error_message=_("此人的卡正在制作，或结果未知"),
            ),
        ]
        indexes = [
            models.Index(fields=["station", "-id"]),
            models.Index(
                fields=["heard_at"],
                name="issuance_running",
                condition=Q(status__in=["queued", "running", "printing", "resolving"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.batch} {self.card}"

    @property
    def agent_milliseconds(self) -> int | None:
        """Return what neither the reader nor the portal took: the agent's own part; None where unknown."""
        if self.total_milliseconds is None or self.waited_milliseconds is None:
            return None
        return max(0, self.total_milliseconds - (self.reader_milliseconds or 0) - self.waited_milliseconds)


class IssuanceStep(models.Model):
    """One step with its time; the counter page shows them live (R-24)."""

    issuance = models.ForeignKey(
        Issuance, verbose_name=_("即时制卡"), on_delete=models.CASCADE, related_name="steps"
    )
    kind = models.CharField(_("步骤"), max_length=16, choices=StepKind.choices)
    status = models.CharField(
        _("状态"), max_length=16, choices=StepStatus.choices, default=StepStatus.RUNNING
    )
    started_at = models.DateTimeField(_("开始时间"))
    milliseconds = models.PositiveIntegerField(_("用时（毫秒）"), null=True)
    command_count = models.PositiveIntegerField(_("指令数"), default=0)
    code = models.CharField(_("代码"), max_length=64, blank=True)
    text = models.CharField(_("说明"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("步骤")
        verbose_name_plural = pgettext_lazy("plural", "步骤")
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.issuance_id} {self.kind}"
