"""Cards: every physical blank that was used, slim, kept for warranty and billing (D9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.choices import CardKind, IssueKind
from portal.models import Organisation, User
from portal.scoping import ScopedModel
from production.choices import Outcome, RequestStatus, RunStatus
from production.models.batches import Batch, BatchItem
from production.models.delivery import Carton
from production.models.stock import StockLot
from production.models.waste import CardDestruction

THROUGH: Mapping[str, str] = {
    "purchaser": "",
    "supplier": "batch__order__contract__supplier",
    "bank": "batch__order__bank",
}


class MachineFile(ScopedModel):
    """A run of cards of one pass: its sealed machine file and the line's sealed report on it."""

    Status = RunStatus
    TRANSITIONS: ClassVar[Mapping[RunStatus, frozenset[RunStatus]]] = {
        RunStatus.QUEUED: frozenset({RunStatus.PREPARED}),
        RunStatus.PREPARED: frozenset({RunStatus.MADE}),
        RunStatus.MADE: frozenset({RunStatus.INSPECTED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "batch__order__contract__supplier",
    }

    batch = models.ForeignKey(
        Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="machine_files"
    )
    pass_number = models.PositiveSmallIntegerField(_("轮次"))
    part = models.PositiveIntegerField(_("分块"))
    card_count = models.PositiveIntegerField(_("张数"))
    status = models.CharField(_("状态"), max_length=16, choices=RunStatus.choices, default=RunStatus.QUEUED)
    stored_name = models.CharField(max_length=200, blank=True)
    report_name = models.CharField(max_length=200, blank=True)
    digest = models.BinaryField(_("SM3 摘要"), max_length=32, null=True)
    seconds_per_card = models.FloatField(_("每张用时（秒）"), null=True)
    station = models.CharField(_("制卡点"), max_length=32, blank=True)

    class Meta:
        verbose_name = _("机器文件")
        verbose_name_plural = pgettext_lazy("plural", "机器文件")
        ordering = ["batch", "pass_number", "part"]
        constraints = [
            models.UniqueConstraint(name="machine_file_part", fields=["batch", "pass_number", "part"])
        ]

    def __str__(self) -> str:
        return f"{self.batch_id}/{self.pass_number}/{self.part}"


class Card(ScopedModel):
    """One physical card made from one blank for one position; a serial is used at most once."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = THROUGH

    serial = models.CharField(_("芯片序列号"), max_length=32, unique=True)
    lot = models.ForeignKey(
        StockLot, verbose_name=_("白卡批"), on_delete=models.PROTECT, related_name="cards"
    )
    batch = models.ForeignKey(Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="cards")
    item = models.ForeignKey(
        BatchItem, verbose_name=_("批次明细"), on_delete=models.PROTECT, related_name="cards"
    )
    machine_file = models.ForeignKey(
        MachineFile, verbose_name=_("机器文件"), on_delete=models.PROTECT, related_name="cards"
    )
    attempt = models.PositiveSmallIntegerField(_("次数"), default=1)
    outcome = models.CharField(_("结果"), max_length=16, choices=Outcome.choices, default=Outcome.PENDING)
    reason = models.CharField(_("原因"), max_length=40, blank=True)
    machine = models.CharField(_("机器"), max_length=32, blank=True)
    operator = models.CharField(_("操作员"), max_length=50, blank=True)
    made_at = models.DateTimeField(_("制作时间"), null=True)
    bank = models.ForeignKey(Organisation, verbose_name=_("银行"), on_delete=models.PROTECT)
    card_kind = models.CharField(_("卡种"), max_length=16, choices=CardKind.choices)
    issue_kind = models.CharField(_("发卡类型"), max_length=16, choices=IssueKind.choices)
    number_index = models.BinaryField(max_length=32, db_index=True)
    card_number_index = models.BinaryField(max_length=32, db_index=True)
    card_identifier = models.CharField(_("卡识别码"), max_length=32)
    atr = models.CharField(_("复位信息"), max_length=64)
    carton = models.ForeignKey(
        Carton, verbose_name=_("箱"), null=True, on_delete=models.PROTECT, related_name="cards"
    )
    carton_position = models.PositiveIntegerField(_("箱内位置"), null=True)
    delivered_on = models.DateField(_("交付日期"), null=True)
    accepted_on = models.DateField(_("签收日期"), null=True)
    warranty_until = models.DateField(_("质保截止"), null=True)
    destruction = models.ForeignKey(
        CardDestruction,
        verbose_name=_("废卡销毁单"),
        null=True,
        on_delete=models.PROTECT,
        related_name="cards",
        db_index=False,  # few cards are destroyed: the partial index below stays small
    )

    class Meta:
        verbose_name = _("卡片")
        verbose_name_plural = pgettext_lazy("plural", "卡片")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="card_one_live_per_item",
                fields=["item"],
                condition=Q(outcome__in=["pending", "made", "good", "unknown"]),
                violation_error_message=_("该序号已有一张在制、良品或结果未知的卡"),
            ),
            models.UniqueConstraint(name="card_attempt", fields=["item", "attempt"]),
            models.UniqueConstraint(
                name="card_one_place_in_carton",
                fields=["carton", "carton_position"],
                condition=Q(carton__isnull=False),
            ),
            models.CheckConstraint(
                name="card_only_good_is_packed", condition=Q(carton__isnull=True) | Q(outcome="good")
            ),
            models.CheckConstraint(
                name="card_only_rejected_is_destroyed",
                condition=Q(destruction__isnull=True) | Q(outcome="rejected"),
                violation_error_message=_("只能销毁废品"),
            ),
        ]
        indexes = [
            models.Index(fields=["batch", "outcome"]),
            models.Index(
                fields=["accepted_on", "bank"], condition=Q(accepted_on__isnull=False), name="card_accepted"
            ),
            models.Index(
                fields=["destruction"], condition=Q(destruction__isnull=False), name="card_destroyed"
            ),
        ]

    def __str__(self) -> str:
        return self.serial


class UnknownDecision(ScopedModel):
    """What two people decided about a card whose outcome is unknown (D8)."""

    Status = RequestStatus
    TRANSITIONS: ClassVar[Mapping[RequestStatus, frozenset[RequestStatus]]] = {
        RequestStatus.REQUESTED: frozenset({RequestStatus.APPROVED, RequestStatus.REFUSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "card__batch__order__contract__supplier",
    }

    card = models.ForeignKey(Card, verbose_name=_("卡片"), on_delete=models.PROTECT, related_name="decisions")
    outcome = models.CharField(
        _("认定结果"),
        max_length=16,
        choices=[(Outcome.GOOD, Outcome.GOOD.label), (Outcome.REJECTED, Outcome.REJECTED.label)],
    )
    evidence = models.CharField(_("依据"), max_length=200)
    status = models.CharField(
        _("状态"), max_length=16, choices=RequestStatus.choices, default=RequestStatus.REQUESTED
    )
    requested_by = models.ForeignKey(
        User, verbose_name=_("提出人"), on_delete=models.PROTECT, related_name="unknown_requests"
    )
    requested_at = models.DateTimeField(_("提出时间"), auto_now_add=True)
    decided_by = models.ForeignKey(
        User, verbose_name=_("复核人"), null=True, on_delete=models.PROTECT, related_name="unknown_decisions"
    )
    decided_at = models.DateTimeField(_("复核时间"), null=True)

    class Meta:
        verbose_name = _("未知卡认定")
        verbose_name_plural = pgettext_lazy("plural", "未知卡认定")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="unknown_decision_two_people",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")),
                violation_error_message=_("提出人与复核人不能是同一人"),
            ),
            models.CheckConstraint(  # not even by SQL is one decided by nobody (§3)
                name="unknown_decision_decided", condition=Q(status="requested") | Q(decided_by__isnull=False)
            ),
            models.UniqueConstraint(
                name="unknown_decision_one_open", fields=["card"], condition=Q(status="requested")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.card} {self.get_outcome_display()}"
