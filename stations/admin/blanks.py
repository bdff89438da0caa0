"""A station's blanks, serial by serial, and the requests that two people decide (R-21)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from portal.adminkit import ScopedAdmin, VerbForm, exact_filter, register, signed_in, status_column, verb
from portal.adminkit.columns import Colour
from production.admin.references import reference_column
from production.choices import RequestStatus
from production.models import StockLot
from stations.choices import BlankStatus
from stations.models import BlankRequest, Station, StationBlank
from stations.services.blanks import MOST_AT_ONCE, decide_blanks, request_blanks, return_blank

BLANK_COLOURS: Mapping[str, Colour] = {"available": "success", "used": "", "returned": "info"}
DECISIONS: Mapping[str, Colour] = {"requested": "warning", "approved": "success", "refused": "danger"}


class RequestForm(VerbForm):
    """Which station asks for how many blanks of which lot."""

    station = forms.ModelChoiceField(Station.objects.none(), label=_("制卡点"))
    lot = forms.CharField(
        label=_("白卡批号"), max_length=40, help_text=_("印在白卡包装上；只能申请本单位或所选中标人的白卡批")
    )
    quantity = forms.IntegerField(label=_("数量"), min_value=1, max_value=MOST_AT_ONCE)

    def prepare(self) -> None:
        """Offer the user's own stations and the lots they may draw on."""
        stations: Any = self.fields["station"]
        stations.queryset = Station.objects.visible_to(signed_in(self.request)).filter(is_active=True)
        if len(stations.queryset) == 1:
            stations.initial = stations.queryset[0]

    def clean_lot(self) -> StockLot:
        """Find the lot by its number; which other suppliers' lots there are is told to nobody (D12)."""
        lot = StockLot.objects.select_related("contract").filter(number=self.cleaned_data["lot"]).first()
        if lot is None:
            raise forms.ValidationError(_("没有这个白卡批"))
        return lot


class ReturnForm(VerbForm):
    """Why a blank goes back."""

    reason = forms.CharField(label=_("事由"), max_length=200)


def _waits(row: BlankRequest) -> bool:
    return row.status == RequestStatus.REQUESTED


@register(BlankRequest)
class BlankRequestAdmin(ScopedAdmin[BlankRequest]):
    """What stations ask for; a keeper of the supplier hands it out."""

    list_display = (
        "title",
        "station",
        "lot",
        "quantity",
        "state",
        "requested_by",
        "requested_at",
        "decided_by",
    )
    list_display_links = ("title",)
    list_select_related = ("station", "lot", "requested_by", "decided_by")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        exact_filter("station", _("制卡点代码"), "station__code"),
    )
    fields = (
        "station", "lot", "quantity", "state", "requested_by", "requested_at", "decided_by", "decided_at",
    )  # fmt: skip
    actions_list = ("ask",)
    actions_detail: ClassVar[tuple[str, ...]] = ("approve", "refuse")
    state = status_column(DECISIONS)

    @display(description=_("申请"))
    def title(self, row: BlankRequest) -> str:
        """Name the request by its number."""
        return f"#{row.pk}"

    @verb(
        label=_("申请领用白卡"),
        permission="stations.request_blanks",
        form=RequestForm,
        icon="add_box",
        variant=ActionVariant.PRIMARY,
        help_text=_("由供应商的仓管员复核后，按序列号划给制卡点。"),
    )
    def ask(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Ask for blanks."""
        request_blanks(**cleaned, actor=signed_in(request))
        return _t("已提出领用申请，待仓管员复核")

    @verb(
        label=_("同意"),
        permission="stations.decide_blanks",
        when=_waits,
        second_after="requested_by",
        icon="check",
        variant=ActionVariant.PRIMARY,
        help_text=_("同意后立即记入流水，序列号划给制卡点。"),
    )
    def approve(self, request: HttpRequest, row: BlankRequest, cleaned: dict[str, Any]) -> str:
        """Hand the blanks out as the second person."""
        decide_blanks(row, approve=True, actor=signed_in(request))
        return _t("已同意，流水已记账")

    @verb(
        label=_("拒绝"),
        permission="stations.decide_blanks",
        when=_waits,
        second_after="requested_by",
        icon="close",
        variant=ActionVariant.DANGER,
    )
    def refuse(self, request: HttpRequest, row: BlankRequest, cleaned: dict[str, Any]) -> str:
        """Refuse as the second person."""
        decide_blanks(row, approve=False, actor=signed_in(request))
        return _t("已拒绝")


@register(StationBlank)
class StationBlankAdmin(ScopedAdmin[StationBlank]):
    """Every blank that a station held."""

    list_display = ("serial", "station", "lot", "state", "received_at", "left_at")
    list_select_related = ("station", "lot")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        exact_filter("station", _("制卡点代码"), "station__code"),
        exact_filter("serial", _("芯片序列号")),
    )
    fields = ("serial", "station", "lot_link", "state", "received_at", "left_at")
    actions_detail = ("send_back",)
    state = status_column(BLANK_COLOURS)
    lot_link = reference_column("lot", _("白卡批"))

    @verb(
        label=_("退回仓库"),
        permission="stations.request_blanks",
        form=ReturnForm,
        when=lambda row: row.status == BlankStatus.AVAILABLE,
        icon="undo",
        variant=ActionVariant.WARNING,
        help_text=_("退回的白卡不再划给制卡点。"),
    )
    def send_back(self, request: HttpRequest, row: StationBlank, cleaned: dict[str, Any]) -> str:
        """Return an unused blank."""
        return_blank(row, reason=cleaned["reason"], actor=signed_in(request))
        return _t("白卡 %(serial)s 已退回") % {"serial": row.serial}
