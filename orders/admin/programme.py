"""The programme's frame: contracts with their use, the banks' settings, delivery points."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from orders.choices import ContractStatus
from orders.models import BankProfile, Contract, DeliveryPoint
from orders.selectors.usage import with_use
from orders.services.accounts import set_account_layout
from orders.services.contracts import activate_contract, close_contract
from portal.adminkit import (
    EditableAdmin,
    VerbForm,
    badge,
    bar,
    grouped,
    organisation_filter,
    register,
    status_column,
    table,
    verb,
)
from portal.adminkit.columns import Colour
from portal.choices import OrganisationKind
from portal.core.money import format_yuan
from portal.models import User

COLUMN_NAMES = {
    "number": gettext_lazy("证件号码列"),
    "name": gettext_lazy("户名列"),
    "account": gettext_lazy("账号列"),
}
NEARLY_USED, USED_UP = 80, 100


def _use_colour(part: Any, whole: Any) -> Colour:
    share = 100 * part / whole if whole else 0
    if share >= USED_UP:
        return "danger"
    return "warning" if share >= NEARLY_USED else ""


class CloseForm(VerbForm):
    """Why a contract ends."""

    reason = forms.CharField(label=gettext_lazy("终止原因"), max_length=200)


@register(Contract)
class ContractAdmin(EditableAdmin[Contract]):
    """The three lots: caps, prices and how much of them is used (R-1 … R-4)."""

    list_display = ("lot_name", "number", "supplier", "state", "quantity_use", "amount_use", "ends_on")
    list_display_links = ("lot_name", "number")
    list_filter = (("status", ChoicesDropdownFilter),)
    list_select_related = ("supplier",)
    actions_detail = ("activate", "close")
    state = status_column({"draft": "info", "active": "success", "closed": ""})
    fieldsets = (
        (None, {"fields": ("number", "lot", "supplier", "state", "signed_on", "ends_on")}),
        (gettext_lazy("数量与预算"), {"fields": ("quantity_cap", "quantity_use", "budget", "amount_use")}),
        (gettext_lazy("单价"), {"fields": ("finished_price", "face_fee", "premade_price")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Contract]:
        """Add up what is ordered under each contract in the same query."""
        return with_use(super().get_queryset(request))

    def has_change_permission(self, request: HttpRequest, obj: Contract | None = None) -> bool:
        """Let drafts be changed only: a contract in force is a fact."""
        draft = obj is None or obj.status == ContractStatus.DRAFT
        return draft and super().has_change_permission(request, obj)

    @display(description=gettext_lazy("包组"))
    def lot_name(self, row: Contract) -> str:
        """Name the lot."""
        return str(row.get_lot_display())

    @display(description=gettext_lazy("数量使用"))
    def quantity_use(self, row: Contract) -> Any:
        """Show cards ordered of the cap, and what is left."""
        used = getattr(row, "used_quantity", 0)
        words = _("%(used)s / %(cap)s 张，剩余 %(left)s") % {
            "used": grouped(used),
            "cap": grouped(row.quantity_cap),
            "left": grouped((row.quantity_cap or 0) - used),
        }
        return bar(used, row.quantity_cap, words, _use_colour(used, row.quantity_cap))

    @display(description=gettext_lazy("预算使用"))
    def amount_use(self, row: Contract) -> Any:
        """Show yuan ordered of the budget, and what is left."""
        used = getattr(row, "used_amount", 0)
        words = _("%(used)s / %(cap)s，剩余 %(left)s") % {
            "used": format_yuan(used),
            "cap": format_yuan(row.budget or 0),
            "left": format_yuan((row.budget or 0) - used),
        }
        return bar(used, row.budget, words, _use_colour(used, row.budget))

    @display(description=gettext_lazy("预制卡单价（元）"))
    def premade_price(self, row: Contract) -> Any:
        """Show the finished price without the face fee (R-4)."""
        return row.premade_price if row.pk else "-"

    @verb(
        label=gettext_lazy("启用合同"),
        permission="orders.activate_contract",
        when=lambda contract: contract.status == ContractStatus.DRAFT,
        icon="play_arrow",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy("启用后合同内容不能再修改；同一包组只能有一份执行中的合同。"),
    )
    def activate(self, request: HttpRequest, row: Contract, cleaned: dict[str, Any]) -> str:
        """Bring the contract into force."""
        activate_contract(row, actor=cast("User", request.user))
        return _("合同已启用")

    @verb(
        label=gettext_lazy("终止合同"),
        permission="orders.activate_contract",
        form=CloseForm,
        when=lambda contract: contract.status == ContractStatus.ACTIVE,
        icon="stop_circle",
        variant=ActionVariant.DANGER,
        help_text=gettext_lazy("终止后不能再下新订单；已下的订单照常生产和结算。"),
    )
    def close(self, request: HttpRequest, row: Contract, cleaned: dict[str, Any]) -> str:
        """End the contract."""
        close_contract(row, reason=cleaned["reason"], actor=cast("User", request.user))
        return _("合同已终止")


class LayoutForm(VerbForm):
    """Which heading stands over which column of a bank's files."""

    number = forms.CharField(label=gettext_lazy("证件号码列的表头"), max_length=60, required=False)
    name = forms.CharField(label=gettext_lazy("户名列的表头"), max_length=60, required=False)
    account = forms.CharField(label=gettext_lazy("账号列的表头"), max_length=60, required=False)
    header_row = forms.IntegerField(
        label=gettext_lazy("表头上方的行数"), min_value=0, max_value=19, required=False,
        help_text=gettext_lazy("表头在第一行时填 0；留空则自动寻找"),
    )  # fmt: skip

    def prepare(self) -> None:
        """Start from what is saved."""
        layout = cast("BankProfile", self.row).account_layout or {}
        for name in COLUMN_NAMES:
            self.fields[name].initial = layout.get("columns", {}).get(name, "")
        self.fields["header_row"].initial = layout.get("header_row")

    def mapping(self) -> dict[str, Any]:
        """Return the mapping as it is saved; {} when every box is empty."""
        columns = {name: self.cleaned_data[name] for name in COLUMN_NAMES if self.cleaned_data.get(name)}
        if not columns:
            return {}
        above = self.cleaned_data.get("header_row")
        return {"columns": columns} | ({} if above is None else {"header_row": above})

    def clean(self) -> dict[str, Any]:
        """Add the mapping."""
        cleaned = super().clean() or {}
        return {**cleaned, "mapping": self.mapping()}


@register(BankProfile)
class BankProfileAdmin(EditableAdmin[BankProfile]):
    """How each bank's cards are sorted and packed, and how its files are read."""

    list_display = ("organisation", "sort_order", "carton_size", "layout_state")
    list_select_related = ("organisation",)
    actions_detail = ("set_layout",)
    fields = ("organisation", "sort_order", "carton_size", "layout")
    readonly_fields = ("organisation", "layout")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Banks are part of the programme's set-up."""
        return False

    @display(description=gettext_lazy("账号文件列对应"))
    def layout_state(self, row: BankProfile) -> Any:
        """Say whether a mapping is saved."""
        return badge(_("已设置"), "success") if row.account_layout else badge(_("自动识别"), "info")

    @display(description=gettext_lazy("账号文件列对应"))
    def layout(self, row: BankProfile) -> Any:
        """Show the saved mapping."""
        columns = row.account_layout.get("columns", {}) if row.account_layout else {}
        lines = [(COLUMN_NAMES[name], heading) for name, heading in columns.items() if name in COLUMN_NAMES]
        return table([_("项目"), _("文件中的表头")], lines, empty=_("未设置：按常见表头自动识别"))

    @verb(
        label=gettext_lazy("设置列对应"),
        permission="orders.upload_accounts",
        form=LayoutForm,
        icon="view_column",
        help_text=gettext_lazy("填写本行账号文件中三列的表头文字；三项全部留空则恢复自动识别。"),
    )
    def set_layout(self, request: HttpRequest, row: BankProfile, cleaned: dict[str, Any]) -> str:
        """Save the mapping."""
        set_account_layout(row, cleaned["mapping"], actor=cast("User", request.user))
        return _("已保存")


@register(DeliveryPoint)
class DeliveryPointAdmin(EditableAdmin[DeliveryPoint]):
    """The branches cards are delivered to."""

    list_display = ("name", "code", "bank", "address", "activity")
    list_filter = (organisation_filter("bank", OrganisationKind.BANK, gettext_lazy("银行")), "is_active")
    list_select_related = ("bank",)
    search_fields = ("^code", "name")
    search_help_text = gettext_lazy("按网点名称或代码查找")
    fields = ("bank", "code", "name", "address", "is_active")

    @display(description=gettext_lazy("启用"))
    def activity(self, row: DeliveryPoint) -> Any:
        """Say whether cards may go there."""
        return badge(_("启用"), "success") if row.is_active else badge(_("停用"))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer banks only."""
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if db_field.name == "bank":
            field.queryset = field.queryset.filter(kind=OrganisationKind.BANK)
            user = cast("User", request.user)
            if user.organisation is not None and user.organisation.kind == OrganisationKind.BANK:
                field.initial = user.organisation_id
        return field
