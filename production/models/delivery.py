"""Cartons, deliveries, the banks' receipts and the return files (R-19, R-23)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.models import DeliveryPoint
from portal.models import User
from portal.scoping import ScopedModel
from production.choices import DeliveryStatus, ReceiptResult
from production.models.batches import Batch


class Delivery(ScopedModel):
    """The cartons of a batch that go to one delivery point, with the list the bank signs."""

    Status = DeliveryStatus
    TRANSITIONS: ClassVar[Mapping[DeliveryStatus, frozenset[DeliveryStatus]]] = {
        DeliveryStatus.PACKED: frozenset({DeliveryStatus.DISPATCHED}),
        DeliveryStatus.DISPATCHED: frozenset({DeliveryStatus.SIGNED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "batch__order__contract__supplier",
        "bank": "batch__order__bank",
    }

    number = models.CharField(_("交付单号"), max_length=80, unique=True)
    batch = models.ForeignKey(
        Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="deliveries"
    )
    delivery_point = models.ForeignKey(DeliveryPoint, verbose_name=_("交付网点"), on_delete=models.PROTECT)
    card_count = models.PositiveIntegerField(_("张数"))
    status = models.CharField(
        _("状态"), max_length=16, choices=DeliveryStatus.choices, default=DeliveryStatus.PACKED
    )
    list_name = models.CharField(max_length=200, blank=True)
    list_digest = models.BinaryField(_("清单 SM3 摘要"), max_length=32, null=True)
    dispatched_at = models.DateTimeField(_("发货时间"), null=True)
    signed_at = models.DateTimeField(_("签收时间"), null=True)
    signed_by = models.ForeignKey(User, verbose_name=_("签收人"), null=True, on_delete=models.PROTECT)

    class Meta:
        verbose_name = _("交付")
        verbose_name_plural = pgettext_lazy("plural", "交付")
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(name="delivery_once", fields=["batch", "delivery_point"])]

    def __str__(self) -> str:
        return self.number


class Carton(ScopedModel):
    """A numbered carton of one delivery."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "delivery__batch__order__contract__supplier",
        "bank": "delivery__batch__order__bank",
    }

    delivery = models.ForeignKey(
        Delivery, verbose_name=_("交付"), on_delete=models.PROTECT, related_name="cartons"
    )
    number = models.CharField(_("箱号"), max_length=90, unique=True)
    card_count = models.PositiveIntegerField(_("张数"))

    class Meta:
        verbose_name = _("箱")
        verbose_name_plural = pgettext_lazy("plural", "箱")
        ordering = ["number"]

    def __str__(self) -> str:
        return self.number


class Receipt(ScopedModel):
    """The bank's word on one carton: confirmed, or how it differs."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "carton__delivery__batch__order__contract__supplier",
        "bank": "carton__delivery__batch__order__bank",
    }

    carton = models.OneToOneField(
        Carton, verbose_name=_("箱"), on_delete=models.PROTECT, related_name="receipt"
    )
    result = models.CharField(_("结果"), max_length=16, choices=ReceiptResult.choices)
    counted = models.PositiveIntegerField(_("实点张数"))
    missing_positions = models.JSONField(_("缺少或损坏的箱内位置"), default=list, blank=True)
    note = models.CharField(_("说明"), max_length=200, blank=True)
    signed_by = models.ForeignKey(User, verbose_name=_("点收人"), on_delete=models.PROTECT)
    signed_at = models.DateTimeField(_("点收时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("签收")
        verbose_name_plural = pgettext_lazy("plural", "签收")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="receipt_difference_is_explained",
                condition=Q(result="confirmed", missing_positions=[]) | (Q(result="different") & ~Q(note="")),
                violation_error_message=_("有差异时必须填写说明"),
            )
        ]

    def __str__(self) -> str:
        return f"{self.carton} {self.get_result_display()}"


class ReturnFile(ScopedModel):
    """What was made, for the provincial card system (回盘), sealed."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "batch__order__contract__supplier",
        "province": "",  # it keeps every card's record; the file is sealed for its receiver besides
    }

    batch = models.OneToOneField(
        Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="return_file"
    )
    stored_name = models.CharField(max_length=200)
    card_count = models.PositiveIntegerField(_("张数"))
    failed_count = models.PositiveIntegerField(_("失败数"))
    digest = models.BinaryField(_("SM3 摘要"), max_length=32)
    created_at = models.DateTimeField(_("生成时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("回盘文件")
        verbose_name_plural = pgettext_lazy("plural", "回盘文件")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="return_file_counts", condition=Q(card_count__gte=F("failed_count")))
        ]

    def __str__(self) -> str:
        return f"{self.batch}"
