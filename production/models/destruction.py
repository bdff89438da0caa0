"""Destruction of personal data: requests of two people, certificates, alarms when it is overdue (R-22)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.models import Package
from portal.models import User
from portal.scoping import ScopedModel
from production.choices import AlarmKind, RequestStatus
from production.models.batches import Batch


class DestructionRequest(ScopedModel):
    """The wish to destroy a package's open records, or one person's, before cards are made (§3)."""

    Status = RequestStatus
    TRANSITIONS: ClassVar[Mapping[RequestStatus, frozenset[RequestStatus]]] = {
        RequestStatus.REQUESTED: frozenset({RequestStatus.APPROVED, RequestStatus.REFUSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": ""}

    package = models.ForeignKey(
        Package, verbose_name=_("数据包"), on_delete=models.PROTECT, related_name="destruction_requests"
    )
    # The person's row; none for the whole package. A number, for the record itself is to go.
    row_number = models.PositiveIntegerField(_("行号"), null=True)
    reason = models.CharField(_("事由"), max_length=200)
    status = models.CharField(
        _("状态"), max_length=16, choices=RequestStatus.choices, default=RequestStatus.REQUESTED
    )
    record_count = models.PositiveIntegerField(_("销毁记录数"), null=True)
    requested_by = models.ForeignKey(
        User, verbose_name=_("申请人"), on_delete=models.PROTECT, related_name="destruction_requests"
    )
    requested_at = models.DateTimeField(_("申请时间"), auto_now_add=True)
    decided_by = models.ForeignKey(
        User,
        verbose_name=_("复核人"),
        null=True,
        on_delete=models.PROTECT,
        related_name="destruction_decisions",
    )
    decided_at = models.DateTimeField(_("复核时间"), null=True)

    class Meta:
        verbose_name = _("提前销毁申请")
        verbose_name_plural = pgettext_lazy("plural", "提前销毁申请")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="destruction_request_two_people",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")),
                violation_error_message=_("申请人与复核人不能是同一人"),
            ),
            # Not even by SQL is one decided without its second person (§3).
            models.CheckConstraint(
                name="destruction_request_decided",
                condition=Q(status="requested", decided_by__isnull=True, decided_at__isnull=True)
                | (~Q(status="requested") & Q(decided_by__isnull=False, decided_at__isnull=False)),
                violation_error_message=_("已复核的申请须有复核人和复核时间"),
            ),
            models.CheckConstraint(name="destruction_request_reason", condition=~Q(reason="")),
            models.UniqueConstraint(
                name="destruction_request_one_open",
                fields=["package", "row_number"],
                condition=Q(status="requested"),
                nulls_distinct=False,
                violation_error_message=_("已有待复核的提前销毁申请"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.package}" if self.row_number is None else f"{self.package}#{self.row_number}"


class DestructionCertificate(ScopedModel):
    """What was destroyed, how, and who answers for it; verifiable offline with the portal's public key."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "batch__order__contract__supplier",
    }

    number = models.CharField(_("证明编号"), max_length=80, unique=True)
    batch = models.OneToOneField(
        Batch,
        verbose_name=_("批次"),
        null=True,
        on_delete=models.PROTECT,
        related_name="destruction_certificate",
    )
    request = models.OneToOneField(
        DestructionRequest,
        verbose_name=_("提前销毁申请"),
        null=True,
        on_delete=models.PROTECT,
        related_name="certificate",
    )
    content = models.JSONField(_("内容"))
    signature = models.BinaryField(_("SM2 签名"))
    issued_at = models.DateTimeField(_("签发时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("数据销毁证明")
        verbose_name_plural = pgettext_lazy("plural", "数据销毁证明")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="certificate_of_one_destruction",
                condition=Q(batch__isnull=True) ^ Q(request__isnull=True),
            )
        ]
        indexes = [models.Index(fields=["id"], name="certificate_unsigned", condition=Q(signature=b""))]

    def __str__(self) -> str:
        return self.number


class DestructionAlarm(ScopedModel):
    """Personal data that is still there past its limit; raised once, cleared when it is gone (R-22)."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": ""}

    kind = models.CharField(_("类别"), max_length=16, choices=AlarmKind.choices)
    subject = models.CharField(_("对象"), max_length=80)
    batch = models.ForeignKey(
        Batch, verbose_name=_("批次"), null=True, on_delete=models.PROTECT, related_name="alarms"
    )
    package = models.ForeignKey(
        Package, verbose_name=_("数据包"), null=True, on_delete=models.PROTECT, related_name="alarms"
    )
    count = models.PositiveIntegerField(_("数量"))
    due_at = models.DateTimeField(_("应销毁时间"))
    raised_at = models.DateTimeField(_("报警时间"), auto_now_add=True)
    cleared_at = models.DateTimeField(_("解除时间"), null=True)

    class Meta:
        verbose_name = _("销毁逾期报警")
        verbose_name_plural = pgettext_lazy("plural", "销毁逾期报警")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="destruction_alarm_once",
                fields=["kind", "subject"],
                condition=Q(cleared_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.subject}"
