"""Emergency cases: a card for somebody without a matched record, asked for by one and decided by another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.models import CardholderRecord
from portal.models import Organisation, User
from portal.scoping import ScopedModel
from stations.choices import CaseStatus
from stations.models.registry import Station


class EmergencyCase(ScopedModel):
    """The person's data and photo, sealed under a key of the case's own until the decision (R-14)."""

    Status = CaseStatus
    TRANSITIONS: ClassVar[Mapping[CaseStatus, frozenset[CaseStatus]]] = {
        CaseStatus.REQUESTED: frozenset({CaseStatus.APPROVED, CaseStatus.REFUSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "station__operator",
        "bank": "station__operator",
    }

    station = models.ForeignKey(
        Station, verbose_name=_("制卡点"), on_delete=models.PROTECT, related_name="cases"
    )
    bank = models.ForeignKey(
        Organisation, verbose_name=_("银行"), on_delete=models.PROTECT, related_name="emergency_cases"
    )
    number_index = models.BinaryField(max_length=32)
    key_id = models.CharField(max_length=64, blank=True)
    data_sealed = models.BinaryField(null=True)
    photo_sealed = models.BinaryField(null=True)
    reason = models.CharField(_("事由"), max_length=200)
    status = models.CharField(
        _("状态"), max_length=16, choices=CaseStatus.choices, default=CaseStatus.REQUESTED
    )
    requested_by = models.ForeignKey(
        User, verbose_name=_("申请人"), on_delete=models.PROTECT, related_name="requested_cases"
    )
    requested_at = models.DateTimeField(_("申请时间"), auto_now_add=True)
    decided_by = models.ForeignKey(
        User,
        verbose_name=_("复核人"),
        null=True,
        on_delete=models.PROTECT,
        related_name="emergency_decisions",
    )
    decided_at = models.DateTimeField(_("复核时间"), null=True)
    decision_text = models.CharField(_("复核意见"), max_length=200, blank=True)
    record = models.ForeignKey(
        CardholderRecord,
        verbose_name=_("持卡人记录"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="emergency_cases",
    )

    class Meta:
        verbose_name = _("应急制卡申请")
        verbose_name_plural = pgettext_lazy("plural", "应急制卡申请")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="emergency_case_two_people",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")),
                violation_error_message=_("申请人与复核人不能是同一人"),
            ),
            models.UniqueConstraint(
                name="emergency_case_one_open", fields=["number_index"], condition=Q(status="requested")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.station} {self.pk}"
