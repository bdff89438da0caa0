"""What the verbs of a batch ask for."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import Q
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from orders.choices import OrderStatus
from orders.models import Order
from portal.adminkit import VerbForm, grouped, signed_in
from portal.core.clock import today
from production.models import Batch, RosterMember, StockLot
from production.selectors.stock import lots_in_warehouse, suggested_withdrawal
from production.services.planning import BATCH_SIZE

LOCAL = "%Y-%m-%dT%H:%M"
WORK_STARTS, WORK_ENDS = time(8, 30), time(17, 30)


class OrderChoice(forms.ModelChoiceField):
    """Open orders with what they hold."""

    def label_from_instance(self, order: Order) -> str:
        """Name number, bank, kind, quantity and deadline."""
        facts = (str(order), str(order.bank), order.get_card_kind_display(), grouped(order.quantity))
        return "　".join(facts) + _t("　%(day)s 到期") % {"day": order.due_on}


class LotChoice(forms.ModelChoiceField):
    """Lots with their balance in the warehouse."""

    def label_from_instance(self, lot: StockLot) -> str:
        """Name number and balance."""
        held: int = lot.in_warehouse  # type: ignore[attr-defined]
        return _t("%(lot)s（库存 %(count)s）") % {"lot": lot, "count": grouped(held)}


class SplitForm(VerbForm):
    """An open order and how large its batches are to be."""

    order = OrderChoice(Order.objects.none(), label=_("订单"))
    batch_size = forms.IntegerField(
        label=_("每批数量"), min_value=1, initial=BATCH_SIZE, help_text=_("末批为余数")
    )

    def prepare(self) -> None:
        """Offer the open orders of the planner's own contracts, the most urgent first."""
        orders = Order.objects.visible_to(signed_in(self.request)).filter(status=OrderStatus.OPEN)
        field: Any = self.fields["order"]
        field.queryset = orders.select_related("bank").order_by("due_on", "id")


class PlanForm(VerbForm):
    """Place, time and people of a batch (R-15)."""

    place = forms.CharField(label=_("工作地点"), max_length=100)
    starts_at = forms.DateTimeField(label=_("开始时间"))
    ends_at = forms.DateTimeField(label=_("结束时间"), help_text=_("不得晚于交付期限"))
    leader = forms.ModelChoiceField(RosterMember.objects.none(), label=_("负责人"))
    people = forms.ModelMultipleChoiceField(
        RosterMember.objects.none(),
        label=_("人员"),
        widget=forms.CheckboxSelectMultiple,
        help_text=_("须包括负责人；只列出该合同的在岗人员"),
    )

    def prepare(self) -> None:
        """Offer the active people of the contract's roster, and a plan from tomorrow to the deadline."""
        batch: Any = self.row
        roster = RosterMember.objects.filter(contract_id=batch.order.contract_id, is_active=True)
        for name in ("leader", "people"):
            field: Any = self.fields[name]
            field.queryset = roster
        last = max(batch.due_on, today())
        first = min(today() + timedelta(days=1), last)
        self.initial.setdefault("starts_at", datetime.combine(first, WORK_STARTS).strftime(LOCAL))
        self.initial.setdefault("ends_at", datetime.combine(last, WORK_ENDS).strftime(LOCAL))


class WithdrawalForm(VerbForm):
    """Blanks of one lot for the batch."""

    lot = LotChoice(StockLot.objects.none(), label=_("白卡批"))
    quantity = forms.IntegerField(label=_("数量"), min_value=1)
    reason = forms.CharField(label=_("说明"), max_length=200, required=False)

    def prepare(self) -> None:
        """Offer the contract's lots that have blanks left, and what the batch still needs."""
        batch: Any = self.row
        field: Any = self.fields["lot"]
        field.queryset = lots_in_warehouse(batch.order.contract_id).filter(Q(in_warehouse__gt=0))
        self.initial.setdefault("lot", field.queryset.values_list("pk", flat=True).first())
        if wanted := suggested_withdrawal(batch):
            self.initial.setdefault("quantity", wanted)
            self.fields["quantity"].help_text = _t("建议 %(count)s 张（含备用）") % {"count": grouped(wanted)}


class BlindCountForm(VerbForm):
    """What was counted by hand; the system's own counts are not shown (R-21)."""

    good = forms.IntegerField(label=_("良品（张）"), min_value=0)
    rejected = forms.IntegerField(label=_("废品（张）"), min_value=0)
    samples = forms.IntegerField(label=_("留样（张）"), min_value=0)
    returned = forms.IntegerField(label=_("退库白卡（张）"), min_value=0)


class DestroyForm(VerbForm):
    """The batch's number, typed once more."""

    number = forms.CharField(label=_("输入批次号以确认"), max_length=40)

    def clean_number(self) -> str:
        """Refuse another number than the batch's."""
        batch = self.row
        number: str = self.cleaned_data["number"].strip()
        if not isinstance(batch, Batch) or number != batch.number:
            raise forms.ValidationError(_t("与本批次的批次号不一致"), code="other_batch")
        return number
