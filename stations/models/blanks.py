"""The blanks of a station, serial by serial, and the count at the end of its day (R-21)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.models import User
from portal.scoping import ScopedModel
from production.choices import RequestStatus
from production.models import StockLot
from stations.choices import BlankStatus
from stations.models.registry import Station

OPERATED: Mapping[str, str] = {
    "purchaser": "",
    "supplier": "station__operator",
    "bank": "station__operator",
}


class BlankRequest(ScopedModel):
    """Blanks that a station asks for; a keeper of the supplier hands them out (two people)."""

    Status = RequestStatus
    TRANSITIONS: ClassVar[Mapping[RequestStatus, frozenset[RequestStatus]]] = {
        RequestStatus.REQUESTED: frozenset({RequestStatus.APPROVED, RequestStatus.REFUSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {**OPERATED, "supplier": "lot__contract__supplier"}

    station = models.ForeignKey(
        Station, verbose_name=_("制卡点"), on_delete=models.PROTECT, related_name="blank_requests"
    )
    lot = models.ForeignKey(
        StockLot, verbose_name=_("白卡批"), on_delete=models.PROTECT, related_name="blank_requests"
    )
    quantity = models.PositiveIntegerField(_("数量"))
    status = models.CharField(
        _("状态"), max_length=16, choices=RequestStatus.choices, default=RequestStatus.REQUESTED
    )
    requested_by = models.ForeignKey(
        User, verbose_name=_("申请人"), on_delete=models.PROTECT, related_name="blank_requests"
    )
    requested_at = models.DateTimeField(_("申请时间"), auto_now_add=True)
    decided_by = models.ForeignKey(
        User, verbose_name=_("复核人"), null=True, on_delete=models.PROTECT, related_name="blank_decisions"
    )
    decided_at = models.DateTimeField(_("复核时间"), null=True)

    class Meta:
        verbose_name = _("制卡点领卡申请")
        verbose_name_plural = pgettext_lazy("plural", "制卡点领卡申请")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="blank_request_quantity", condition=Q(quantity__gte=1)),
            models.CheckConstraint(
                name="blank_request_two_people",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")),
                violation_error_message=_("申请人与复核人不能是同一人"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.station} {self.quantity}"


class StationBlank(ScopedModel):
    """One blank a station holds; its serial is used at most once, whatever two people click at once."""

    Status = BlankStatus
    TRANSITIONS: ClassVar[Mapping[BlankStatus, frozenset[BlankStatus]]] = {
        BlankStatus.AVAILABLE: frozenset({BlankStatus.USED, BlankStatus.RETURNED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = OPERATED

    station = models.ForeignKey(
        Station, verbose_name=_("制卡点"), on_delete=models.PROTECT, related_name="blanks"
    )
    lot = models.ForeignKey(StockLot, verbose_name=_("白卡批"), on_delete=models.PROTECT, related_name="+")
    serial = models.CharField(_("芯片序列号"), max_length=32, unique=True)
    status = models.CharField(
        _("状态"), max_length=16, choices=BlankStatus.choices, default=BlankStatus.AVAILABLE
    )
    received_at = models.DateTimeField(_("领入时间"), auto_now_add=True)
    left_at = models.DateTimeField(_("使用或退回时间"), null=True)

    class Meta:
        verbose_name = _("制卡点白卡")
        verbose_name_plural = pgettext_lazy("plural", "制卡点白卡")
        ordering = ["station", "serial"]
        indexes = [models.Index(fields=["station", "status"])]

    def __str__(self) -> str:
        return self.serial


class StationDay(ScopedModel):
    """A station's day: what the ledger shows against what was counted blind before it was shown."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = OPERATED

    station = models.ForeignKey(
        Station, verbose_name=_("制卡点"), on_delete=models.PROTECT, related_name="days"
    )
    on = models.DateField(_("日期"))
    opening = models.PositiveIntegerField(_("期初"))
    received = models.PositiveIntegerField(_("领入"))
    returned = models.PositiveIntegerField(_("退回"))
    good = models.PositiveIntegerField(_("良品"))
    rejected = models.PositiveIntegerField(_("废品"))
    unknown = models.PositiveIntegerField(_("未知"))
    closing = models.PositiveIntegerField(_("期末"))
    counted_by = models.ForeignKey(
        User, verbose_name=_("清点人"), on_delete=models.PROTECT, related_name="counted_days"
    )
    closed_at = models.DateTimeField(_("清点时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("制卡点日结")
        verbose_name_plural = pgettext_lazy("plural", "制卡点日结")
        ordering = ["-on", "station"]
        constraints = [
            models.UniqueConstraint(name="station_day_once", fields=["station", "on"]),
            models.CheckConstraint(
                name="station_day_balances",
                condition=Q(
                    closing=F("opening")
                    + F("received")
                    - F("returned")
                    - F("good")
                    - F("rejected")
                    - F("unknown")
                ),
                violation_error_message=_("期初 + 领入 − 退回 − 良品 − 废品 − 未知须等于期末"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.station} {self.on}"
