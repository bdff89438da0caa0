"""Stock of blanks as a ledger: what is where is the sum of append-only movements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.models import Contract
from portal.models import User
from portal.scoping import ScopedModel
from portal.texts import told
from production.choices import LocationKind, MovementKind, RequestStatus
from production.models.batches import Batch

SUPPLIER: Mapping[str, str] = {"purchaser": "", "supplier": "contract__supplier"}


class StockLocation(ScopedModel):
    """A place where a supplier keeps blanks or cards."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = SUPPLIER

    contract = models.ForeignKey(Contract, verbose_name=_("合同"), on_delete=models.PROTECT)
    kind = models.CharField(_("类别"), max_length=16, choices=LocationKind.choices)
    name = models.CharField(_("名称"), max_length=50)

    class Meta:
        verbose_name = _("库位")
        verbose_name_plural = pgettext_lazy("plural", "库位")
        ordering = ["contract", "kind"]
        constraints = [models.UniqueConstraint(name="stock_location_kind", fields=["contract", "kind"])]

    def __str__(self) -> str:
        return told(self.name)


class StockLot(ScopedModel):
    """A delivery of blanks with consecutive chip serials."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = SUPPLIER

    contract = models.ForeignKey(Contract, verbose_name=_("合同"), on_delete=models.PROTECT)
    number = models.CharField(_("白卡批号"), max_length=40, unique=True)
    serial_prefix = models.CharField(_("序列号前缀"), max_length=16)
    first_serial = models.PositiveBigIntegerField(_("起始序列号"))
    quantity = models.PositiveIntegerField(_("数量"))
    next_offset = models.PositiveIntegerField(_("已分配"), default=0, editable=False)
    received_on = models.DateField(_("入库日期"))

    class Meta:
        verbose_name = _("白卡批")
        verbose_name_plural = pgettext_lazy("plural", "白卡批")
        ordering = ["received_on", "id"]
        constraints = [
            models.CheckConstraint(
                name="stock_lot_serials_left",
                condition=Q(next_offset__lte=F("quantity")),
                violation_error_message=_("该白卡批的序列号已用完"),
            ),
            models.UniqueConstraint(name="stock_lot_serials", fields=["serial_prefix", "first_serial"]),
        ]

    def __str__(self) -> str:
        return self.number


class StockMovement(ScopedModel):
    """Blanks or cards that moved; append-only (a trigger refuses UPDATE and DELETE)."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "lot__contract__supplier"}

    lot = models.ForeignKey(
        StockLot, verbose_name=_("白卡批"), on_delete=models.PROTECT, related_name="movements"
    )
    kind = models.CharField(_("类别"), max_length=16, choices=MovementKind.choices)
    source = models.ForeignKey(
        StockLocation, verbose_name=_("出"), null=True, on_delete=models.PROTECT, related_name="outgoing"
    )
    target = models.ForeignKey(
        StockLocation, verbose_name=_("入"), null=True, on_delete=models.PROTECT, related_name="incoming"
    )
    quantity = models.PositiveIntegerField(_("数量"))
    batch = models.ForeignKey(
        Batch, verbose_name=_("批次"), null=True, on_delete=models.PROTECT, related_name="movements"
    )
    requested_by = models.ForeignKey(
        User, verbose_name=_("申请人"), on_delete=models.PROTECT, related_name="requested_movements"
    )
    approved_by = models.ForeignKey(
        User, verbose_name=_("复核人"), null=True, on_delete=models.PROTECT, related_name="approved_movements"
    )
    moved_at = models.DateTimeField(_("时间"), auto_now_add=True)
    note = models.CharField(_("说明"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("出入库流水")
        verbose_name_plural = pgettext_lazy("plural", "出入库流水")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="movement_quantity", condition=Q(quantity__gte=1)),
            models.CheckConstraint(
                name="movement_goes_somewhere", condition=Q(source__isnull=False) | Q(target__isnull=False)
            ),
            models.CheckConstraint(
                name="movement_two_people",
                condition=~Q(kind__in=["withdrawal", "adjustment", "destruction"])
                | (Q(approved_by__isnull=False) & ~Q(approved_by=F("requested_by"))),
                violation_error_message=_("领用、调整和销毁须由两人办理"),
            ),
        ]
        indexes = [models.Index(fields=["batch", "kind"])]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.quantity}"


class StockRequest(ScopedModel):
    """A withdrawal or adjustment that waits for the second person."""

    Status = RequestStatus
    TRANSITIONS: ClassVar[Mapping[RequestStatus, frozenset[RequestStatus]]] = {
        RequestStatus.REQUESTED: frozenset({RequestStatus.APPROVED, RequestStatus.REFUSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "lot__contract__supplier"}

    kind = models.CharField(
        _("类别"),
        max_length=16,
        choices=[
            (MovementKind.WITHDRAWAL, MovementKind.WITHDRAWAL.label),
            (MovementKind.ADJUSTMENT, MovementKind.ADJUSTMENT.label),
        ],
    )
    lot = models.ForeignKey(
        StockLot, verbose_name=_("白卡批"), on_delete=models.PROTECT, related_name="requests"
    )
    batch = models.ForeignKey(
        Batch,
        verbose_name=_("批次"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="stock_requests",
    )
    quantity = models.IntegerField(_("数量"))
    reason = models.CharField(_("事由"), max_length=200, blank=True)
    status = models.CharField(
        _("状态"), max_length=16, choices=RequestStatus.choices, default=RequestStatus.REQUESTED
    )
    requested_by = models.ForeignKey(
        User, verbose_name=_("申请人"), on_delete=models.PROTECT, related_name="stock_requests"
    )
    requested_at = models.DateTimeField(_("申请时间"), auto_now_add=True)
    decided_by = models.ForeignKey(
        User, verbose_name=_("复核人"), null=True, on_delete=models.PROTECT, related_name="stock_decisions"
    )
    decided_at = models.DateTimeField(_("复核时间"), null=True)

    class Meta:
        verbose_name = _("领用与调整申请")
        verbose_name_plural = pgettext_lazy("plural", "领用与调整申请")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="stock_request_two_people",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")),
                violation_error_message=_("申请人与复核人不能是同一人"),
            ),
            models.CheckConstraint(  # not even by SQL is one decided by nobody (§3)
                name="stock_request_decided", condition=Q(status="requested") | Q(decided_by__isnull=False)
            ),
            models.CheckConstraint(
                name="stock_request_quantity",
                condition=(Q(kind="withdrawal", quantity__gte=1, batch__isnull=False))
                | (Q(kind="adjustment") & ~Q(quantity=0) & ~Q(reason="")),
                violation_error_message=_("领用须有批次且数量为正；调整须说明事由且数量不为零"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.quantity}"
