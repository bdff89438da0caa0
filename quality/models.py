"""Models of the quality app: defects, inspections and holds."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.models import User
from portal.scoping import ScopedModel
from portal.texts import told
from production.models import Batch, Card
from quality.choices import DefectKind, FoundAt, HoldStatus, InspectionResult, Liability

DEFECT_RATE_LIMIT = Decimal("0.001")  # strictly above fails
THROUGH: Mapping[str, str] = {"purchaser": "", "supplier": "batch__order__contract__supplier"}


class DefectCode(models.Model):
    """What can be wrong with a card, its kind and who usually answers for it."""

    code = models.CharField(_("代码"), max_length=40, primary_key=True)
    name = models.CharField(_("名称"), max_length=60)
    kind = models.CharField(_("类别"), max_length=16, choices=DefectKind.choices)
    liability = models.CharField(_("责任"), max_length=16, choices=Liability.choices)

    class Meta:
        verbose_name = _("缺陷代码")
        verbose_name_plural = pgettext_lazy("plural", "缺陷代码")
        ordering = ["kind", "code"]

    def __str__(self) -> str:
        return told(self.name)


class Defect(ScopedModel):
    """One defect of one card."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "card__batch__order__contract__supplier",
    }

    card = models.OneToOneField(Card, verbose_name=_("卡片"), on_delete=models.PROTECT, related_name="defect")
    code = models.ForeignKey(DefectCode, verbose_name=_("缺陷"), on_delete=models.PROTECT)
    kind = models.CharField(_("类别"), max_length=16, choices=DefectKind.choices)
    liability = models.CharField(_("责任"), max_length=16, choices=Liability.choices)
    found_at = models.CharField(_("发现环节"), max_length=16, choices=FoundAt.choices)
    tags = models.JSONField(_("不符数据项"), default=list, blank=True)
    note = models.CharField(_("说明"), max_length=200, blank=True)
    found_by = models.ForeignKey(User, verbose_name=_("发现人"), null=True, on_delete=models.PROTECT)
    recorded_at = models.DateTimeField(_("登记时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("缺陷")
        verbose_name_plural = pgettext_lazy("plural", "缺陷")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.card} {self.get_kind_display()}"


class Inspection(ScopedModel):
    """The inspection of one pass of a batch: every card read back, defects counted (R-18, R-26)."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = THROUGH

    batch = models.ForeignKey(
        Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="inspections"
    )
    pass_number = models.PositiveSmallIntegerField(_("轮次"))
    read_count = models.PositiveIntegerField(_("读回张数"))
    good_count = models.PositiveIntegerField(_("良品"))
    wrong_count = models.PositiveIntegerField(_("错卡"))
    bad_count = models.PositiveIntegerField(_("坏卡"))
    unknown_count = models.PositiveIntegerField(_("未知"))
    result = models.CharField(_("结论"), max_length=16, choices=InspectionResult.choices)
    finished_at = models.DateTimeField(_("完成时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("检验")
        verbose_name_plural = pgettext_lazy("plural", "检验")
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(name="inspection_pass", fields=["batch", "pass_number"])]

    def __str__(self) -> str:
        return f"{self.batch} #{self.pass_number}"


class Hold(ScopedModel):
    """A batch that must not ship until quality and the purchaser have dealt with its cause."""

    Status = HoldStatus
    TRANSITIONS: ClassVar[Mapping[HoldStatus, frozenset[HoldStatus]]] = {
        HoldStatus.ACTIVE: frozenset({HoldStatus.RELEASED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = THROUGH

    batch = models.ForeignKey(Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="holds")
    reason = models.CharField(_("原因"), max_length=200)
    status = models.CharField(_("状态"), max_length=16, choices=HoldStatus.choices, default=HoldStatus.ACTIVE)
    placed_by = models.ForeignKey(
        User, verbose_name=_("冻结人"), on_delete=models.PROTECT, related_name="placed_holds"
    )
    placed_at = models.DateTimeField(_("冻结时间"), auto_now_add=True)
    measure = models.CharField(_("处置措施"), max_length=500, blank=True)
    released_by = models.ForeignKey(
        User, verbose_name=_("解除人"), null=True, on_delete=models.PROTECT, related_name="released_holds"
    )
    released_at = models.DateTimeField(_("解除时间"), null=True)

    class Meta:
        verbose_name = _("冻结")
        verbose_name_plural = pgettext_lazy("plural", "冻结")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(name="hold_one_active", fields=["batch"], condition=Q(status="active")),
            models.CheckConstraint(
                name="hold_two_people",
                condition=Q(released_by__isnull=True) | ~Q(released_by=F("placed_by")),
                violation_error_message=_("冻结与解除不能是同一人"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.batch} {self.reason}"
