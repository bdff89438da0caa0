"""Cardholder records: the hot, personal, encrypted table (D9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.choices import CardKind, IssueKind, RecordStatus, UnmatchedReason
from orders.models.ordering import Order
from orders.models.packages import Package
from orders.models.programme import DeliveryPoint
from portal.models import Organisation, User
from portal.scoping import ScopedModel

OPEN = (RecordStatus.ACCEPTED, RecordStatus.MATCHED, RecordStatus.ORDERED)


class CardholderRecord(ScopedModel):
    """One version of one person's row; destroyed when the batch is signed for (R-22).

    `*_sealed` columns are SM4-GCM under the package's key or the person's in its ring, with record id,
    version and column as associated data; `*_index` columns are blind indexes (HMAC-SM3).
    See orders/personal.py.
    """

    Status = RecordStatus
    TRANSITIONS: ClassVar[Mapping[RecordStatus, frozenset[RecordStatus]]] = {
        RecordStatus.RETURNED: frozenset({RecordStatus.SUPERSEDED}),
        RecordStatus.ACCEPTED: frozenset({RecordStatus.MATCHED, RecordStatus.CANCELLED}),
        RecordStatus.MATCHED: frozenset(
            {RecordStatus.ORDERED, RecordStatus.ACCEPTED, RecordStatus.CANCELLED}
        ),
        RecordStatus.ORDERED: frozenset({RecordStatus.CANCELLED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "order__contract__supplier",
        "bank": "bank",
    }

    package = models.ForeignKey(
        Package, verbose_name=_("数据包"), on_delete=models.PROTECT, related_name="records"
    )
    row_number = models.PositiveIntegerField(_("行号"))
    version = models.PositiveSmallIntegerField(_("版本"), default=1)
    status = models.CharField(_("状态"), max_length=16, choices=RecordStatus.choices)
    problem_codes = ArrayField(models.CharField(max_length=40), verbose_name=_("问题代码"), default=list)
    problems_sealed = models.BinaryField(null=True)
    source_sealed = models.BinaryField(null=True)
    # Sealed under the person's own key in the package's ring instead of under the package's key.
    in_ring = models.BooleanField(default=False, db_default=False)
    number_index = models.BinaryField(max_length=32)
    name_index = models.BinaryField(max_length=32)
    card_number_index = models.BinaryField(max_length=32, null=True)
    number_sealed = models.BinaryField(null=True)
    name_sealed = models.BinaryField(null=True)
    personal_sealed = models.BinaryField(null=True)
    account_sealed = models.BinaryField(null=True)
    bank = models.ForeignKey(Organisation, verbose_name=_("银行"), null=True, on_delete=models.PROTECT)
    delivery_point = models.ForeignKey(
        DeliveryPoint, verbose_name=_("交付网点"), null=True, on_delete=models.PROTECT
    )
    employer_code = models.CharField(_("单位编号"), max_length=32, blank=True)
    issue_kind = models.CharField(_("发卡类型"), max_length=16, choices=IssueKind.choices, blank=True)
    card_kind = models.CharField(_("卡种"), max_length=16, choices=CardKind.choices, blank=True)
    photo_offset = models.BigIntegerField(null=True)
    photo_stored_size = models.PositiveIntegerField(null=True)
    photo_size = models.PositiveIntegerField(null=True)
    photo_method = models.PositiveSmallIntegerField(null=True)
    photo_crc = models.BigIntegerField(null=True)
    # A corrected photo's own sealed file; with an offset: a file of photos, each under its person's own key.
    photo_name = models.CharField(max_length=200, blank=True)
    unmatched_reason = models.CharField(
        _("未匹配原因"), max_length=20, choices=UnmatchedReason.choices, blank=True, default=""
    )
    matched_at = models.DateTimeField(_("匹配时间"), null=True)
    order = models.ForeignKey(
        Order, verbose_name=_("订单"), null=True, on_delete=models.PROTECT, related_name="records"
    )
    corrected_by = models.ForeignKey(User, verbose_name=_("补录人"), null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("持卡人记录")
        verbose_name_plural = pgettext_lazy("plural", "持卡人记录")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(name="record_version", fields=["package", "row_number", "version"]),
            models.UniqueConstraint(
                name="record_one_open_per_person",
                fields=["number_index"],
                condition=Q(status__in=[str(state) for state in OPEN]),
                violation_error_message=_("该人员已有在制记录"),
            ),
            models.UniqueConstraint(
                name="record_one_open_per_card_number",
                fields=["card_number_index"],
                condition=Q(status__in=[str(state) for state in OPEN]),
                violation_error_message=_("该社保卡号已有在制记录"),
            ),
            models.CheckConstraint(
                name="record_open_is_complete",
                condition=~Q(status__in=[str(state) for state in OPEN])
                | (
                    Q(bank__isnull=False, delivery_point__isnull=False, card_number_index__isnull=False)
                    & ~Q(card_kind="")
                    & ~Q(issue_kind="")
                ),
            ),
            models.CheckConstraint(
                name="record_matched_has_account",
                condition=~Q(status__in=["matched", "ordered"]) | Q(account_sealed__isnull=False),
            ),
            models.CheckConstraint(
                name="record_ordered_has_order", condition=~Q(status="ordered") | Q(order__isnull=False)
            ),
        ]
        indexes = [
            models.Index(fields=["number_index"]),
            models.Index(fields=["status", "bank"]),
            models.Index(fields=["order", "id"]),
        ]

    def __str__(self) -> str:
        return f"{self.package_id}#{self.row_number}v{self.version}"
