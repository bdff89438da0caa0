"""Models of the billing app: settlement periods, statements and what corrects a closed one (R-39, R-40)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.choices import CardKind
from orders.models import Contract
from portal.models import Organisation, User
from portal.scoping import ScopedModel


class StatementStatus(models.TextChoices):
    """States of a statement."""

    DRAFT = "draft", _("草稿")
    CLOSED = "closed", _("已结算")


BILLED_KINDS = [(kind.value, kind.label) for kind in (CardKind.FINISHED, CardKind.PREMADE)]


class AdjustmentStatus(models.TextChoices):
    """States of an adjustment that a second person decides."""

    REQUESTED = "requested", _("待复核")
    APPROVED = "approved", _("已同意")
    REFUSED = "refused", _("已拒绝")


class SettlementPeriod(ScopedModel):
    """One of the six half-years of a contract (R-39)."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "contract__supplier"}

    contract = models.ForeignKey(
        Contract, verbose_name=_("合同"), on_delete=models.PROTECT, related_name="periods"
    )
    number = models.PositiveSmallIntegerField(_("期次"))
    starts_on = models.DateField(_("开始日期"))
    ends_on = models.DateField(_("结束日期"))

    class Meta:
        verbose_name = _("结算期")
        verbose_name_plural = pgettext_lazy("plural", "结算期")
        ordering = ["contract", "number"]
        constraints = [
            models.UniqueConstraint(name="settlement_period_number", fields=["contract", "number"]),
            models.CheckConstraint(
                name="settlement_period_six",
                condition=Q(number__gte=1, number__lte=6),
                violation_error_message=_("每份合同共结算六期（R-39）"),
            ),
            models.CheckConstraint(name="settlement_period_order", condition=Q(ends_on__gt=F("starts_on"))),
        ]

    def __str__(self) -> str:
        return f"{self.contract} {self.number}"


class Statement(ScopedModel):
    """What a supplier is owed for a period, from the cards that banks accepted."""

    Status = StatementStatus
    TRANSITIONS: ClassVar[Mapping[StatementStatus, frozenset[StatementStatus]]] = {
        StatementStatus.DRAFT: frozenset({StatementStatus.CLOSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "period__contract__supplier"}

    period = models.OneToOneField(
        SettlementPeriod, verbose_name=_("结算期"), on_delete=models.PROTECT, related_name="statement"
    )
    status = models.CharField(
        _("状态"), max_length=16, choices=StatementStatus.choices, default=StatementStatus.DRAFT
    )
    drafted_at = models.DateTimeField(_("起草时间"))
    drafted_by = models.ForeignKey(
        User, verbose_name=_("起草人"), on_delete=models.PROTECT, related_name="drafted_statements"
    )
    closed_at = models.DateTimeField(_("结算时间"), null=True)
    closed_by = models.ForeignKey(
        User,
        verbose_name=_("结算人"),
        null=True,
        on_delete=models.PROTECT,
        related_name="closed_statements",
    )

    class Meta:
        verbose_name = _("结算单")
        verbose_name_plural = pgettext_lazy("plural", "结算单")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.period}"


class StatementLine(ScopedModel):
    """Cards of one bank and kind at one price; finished and pre-made cards stand apart (R-40)."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "statement__period__contract__supplier",
    }

    statement = models.ForeignKey(
        Statement, verbose_name=_("结算单"), on_delete=models.CASCADE, related_name="lines"
    )
    bank = models.ForeignKey(Organisation, verbose_name=_("银行"), on_delete=models.PROTECT)
    card_kind = models.CharField(_("卡种"), max_length=16, choices=CardKind.choices)
    billed_count = models.PositiveIntegerField(_("计费张数"))
    unbilled_count = models.PositiveIntegerField(_("不计费张数"), default=0)
    unit_price = models.DecimalField(_("单价（元）"), max_digits=6, decimal_places=2)
    amount = models.DecimalField(_("金额（元）"), max_digits=14, decimal_places=2)

    class Meta:
        verbose_name = _("结算明细")
        verbose_name_plural = pgettext_lazy("plural", "结算明细")
        ordering = ["bank", "card_kind"]
        constraints = [
            models.UniqueConstraint(
                name="statement_line_once", fields=["statement", "bank", "card_kind", "unit_price"]
            ),
            models.CheckConstraint(
                name="statement_line_amount", condition=Q(amount=F("unit_price") * F("billed_count"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.bank} {self.get_card_kind_display()}"


class Adjustment(ScopedModel):
    """A correction of a closed statement: one person asks, another decides; final then (R-39).

    Counts and amounts are signed; what was closed stays as it was, and the sum of both is what is owed.
    """

    Status = AdjustmentStatus
    TRANSITIONS: ClassVar[Mapping[AdjustmentStatus, frozenset[AdjustmentStatus]]] = {
        AdjustmentStatus.REQUESTED: frozenset({AdjustmentStatus.APPROVED, AdjustmentStatus.REFUSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "statement__period__contract__supplier",
    }

    statement = models.ForeignKey(
        Statement, verbose_name=_("结算单"), on_delete=models.PROTECT, related_name="adjustments"
    )
    bank = models.ForeignKey(Organisation, verbose_name=_("银行"), on_delete=models.PROTECT)
    card_kind = models.CharField(
        _("卡种"),
        max_length=16,
        choices=BILLED_KINDS,
    )
    count_change = models.IntegerField(_("张数增减"))
    unit_price = models.DecimalField(_("单价（元）"), max_digits=6, decimal_places=2)
    amount = models.DecimalField(_("金额增减（元）"), max_digits=14, decimal_places=2)
    reason = models.CharField(_("事由"), max_length=200)
    status = models.CharField(
        _("状态"), max_length=16, choices=AdjustmentStatus.choices, default=AdjustmentStatus.REQUESTED
    )
    requested_by = models.ForeignKey(
        User, verbose_name=_("申请人"), on_delete=models.PROTECT, related_name="requested_adjustments"
    )
    requested_at = models.DateTimeField(_("申请时间"), auto_now_add=True)
    decided_by = models.ForeignKey(
        User,
        verbose_name=_("复核人"),
        null=True,
        on_delete=models.PROTECT,
        related_name="decided_adjustments",
    )
    decided_at = models.DateTimeField(_("复核时间"), null=True)

    class Meta:
        verbose_name = _("结算调整")
        verbose_name_plural = pgettext_lazy("plural", "结算调整")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="adjustment_amount", condition=Q(amount=F("unit_price") * F("count_change"))
            ),
            models.CheckConstraint(
                name="adjustment_changes_something",
                condition=~Q(count_change=0) & ~Q(reason="") & Q(unit_price__gt=0),
                violation_error_message=_("张数增减不能为零，且须说明事由"),
            ),
            models.CheckConstraint(
                name="adjustment_two_people",
                condition=Q(status="requested", decided_by__isnull=True)
                | (~Q(status="requested") & Q(decided_by__isnull=False) & ~Q(decided_by=F("requested_by"))),
                violation_error_message=_("申请人与复核人不能是同一人"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.statement} {self.bank} {self.count_change:+d}"
