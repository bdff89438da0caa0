"""Work plans that the purchaser decides, and the roster their people come from (R-15)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from orders.models import Contract
from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    badge,
    exact_filter,
    organisation_filter,
    register,
    signed_in,
    status_column,
    verb,
)
from portal.adminkit.columns import Colour
from portal.choices import OrganisationKind
from production.admin.references import reference_column
from production.choices import PlanStatus
from production.models import RosterMember, WorkPlan
from production.services.planning import decide_plan
from production.services.roster import add_member, set_member_active

PLAN_COLOURS: Mapping[str, Colour] = {"proposed": "warning", "approved": "success", "refused": "danger"}


class ApprovalForm(VerbForm):
    """An opinion that may be left out."""

    reason = forms.CharField(label=_("审批意见"), max_length=200, required=False)


class RefusalForm(VerbForm):
    """The reason of a refusal."""

    reason = forms.CharField(label=_("驳回原因"), max_length=200)


class MemberForm(VerbForm):
    """A new person of the roster."""

    contract = forms.ModelChoiceField(Contract.objects.none(), label=_("合同"))
    name = forms.CharField(label=_("姓名"), max_length=50)
    position = forms.CharField(label=_("岗位"), max_length=50)

    def prepare(self) -> None:
        """Offer the supplier's own contracts."""
        contracts = Contract.objects.visible_to(signed_in(self.request))
        field: Any = self.fields["contract"]
        field.queryset = contracts
        self.initial.setdefault("contract", contracts.values_list("pk", flat=True).first())


def _proposed(row: WorkPlan) -> bool:
    return row.status == PlanStatus.PROPOSED


@register(WorkPlan)
class WorkPlanAdmin(ScopedAdmin[WorkPlan]):
    """Place, time and people of a batch."""

    list_display = (
        "title",
        "batch_link",
        "quantity",
        "place",
        "starts_at",
        "ends_at",
        "leader_name",
        "state",
    )
    list_display_links = ("title",)
    list_select_related = ("batch__order__contract__supplier", "leader")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        organisation_filter(
            "batch__order__contract__supplier", OrganisationKind.SUPPLIER, _("中标人"), parameter="supplier"
        ),
        exact_filter("batch", _("批次号"), "batch__number"),
    )
    fieldsets = (
        (None, {"fields": ("batch_link", "supplier", "quantity", "due_on", "state")}),
        (_("日程与人员"), {"fields": ("place", "starts_at", "ends_at", "leader", "people")}),
        (_("审批"), {"fields": ("proposed_by", "proposed_at", "decided_by", "decided_at", "reason")}),
    )
    actions_detail = ("approve", "refuse")
    state = status_column(PLAN_COLOURS)
    batch_link = reference_column("batch", _("批次"))

    @display(description=_("日程"))
    def title(self, row: WorkPlan) -> str:
        """Name the plan by its number."""
        return f"#{row.pk}"

    @display(description=_("负责人"))
    def leader_name(self, row: WorkPlan) -> str:
        """Show the leader's name without the position."""
        return row.leader.name

    @display(description=_("中标人"))
    def supplier(self, row: WorkPlan) -> str:
        """Show whose plan it is."""
        return str(row.batch.order.contract.supplier)

    @display(description=_("批次数量"))
    def quantity(self, row: WorkPlan) -> int:
        """Show the batch's quantity."""
        return row.batch.quantity

    @display(description=_("交付期限"))
    def due_on(self, row: WorkPlan) -> Any:
        """Show the batch's deadline."""
        return date_format(row.batch.due_on)

    @verb(
        label=_("批准"),
        permission="production.approve_plan",
        form=ApprovalForm,
        when=_proposed,
        second_after="proposed_by",
        icon="check",
        variant=ActionVariant.PRIMARY,
    )
    def approve(self, request: HttpRequest, row: WorkPlan, cleaned: dict[str, Any]) -> str:
        """Approve the plan and with it the batch."""
        plan = decide_plan(row, approve=True, reason=cleaned["reason"], actor=signed_in(request))
        return _t("工作日程已批准，批次 %(batch)s 可以领用白卡") % {"batch": plan.batch}

    @verb(
        label=_("驳回"),
        permission="production.approve_plan",
        form=RefusalForm,
        when=_proposed,
        second_after="proposed_by",
        icon="close",
        variant=ActionVariant.DANGER,
    )
    def refuse(self, request: HttpRequest, row: WorkPlan, cleaned: dict[str, Any]) -> str:
        """Send the plan back with the reason."""
        decide_plan(row, approve=False, reason=cleaned["reason"], actor=signed_in(request))
        return _t("工作日程已驳回")


@register(RosterMember)
class RosterMemberAdmin(ScopedAdmin[RosterMember]):
    """People named in the contracts."""

    list_display = ("name", "position", "contract", "state")
    list_select_related = ("contract",)
    list_filter = (
        organisation_filter(
            "contract__supplier", OrganisationKind.SUPPLIER, _("中标人"), parameter="supplier"
        ),
        "is_active",
    )
    fields = ("name", "position", "contract", "state")
    actions_list = ("add_person",)
    actions_detail = ("leave", "come_back")

    @display(description=_("状态"))
    def state(self, row: RosterMember) -> Any:
        """Show whether the person may be named in plans."""
        return badge(_t("在岗"), "success") if row.is_active else badge(_t("离岗"))

    @verb(
        label=_("登记人员"),
        permission="production.manage_roster",
        form=MemberForm,
        icon="person_add",
        variant=ActionVariant.PRIMARY,
    )
    def add_person(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Put a person on the roster."""
        member = add_member(**cleaned, actor=signed_in(request))
        return _t("%(member)s 已列入名册") % {"member": member}

    @verb(
        label=_("离岗"),
        permission="production.manage_roster",
        when=lambda row: row.is_active,
        icon="person_off",
        variant=ActionVariant.DANGER,
    )
    def leave(self, request: HttpRequest, row: RosterMember, cleaned: dict[str, Any]) -> str:
        """Take the person off the roster."""
        set_member_active(row, active=False, actor=signed_in(request))
        return _t("%(member)s 已离岗") % {"member": row}

    @verb(
        label=_("恢复在岗"),
        permission="production.manage_roster",
        when=lambda row: not row.is_active,
        icon="person_check",
    )
    def come_back(self, request: HttpRequest, row: RosterMember, cleaned: dict[str, Any]) -> str:
        """Put the person back on the roster."""
        set_member_active(row, active=True, actor=signed_in(request))
        return _t("%(member)s 已恢复在岗") % {"member": row}
