"""Batches: what is made together, who makes it, and each position in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from orders.choices import CardKind, SortOrder
from orders.models import CardholderRecord, Contract, DeliveryPoint, Order
from portal.models import User
from portal.scoping import ScopedModel
from production.choices import BatchStatus, ItemStatus, PlanStatus

S = BatchStatus


class RosterMember(ScopedModel):
    """A person named in the contract who may work on batches (R-15)."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "contract__supplier"}

    contract = models.ForeignKey(
        Contract, verbose_name=_("合同"), on_delete=models.PROTECT, related_name="roster"
    )
    name = models.CharField(_("姓名"), max_length=50)
    position = models.CharField(_("岗位"), max_length=50)
    is_active = models.BooleanField(_("在岗"), default=True)

    class Meta:
        verbose_name = pgettext_lazy("one", "人员")
        verbose_name_plural = pgettext_lazy("plural", "人员名册")
        ordering = ["contract", "name"]
        constraints = [models.UniqueConstraint(name="roster_member_once", fields=["contract", "name"])]

    def __str__(self) -> str:
        return f"{self.name}（{self.position}）"


class Batch(ScopedModel):
    """A part of one order that is made, inspected, balanced, packed and delivered together."""

    Status = BatchStatus
    TRANSITIONS: ClassVar[Mapping[BatchStatus, frozenset[BatchStatus]]] = {
        S.PLANNED: frozenset({S.APPROVED, S.CANCELLED}),
        S.APPROVED: frozenset({S.RELEASED, S.CANCELLED}),
        S.RELEASED: frozenset({S.PREPARING}),
        S.PREPARING: frozenset({S.PREPARED}),
        S.PREPARED: frozenset({S.RUNNING}),
        S.RUNNING: frozenset({S.INSPECTING}),
        S.INSPECTING: frozenset({S.PREPARING, S.INSPECTED}),
        S.INSPECTED: frozenset({S.CLOSED}),
        S.CLOSED: frozenset({S.PACKED, S.SIGNED}),  # without a good card there is nothing to deliver
        S.PACKED: frozenset({S.DISPATCHED}),
        S.DISPATCHED: frozenset({S.SIGNED}),
        S.SIGNED: frozenset({S.DESTROYED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "order__contract__supplier",
        "bank": "order__bank",
    }

    number = models.CharField(_("批次号"), max_length=40, unique=True)
    order = models.ForeignKey(Order, verbose_name=_("订单"), on_delete=models.PROTECT, related_name="batches")
    quantity = models.PositiveIntegerField(_("数量"))
    card_kind = models.CharField(_("卡种"), max_length=16, choices=CardKind.choices)
    sort_order = models.CharField(_("排序方式"), max_length=16, choices=SortOrder.choices)
    carton_size = models.PositiveIntegerField(_("每箱张数"))
    due_on = models.DateField(_("交付期限"))
    status = models.CharField(
        _("状态"), max_length=16, choices=BatchStatus.choices, default=BatchStatus.PLANNED
    )
    pass_number = models.PositiveSmallIntegerField(_("轮次"), default=0)
    key_id = models.CharField(max_length=64, blank=True)
    held_reason = models.CharField(_("冻结原因"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    created_by = models.ForeignKey(User, verbose_name=_("创建人"), on_delete=models.PROTECT)
    released_at = models.DateTimeField(_("下达时间"), null=True)
    closed_at = models.DateTimeField(_("核对时间"), null=True)
    dispatched_at = models.DateTimeField(_("发货时间"), null=True)
    signed_at = models.DateTimeField(_("签收时间"), null=True)
    destroyed_at = models.DateTimeField(_("销毁时间"), null=True)

    class Meta:
        verbose_name = _("批次")
        verbose_name_plural = pgettext_lazy("plural", "批次")
        ordering = ["-id"]
        constraints = [models.CheckConstraint(name="batch_not_empty", condition=Q(quantity__gte=1))]
        indexes = [models.Index(fields=["status", "due_on"])]

    def __str__(self) -> str:
        return self.number


class WorkPlan(ScopedModel):
    """Place, time and people of a batch; the purchaser approves it before work starts (R-15)."""

    Status = PlanStatus
    TRANSITIONS: ClassVar[Mapping[PlanStatus, frozenset[PlanStatus]]] = {
        PlanStatus.PROPOSED: frozenset({PlanStatus.APPROVED, PlanStatus.REFUSED}),
    }
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "batch__order__contract__supplier",
    }

    batch = models.ForeignKey(Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="plans")
    place = models.CharField(_("工作地点"), max_length=100)
    starts_at = models.DateTimeField(_("开始时间"))
    ends_at = models.DateTimeField(_("结束时间"))
    leader = models.ForeignKey(
        RosterMember, verbose_name=_("负责人"), on_delete=models.PROTECT, related_name="led_plans"
    )
    people = models.ManyToManyField(RosterMember, verbose_name=_("人员"), related_name="plans")
    status = models.CharField(
        _("状态"), max_length=16, choices=PlanStatus.choices, default=PlanStatus.PROPOSED
    )
    proposed_by = models.ForeignKey(
        User, verbose_name=_("提交人"), on_delete=models.PROTECT, related_name="proposed_plans"
    )
    proposed_at = models.DateTimeField(_("提交时间"), auto_now_add=True)
    decided_by = models.ForeignKey(
        User, verbose_name=_("审批人"), null=True, on_delete=models.PROTECT, related_name="decided_plans"
    )
    decided_at = models.DateTimeField(_("审批时间"), null=True)
    reason = models.CharField(_("审批意见"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("工作日程")
        verbose_name_plural = pgettext_lazy("plural", "工作日程")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="work_plan_times",
                condition=Q(ends_at__gt=F("starts_at")),
                violation_error_message=_("结束时间必须晚于开始时间"),
            ),
            models.CheckConstraint(
                name="work_plan_two_people",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("proposed_by")),
                violation_error_message=_("提交人与审批人不能是同一人"),
            ),
            models.UniqueConstraint(
                name="work_plan_one_open",
                fields=["batch"],
                condition=Q(status__in=["proposed", "approved"]),
                violation_error_message=_("该批次已有待批或已批的工作日程"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.batch} {self.place}"


class BatchItem(ScopedModel):
    """One position of a batch: exactly one good card is to come of it; keeps no personal data."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "batch__order__contract__supplier",
        "bank": "batch__order__bank",
    }

    batch = models.ForeignKey(Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="items")
    sequence = models.PositiveIntegerField(_("序号"))
    record = models.OneToOneField(
        CardholderRecord,
        verbose_name=_("持卡人记录"),
        null=True,
        on_delete=models.SET_NULL,
        related_name="batch_item",
    )
    delivery_point = models.ForeignKey(DeliveryPoint, verbose_name=_("交付网点"), on_delete=models.PROTECT)
    status = models.CharField(
        _("状态"), max_length=16, choices=ItemStatus.choices, default=ItemStatus.PENDING
    )

    class Meta:
        verbose_name = _("批次明细")
        verbose_name_plural = pgettext_lazy("plural", "批次明细")
        ordering = ["batch", "sequence"]
        constraints = [models.UniqueConstraint(name="batch_item_sequence", fields=["batch", "sequence"])]

    def __str__(self) -> str:
        return f"{self.batch_id}/{self.sequence}"
