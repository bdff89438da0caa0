"""The banks' choice of supplier, and orders with their deadlines (R-6, R-10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django import forms
from django.contrib.admin import display
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RangeDateFilter
from unfold.enums import ActionVariant

from orders.choices import ContractStatus
from orders.models import Contract, Order, SupplierChoice
from orders.selectors.orders import FINISHED, Progress, progress, waiting_groups
from orders.services.matching import match_records
from orders.services.ordering import choose_supplier, create_orders
from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    badge,
    days_text,
    grouped,
    light_badge,
    organisation_filter,
    register,
    status_column,
    table,
    verb,
)
from portal.choices import OrganisationKind
from portal.core.clock import format_day, today
from portal.core.errors import InputRefusedError
from portal.core.money import format_yuan
from portal.models import User

ORDER_COLOURS = {"open": "info", "in_production": "warning", "completed": "success", "cancelled": ""}


class ChoiceForm(VerbForm):
    """Which contract, from which day, why."""

    contract = forms.ModelChoiceField(
        label=gettext_lazy("中标人与合同"),
        queryset=Contract.objects.none(),
        empty_label=gettext_lazy("请选择"),
    )
    valid_from = forms.DateField(label=gettext_lazy("生效日期"))
    reason = forms.CharField(label=gettext_lazy("理由"), max_length=200, required=False)

    def prepare(self) -> None:
        """Offer every contract in force: each bank decides freely (R-6)."""
        field = cast("forms.ModelChoiceField[Contract]", self.fields["contract"])
        field.queryset = Contract.objects.filter(status=ContractStatus.ACTIVE).select_related("supplier")
        field.label_from_instance = _contract_label  # type: ignore[method-assign]
        self.fields["valid_from"].initial = today()


def _contract_label(obj: Contract) -> str:
    return f"{obj.supplier}（{obj}）"


@register(SupplierChoice)
class SupplierChoiceAdmin(ScopedAdmin[SupplierChoice]):
    """Every decision of the banks, the newest first."""

    list_display = (
        "bank",
        "supplier",
        "contract",
        "valid_from",
        "standing",
        "reason",
        "chosen_by",
        "chosen_at",
    )
    list_filter = (organisation_filter("bank", OrganisationKind.BANK, gettext_lazy("银行")),)
    list_select_related = ("bank", "contract__supplier", "chosen_by")
    actions_list = ("choose",)
    fields = ("bank", "supplier", "contract", "valid_from", "reason", "chosen_by", "chosen_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[SupplierChoice]:
        """Say in the same query which choice of its bank is in force today."""
        same_bank = SupplierChoice.objects.filter(bank=OuterRef("bank"), valid_from__lte=today())
        newest = same_bank.order_by("-valid_from", "-id").values("pk")[:1]
        return super().get_queryset(request).annotate(in_force=Subquery(newest))

    @display(description=gettext_lazy("中标人"))
    def supplier(self, row: SupplierChoice) -> str:
        """Name the supplier."""
        return str(row.contract.supplier)

    @display(description=gettext_lazy("状态"))
    def standing(self, row: Any) -> Any:
        """Say whether the choice counts today."""
        if row.valid_from > today():
            return badge(_("未生效"), "info")
        return badge(_("生效中"), "success") if row.in_force == row.pk else badge(_("已被替代"))

    @verb(
        label=gettext_lazy("选定中标人"),
        permission="orders.choose_supplier",
        form=ChoiceForm,
        icon="how_to_vote",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy("选定自生效日起对新订单有效；以前的选定保留备查，已下的订单不变。"),
    )
    def choose(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Record the bank's decision."""
        user = cast("User", request.user)
        if user.organisation is None:
            raise InputRefusedError("您的账户没有所属银行")
        choice = choose_supplier(user.organisation, **cleaned, actor=user)
        return _("已选定 %(supplier)s，自 %(day)s 起生效") % {
            "supplier": choice.contract.supplier,
            "day": format_day(choice.valid_from),
        }


class CreateForm(VerbForm):
    """Nothing to enter: shows what will be ordered and what keeps the rest waiting."""

    def preface(self) -> Any:
        """List the waiting groups."""
        rows = [
            (
                group.bank,
                group.card_kind_label,
                grouped(group.quantity),
                badge(str(group.refusal), "warning") if group.refusal else badge(_("可以下单"), "success"),
            )
            for group in waiting_groups(cast("User", self.request.user))
        ]
        headers = [_("银行"), _("卡种"), _("数量"), _("说明")]
        listing = table(headers, rows, empty=_("没有等待下单的记录"))
        return format_html('<div class="pk-section">{}</div>', listing)


class DeadlineFilter(DropdownFilter):
    """Orders by what their deadline asks of people."""

    title = gettext_lazy("期限")
    parameter_name = "deadline"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer what people act on."""
        return [("late", _("已逾期")), ("today", _("今日到期")), ("open", _("未完成"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        """Keep the orders that fit."""
        running = queryset.exclude(status__in=FINISHED)
        chosen: Mapping[str, QuerySet[Order]] = {
            "late": running.filter(due_on__lt=today()),
            "today": running.filter(due_on=today()),
            "open": running,
        }
        return chosen.get(self.value() or "", queryset)


@register(Order)
class OrderAdmin(ScopedAdmin[Order]):
    """Orders with days left and light."""

    list_display = (
        "number",
        "bank",
        "supplier",
        "kind",
        "amount_of_cards",
        "state",
        "due",
        "light",
        "matched_on",
    )
    list_filter = (
        ("status", ChoicesDropdownFilter),
        DeadlineFilter,
        organisation_filter("bank", OrganisationKind.BANK, gettext_lazy("银行")),
        organisation_filter("contract__supplier", OrganisationKind.SUPPLIER, gettext_lazy("中标人")),
        ("card_kind", ChoicesDropdownFilter),
        ("due_on", RangeDateFilter),
    )
    list_select_related = ("bank", "contract__supplier")
    search_fields = ("^number",)
    search_help_text = gettext_lazy("按订单号开头查找")
    actions_list = ("match", "create")
    state = status_column(cast("Any", ORDER_COLOURS))
    fieldsets = (
        (None, {"fields": ("number", "bank", "supplier", "contract", "kind", "amount_of_cards", "state")}),
        (
            gettext_lazy("期限"),
            {"fields": ("matched_on", "due", "light", "created_at", "created_by", "completed_at")},
        ),
        (gettext_lazy("金额"), {"fields": ("unit_price", "total")}),
    )

    @display(description=gettext_lazy("中标人"))
    def supplier(self, row: Order) -> str:
        """Name the supplier."""
        return str(row.contract.supplier)

    @display(description=gettext_lazy("卡种"))
    def kind(self, row: Order) -> str:
        """Name the card kind."""
        return str(row.get_card_kind_display())

    @display(description=gettext_lazy("数量"))
    def amount_of_cards(self, row: Order) -> str:
        """Show how many cards."""
        return grouped(row.quantity)

    @display(description=gettext_lazy("交付期限"))
    def due(self, row: Order) -> Any:
        """Show the deadline; say when an unpublished year may still move it."""
        text = date_format(row.due_on)
        return badge(_("%(day)s 待定") % {"day": text}, "info") if row.due_is_provisional else text

    @display(description=gettext_lazy("剩余工作日"))
    def light(self, row: Order) -> Any:
        """Show days left in the colour of the light."""
        state = _progress_of(row)
        if state.light == "done":
            return light_badge("done", row.get_status_display())
        if state.days_left < 0:
            return light_badge(state.light, days_text(state.days_left))
        if row.due_on < today():
            return light_badge(state.light, _("已逾期"))
        return light_badge(state.light, days_text(state.days_left))

    @display(description=gettext_lazy("金额"))
    def total(self, row: Order) -> str:
        """Show quantity times price."""
        return format_yuan(row.quantity * row.unit_price)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Work out the progress of the page's orders at once, reading the calendar once."""
        changes = super().get_changelist_instance(request)
        states = progress(changes.result_list)
        for order in changes.result_list:
            order.progress = states[order.pk]
        return changes

    @verb(
        label=gettext_lazy("匹配账号"),
        permission="orders.match_records",
        icon="join_inner",
        help_text=gettext_lazy(
            "按社会保障号码、姓名和银行匹配所有待匹配记录。导入账号或校验完数据包后会自动匹配，一般无须手工执行。"
        ),
    )
    def match(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Schedule matching of every bank with waiting records."""
        tasks = match_records(actor=cast("User", request.user))
        if not tasks:
            return _("没有待匹配的记录")
        return _("已安排 %(count)s 家银行的匹配") % {"count": len(tasks)}

    @verb(
        label=gettext_lazy("生成订单"),
        permission="orders.create_order",
        form=CreateForm,
        icon="post_add",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy("按银行、卡种和选定的中标人为下列已匹配记录生成订单，期限为 6 个工作日。"),
    )
    def create(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse | str:
        """Order everything that is matched."""
        orders = create_orders(actor=cast("User", request.user))
        if not orders:
            raise InputRefusedError("没有可以生成的订单", expected="已匹配且已选定中标人的记录")
        total = sum(order.quantity for order in orders)
        return _("已生成 %(orders)s 个订单，共 %(cards)s 张") % {
            "orders": len(orders),
            "cards": grouped(total),
        }


def _progress_of(order: Order) -> Progress:
    known: Progress | None = getattr(order, "progress", None)
    return known or progress([order])[order.pk]
