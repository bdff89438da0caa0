"""Blanks: lots, locations with their balances, the ledger, and requests that two people decide (R-21)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from orders.choices import ContractStatus
from orders.models import Contract
from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    exact_filter,
    grouped,
    register,
    signed_in,
    status_column,
    table,
    verb,
)
from portal.adminkit.columns import Colour, told_column
from portal.core.clock import today
from production.admin.references import PageFacts, listing, reference_column
from production.choices import LocationKind, RequestStatus
from production.models import StockLocation, StockLot, StockMovement, StockRequest
from production.selectors.balances import location_balances, lot_balances
from production.services.stock import decide_request, receive_lot, request_adjustment

DECISIONS: Mapping[str, Colour] = {"requested": "warning", "approved": "success", "refused": "danger"}
MOVES: Mapping[str, Colour] = {
    "receipt": "info",
    "withdrawal": "info",
    "good": "success",
    "spoilage": "danger",
    "adjustment": "warning",
}


class LotForm(VerbForm):
    """What comes with a delivery of blanks."""

    contract = forms.ModelChoiceField(Contract.objects.none(), label=_("合同"))
    number = forms.CharField(label=_("白卡批号"), max_length=40)
    serial_prefix = forms.CharField(
        label=_("序列号前缀"), max_length=6, help_text=_("一个字母，其后至多五位字母或数字")
    )
    first_serial = forms.IntegerField(label=_("起始序列号"), min_value=0)
    quantity = forms.IntegerField(label=_("数量"), min_value=1)
    received_on = forms.DateField(label=_("入库日期"))

    def prepare(self) -> None:
        """Offer the supplier's active contracts."""
        contracts = Contract.objects.visible_to(signed_in(self.request)).filter(status=ContractStatus.ACTIVE)
        field: Any = self.fields["contract"]
        field.queryset = contracts.select_related("supplier")
        self.initial.setdefault("contract", contracts.values_list("pk", flat=True).first())
        self.initial.setdefault("received_on", today())


class AdjustmentForm(VerbForm):
    """A signed correction and its reason."""

    quantity = forms.IntegerField(label=_("调整数量"), help_text=_("盘盈为正，盘亏为负"))
    reason = forms.CharField(label=_("事由"), max_length=200)


def _balance_column(kind: LocationKind) -> Any:
    def column(admin: Any, row: Any) -> str:
        return grouped(row.balances[kind])

    column.short_description = kind.label  # type: ignore[attr-defined]
    return column


@register(StockLot)
class StockLotAdmin(PageFacts, ScopedAdmin[StockLot]):
    """Lots of blanks with where they are now."""

    list_display = (
        "number",
        "contract",
        "received_on",
        "received",
        "in_warehouse",
        "on_floor",
        "spoiled",
        "sampled",
        "delivered",
    )
    list_select_related = ("contract",)
    list_filter = (exact_filter("lot", _("白卡批号"), "number"),)
    fieldsets = (
        (None, {"fields": ("number", "contract", "received_on", "received", "serials", "next_offset")}),
        (_("库存（由流水合计）"), {"fields": ("balance_table", "ledger")}),
    )
    actions_list = ("receive",)
    actions_detail = ("adjust",)

    in_warehouse = _balance_column(LocationKind.WAREHOUSE)
    on_floor = _balance_column(LocationKind.FLOOR)
    spoiled = _balance_column(LocationKind.SPOILED)
    sampled = _balance_column(LocationKind.SAMPLES)
    delivered = _balance_column(LocationKind.DELIVERED)

    def learn(self, rows: list[Any]) -> None:
        """Sum the movements of the page's lots."""
        found = lot_balances(rows)
        for row in rows:
            row.balances = found.get(row.pk, Counter())

    @display(description=_("入库数量"))
    def received(self, row: StockLot) -> str:
        """Show how many blanks came."""
        return grouped(row.quantity)

    @display(description=_("序列号范围"))
    def serials(self, row: StockLot) -> str:
        """Show the first and the last serial."""
        last = row.first_serial + row.quantity - 1
        return f"{row.serial_prefix}{row.first_serial:010d} – {row.serial_prefix}{last:010d}"

    @display(description=_("结存"))
    def balance_table(self, row: Any) -> SafeString:
        """Show how many are where."""
        rows = [(kind.label, grouped(row.balances[kind])) for kind in LocationKind]
        return table([_t("库位"), _t("数量")], rows)

    @display(description=_("出入库流水"))
    def ledger(self, row: StockLot) -> SafeString:
        """Link the lot's movements."""
        return listing(StockMovement, _t("查看流水"), lot=row.number)

    @verb(
        label=_("白卡入库"),
        permission="production.receive_stock",
        form=LotForm,
        icon="add_box",
        variant=ActionVariant.PRIMARY,
    )
    def receive(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Take a delivery of blanks into the warehouse."""
        lot = receive_lot(cleaned.pop("contract"), **cleaned, actor=signed_in(request))
        return _t("白卡批 %(lot)s 已入库 %(count)s 张") % {"lot": lot, "count": grouped(lot.quantity)}

    @verb(label=_("申请库存调整"), permission="production.request_stock", form=AdjustmentForm, icon="tune")
    def adjust(self, request: HttpRequest, row: StockLot, cleaned: dict[str, Any]) -> str:
        """Ask for a correction; a second keeper decides."""
        request_adjustment(row, cleaned["quantity"], reason=cleaned["reason"], actor=signed_in(request))
        return _t("已提出调整申请，须由另一人复核")


@register(StockLocation)
class StockLocationAdmin(PageFacts, ScopedAdmin[StockLocation]):
    """Locations with their balances."""

    list_display = ("label", "contract", "kind", "balance")
    list_select_related = ("contract",)
    list_filter = (("kind", ChoicesDropdownFilter),)
    fields = ("label", "contract", "kind", "balance")
    label = told_column("name", _("名称"))

    def learn(self, rows: list[Any]) -> None:
        """Sum the movements of the page's locations."""
        found = location_balances(rows)
        for row in rows:
            row.held = found[row.pk]

    @display(description=_("结存"))
    def balance(self, row: Any) -> str:
        """Show the sum of the movements."""
        return grouped(row.held)


@register(StockMovement)
class StockMovementAdmin(ScopedAdmin[StockMovement]):
    """The append-only ledger."""

    list_display = (
        "moved_at",
        "state",
        "lot_link",
        "quantity",
        "way",
        "batch_link",
        "requested_by",
        "approved_by",
    )
    list_display_links = ("moved_at",)
    list_select_related = ("lot", "source", "target", "batch", "requested_by", "approved_by")
    list_filter = (
        ("kind", ChoicesDropdownFilter),
        exact_filter("lot", _("白卡批号"), "lot__number"),
        exact_filter("batch", _("批次号"), "batch__number"),
    )
    fields = (
        "moved_at", "state", "lot_link", "quantity", "source", "target", "batch_link",
        "requested_by", "approved_by", "note",
    )  # fmt: skip
    state = status_column(MOVES, field="kind", description=_("类别"))
    lot_link = reference_column("lot", _("白卡批"))
    batch_link = reference_column("batch", _("批次"))

    @display(description=_("出 → 入"))
    def way(self, row: StockMovement) -> str:
        """Show where from and where to."""
        return f"{row.source or '—'} → {row.target or '—'}"


@register(StockRequest)
class StockRequestAdmin(ScopedAdmin[StockRequest]):
    """Requests that wait for the second person."""

    list_display = (
        "title",
        "lot_link",
        "batch_link",
        "quantity",
        "state",
        "requested_by",
        "requested_at",
        "decided_by",
    )
    list_display_links = ("title",)
    list_select_related = ("lot", "batch", "requested_by", "decided_by")
    list_filter = (("status", ChoicesDropdownFilter), ("kind", ChoicesDropdownFilter))
    fields = (
        "kind", "lot_link", "batch_link", "quantity", "reason", "state",
        "requested_by", "requested_at", "decided_by", "decided_at",
    )  # fmt: skip
    actions_detail = ("approve", "refuse")
    state = status_column(DECISIONS)
    lot_link = reference_column("lot", _("白卡批"))
    batch_link = reference_column("batch", _("批次"))

    @display(description=_("申请"))
    def title(self, row: StockRequest) -> str:
        """Name the request by kind and number."""
        return f"{row.get_kind_display()} #{row.pk}"

    @verb(
        label=_("同意"),
        permission="production.decide_stock",
        when=lambda row: row.status == RequestStatus.REQUESTED,
        second_after="requested_by",
        icon="check",
        variant=ActionVariant.PRIMARY,
        help_text=_("同意后立即记入流水。申请人不能复核自己的申请。"),
    )
    def approve(self, request: HttpRequest, row: StockRequest, cleaned: dict[str, Any]) -> str:
        """Approve as the second person."""
        decide_request(row, approve=True, actor=signed_in(request))
        return _t("已同意，流水已记账")

    @verb(
        label=_("拒绝"),
        permission="production.decide_stock",
        when=lambda row: row.status == RequestStatus.REQUESTED,
        second_after="requested_by",
        icon="close",
        variant=ActionVariant.DANGER,
    )
    def refuse(self, request: HttpRequest, row: StockRequest, cleaned: dict[str, Any]) -> str:
        """Refuse as the second person."""
        decide_request(row, approve=False, actor=signed_in(request))
        return _t("已拒绝")
