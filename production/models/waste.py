"""Destructions of rejected cards: what was destroyed, how, and by which two people (R-21)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.models import Contract
from portal.models import User
from portal.scoping import ScopedModel
from production.choices import DestructionMethod, RequestStatus


class CardDestruction(ScopedModel):
    """Rejected cards that one person asks to destroy and another one witnesses; final once decided."""

    Status = RequestStatus
    TRANSITIONS: ClassVar[Mapping[RequestStatus, frozenset[RequestStatus]]] = {
        RequestStatus.REQUESTED: frozenset({RequestStatus.APPROVED, RequestStatus.REFUSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "contract__supplier"}

    number = models.CharField(_("销毁单号"), max_length=80, unique=True)
    contract = models.ForeignKey(Contract, verbose_name=_("合同"), on_delete=models.PROTECT)
    method = models.CharField(_("销毁方式"), max_length=16, choices=DestructionMethod.choices)
    place = models.CharField(_("销毁地点"), max_length=100)
    serials = ArrayField(models.CharField(max_length=32), verbose_name=_("芯片序列号"))
    card_count = models.PositiveIntegerField(_("张数"))
    note = models.CharField(_("说明"), max_length=200, blank=True)
    status = models.CharField(
        _("状态"), max_length=16, choices=RequestStatus.choices, default=RequestStatus.REQUESTED
    )
    requested_by = models.ForeignKey(
        User, verbose_name=_("申请人"), on_delete=models.PROTECT, related_name="card_destruction_requests"
    )
    requested_at = models.DateTimeField(_("申请时间"), auto_now_add=True)
    decided_by = models.ForeignKey(
        User,
        verbose_name=_("监销人"),
        null=True,
        on_delete=models.PROTECT,
        related_name="card_destruction_decisions",
    )
    decided_at = models.DateTimeField(_("监销时间"), null=True)
    destroyed_on = models.DateField(_("销毁日期"), null=True)
    witnesses = models.CharField(_("其他在场人员"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("废卡销毁单")
        verbose_name_plural = pgettext_lazy("plural", "废卡销毁单")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="card_destruction_two_people",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")),
                violation_error_message=_("申请人与监销人不能是同一人"),
            ),
            models.CheckConstraint(
                name="card_destruction_serials",
                condition=Q(card_count__gte=1, serials__len=F("card_count")),
                violation_error_message=_("张数须与序列号的个数相同"),
            ),
            models.CheckConstraint(
                name="card_destruction_decided",
                condition=Q(status="requested", decided_by__isnull=True, destroyed_on__isnull=True)
                | Q(status="approved", decided_by__isnull=False, destroyed_on__isnull=False)
                | Q(status="refused", decided_by__isnull=False, destroyed_on__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.number
