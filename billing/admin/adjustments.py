"""Adjustments of closed statements: asked for by one person, decided by another (R-39)."""

from __future__ import annotations

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

from billing.models import Adjustment, AdjustmentStatus, Statement
from billing.services.closing import decide_adjustment
from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    badge,
    exact_filter,
    organisation_filter,
    register,
    signed_in,
    status_column,
    table,
    verb,
)
from portal.adminkit.columns import Colour
from portal.choices import OrganisationKind
from portal.core.money import format_yuan
from portal.models import Organisation
from production.admin.references import reference, reference_column

DECISIONS: Mapping[str, Colour] = {"requested": "warning", "approved": "success", "refused": "danger"}


class AdjustmentForm(VerbForm):
    """How many cards of which bank and kind more or fewer, at which price, why."""

    bank = forms.ModelChoiceField(Organisation.objects.none(), label=_("银行"), empty_label=_("请选择"))
    card_kind = forms.ChoiceField(
        label=_("卡种"), choices=Adjustment._meta.get_field("card_kind").choices or ()
    )
    count_change = forms.IntegerField(label=_("张数增减"), help_text=_("多计的填负数，少计的填正数"))
    unit_price = forms.DecimalField(label=_("单价（元）"), max_digits=6, decimal_places=2, min_value=0)
    reason = forms.CharField(label=_("事由"), max_length=200)

    def prepare(self) -> None:
        """Offer the banks the user may see."""
        field: Any = self.fields["bank"]
        visible = Organisation.objects.visible_to(signed_in(self.request))
        field.queryset = visible.filter(kind=OrganisationKind.BANK)


def signed(count: int) -> str:
    """Return a count with its sign, grouped."""
    return f"{count:+,}"


def adjustment_table(statement: Statement) -> SafeString:
    """Show a statement's adjustments with those who asked and decided."""
    rows = [
        (
            reference(row, f"#{row.pk}"),
            row.bank,
            row.get_card_kind_display(),
            signed(row.count_change),
            format_yuan(row.unit_price),
            format_yuan(row.amount),
            row.reason,
            badge(row.get_status_display(), DECISIONS[row.status]),
            row.requested_by,
            row.decided_by or "-",
        )
        for row in statement.adjustments.select_related("bank", "requested_by", "decided_by")
    ]
    headers = [
        _t("调整"), _t("银行"), _t("卡种"), _t("张数增减"), _t("单价"), _t("金额增减"), _t("事由"),
        _t("状态"), _t("申请人"), _t("复核人"),
    ]  # fmt: skip
    return table(headers, rows, empty=_t("没有调整"))


@register(Adjustment)
class AdjustmentAdmin(ScopedAdmin[Adjustment]):
    """Corrections of closed statements."""

    list_display = (
        "title",
        "statement_link",
        "bank",
        "card_kind",
        "change",
        "unit_price",
        "amount_text",
        "state",
        "requested_by",
        "decided_by",
    )
    list_display_links = ("title",)
    list_select_related = ("statement__period__contract", "bank", "requested_by", "decided_by")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        organisation_filter("bank", OrganisationKind.BANK, _("银行")),
        exact_filter("contract", _("合同编号"), "statement__period__contract__number"),
    )
    fields = (
        "statement_link", "bank", "card_kind", "change", "unit_price", "amount_text", "reason", "state",
        "requested_by", "requested_at", "decided_by", "decided_at",
    )  # fmt: skip
    actions_detail = ("approve", "refuse")
    state = status_column(DECISIONS)
    statement_link = reference_column("statement", _("结算单"))

    @display(description=_("调整"))
    def title(self, row: Adjustment) -> str:
        """Name the adjustment by its number."""
        return f"#{row.pk}"

    @display(description=_("张数增减"))
    def change(self, row: Adjustment) -> str:
        """Show how many cards more or fewer."""
        return signed(row.count_change)

    @display(description=_("金额增减"))
    def amount_text(self, row: Adjustment) -> str:
        """Show the amount with its sign."""
        return format_yuan(row.amount)

    @verb(
        label=_("同意"),
        permission="billing.decide_adjustment",
        when=lambda row: row.status == AdjustmentStatus.REQUESTED,
        second_after="requested_by",
        icon="check",
        variant=ActionVariant.PRIMARY,
        help_text=_("同意后计入结算单的应付金额，不能撤销。申请人不能复核自己的申请。"),
    )
    def approve(self, request: HttpRequest, row: Adjustment, cleaned: dict[str, Any]) -> str:
        """Approve as the second person."""
        decide_adjustment(row, approve=True, actor=signed_in(request))
        return _t("已同意，调整计入结算单")

    @verb(
        label=_("拒绝"),
        permission="billing.decide_adjustment",
        when=lambda row: row.status == AdjustmentStatus.REQUESTED,
        second_after="requested_by",
        icon="close",
        variant=ActionVariant.DANGER,
    )
    def refuse(self, request: HttpRequest, row: Adjustment, cleaned: dict[str, Any]) -> str:
        """Refuse as the second person."""
        decide_adjustment(row, approve=False, actor=signed_in(request))
        return _t("已拒绝")
