"""Orders: matched records of one bank, card kind and chosen supplier, with their deadline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.choices import CardKind, OrderStatus
from orders.models.programme import Contract
from portal.models import Organisation, User
from portal.scoping import ScopedModel


class SupplierChoice(ScopedModel):
    """A bank's decision which supplier makes its cards from a day on (R-6); history is kept."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "contract__supplier",
        "bank": "bank",
    }

    bank = models.ForeignKey(Organisation, verbose_name=_("银行"), on_delete=models.PROTECT)
    contract = models.ForeignKey(Contract, verbose_name=_("合同"), on_delete=models.PROTECT)
    valid_from = models.DateField(_("生效日期"))
    reason = models.CharField(_("理由"), max_length=200, blank=True)
    chosen_by = models.ForeignKey(User, verbose_name=_("选定人"), on_delete=models.PROTECT)
    chosen_at = models.DateTimeField(_("选定时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("中标人选定")
        verbose_name_plural = pgettext_lazy("plural", "中标人选定")
        ordering = ["-valid_from", "-id"]

    def __str__(self) -> str:
        return f"{self.bank} → {self.contract}"


class Order(ScopedModel):
    """What one supplier is to make for one bank, due 6 working days after matching (R-10, R-11)."""

    Status = OrderStatus
    TRANSITIONS: ClassVar[Mapping[OrderStatus, frozenset[OrderStatus]]] = {
        OrderStatus.OPEN: frozenset({OrderStatus.IN_PRODUCTION, OrderStatus.CANCELLED}),
        OrderStatus.IN_PRODUCTION: frozenset({OrderStatus.COMPLETED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "contract__supplier",
        "bank": "bank",
    }

    number = models.CharField(_("订单号"), max_length=40, unique=True)
    bank = models.ForeignKey(Organisation, verbose_name=_("银行"), on_delete=models.PROTECT)
    contract = models.ForeignKey(
        Contract, verbose_name=_("合同"), on_delete=models.PROTECT, related_name="orders"
    )
    card_kind = models.CharField(_("卡种"), max_length=16, choices=CardKind.choices)
    quantity = models.PositiveIntegerField(_("数量"))
    unit_price = models.DecimalField(_("单价（元）"), max_digits=6, decimal_places=2)
    matched_on = models.DateField(_("匹配完成日期"))
    due_on = models.DateField(_("交付期限"))
    due_is_provisional = models.BooleanField(_("期限待定"), default=False)
    status = models.CharField(_("状态"), max_length=16, choices=OrderStatus.choices, default=OrderStatus.OPEN)
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    created_by = models.ForeignKey(User, verbose_name=_("创建人"), on_delete=models.PROTECT)
    completed_at = models.DateTimeField(_("完成时间"), null=True)

    class Meta:
        verbose_name = _("订单")
        verbose_name_plural = pgettext_lazy("plural", "订单")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="order_not_empty", condition=Q(quantity__gte=1)),
            models.CheckConstraint(name="order_due_after_match", condition=Q(due_on__gt=F("matched_on"))),
        ]
        indexes = [models.Index(fields=["status", "due_on"])]

    def __str__(self) -> str:
        return self.number
