"""Inspections with their rate against 0.1 %, and holds (R-26, R-31)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from portal.adminkit import ScopedAdmin, VerbForm, exact_filter, register, signed_in, status_column, verb
from portal.adminkit.columns import told_column
from production.admin.references import reference_column
from quality.admin.rates import HOLDS, RESULTS, pass_rate, rate_badge
from quality.choices import HoldStatus
from quality.models import Hold, Inspection
from quality.selectors import defect_rate
from quality.services.holds import release_hold


class MeasureForm(VerbForm):
    """What was done against the cause."""

    measure = forms.CharField(label=_("处置措施"), max_length=500, widget=forms.Textarea)


@register(Inspection)
class InspectionAdmin(ScopedAdmin[Inspection]):
    """One pass of a batch, read back card by card."""

    list_display = (
        "title", "read_count", "good_count", "wrong_count", "bad_count", "unknown_count", "pass_rate",
        "state", "finished_at",
    )  # fmt: skip
    list_display_links = ("title",)
    list_select_related = ("batch",)
    list_filter = (("result", ChoicesDropdownFilter), exact_filter("batch", _("批次号"), "batch__number"))
    fields = (
        "batch_link", "pass_number", "read_count", "good_count", "wrong_count", "bad_count", "unknown_count",
        "pass_rate", "batch_rate", "state", "finished_at",
    )  # fmt: skip
    state = status_column(RESULTS, field="result", description=_("结论"))
    batch_link = reference_column("batch", _("批次"))

    @display(description=_("检验"))
    def title(self, row: Inspection) -> str:
        """Name the inspection by batch and pass."""
        return f"{row.batch.number} #{row.pass_number}"

    @display(description=_("本轮错坏卡率"))
    def pass_rate(self, row: Inspection) -> SafeString:
        """Show the rate of this pass."""
        return rate_badge(pass_rate(row))

    @display(description=_("批次错坏卡率（R-26）"))
    def batch_rate(self, row: Inspection) -> SafeString:
        """Show the rate over all passes of the batch, which decides."""
        return rate_badge(defect_rate(row.batch))


@register(Hold)
class HoldAdmin(ScopedAdmin[Hold]):
    """Batches that must not ship."""

    list_display = ("title", "batch_link", "reason_text", "state", "placed_by", "placed_at", "released_by")
    list_display_links = ("title",)
    list_select_related = ("batch", "placed_by", "released_by")
    list_filter = (("status", ChoicesDropdownFilter), exact_filter("batch", _("批次号"), "batch__number"))
    fieldsets = (
        (None, {"fields": ("batch_link", "reason_text", "rate", "state", "placed_by", "placed_at")}),
        (_("解除"), {"fields": ("measure", "released_by", "released_at")}),
    )
    actions_detail = ("release",)
    state = status_column(HOLDS)
    reason_text = told_column("reason", _("原因"))
    batch_link = reference_column("batch", _("批次"))

    @display(description=_("冻结"))
    def title(self, row: Hold) -> str:
        """Name the hold by its number."""
        return f"#{row.pk}"

    @display(description=_("批次错坏卡率"))
    def rate(self, row: Hold) -> Any:
        """Show the batch's rate today."""
        return rate_badge(defect_rate(row.batch))

    @verb(
        label=_("解除冻结"),
        permission="quality.release_hold",
        form=MeasureForm,
        when=lambda row: row.status == HoldStatus.ACTIVE,
        second_after="placed_by",
        icon="lock_open",
        variant=ActionVariant.PRIMARY,
        help_text=_("写明针对原因采取的措施。冻结人不能解除自己的冻结。"),
    )
    def release(self, request: HttpRequest, row: Hold, cleaned: dict[str, Any]) -> str:
        """Let the batch go on."""
        hold = release_hold(row, measure=cleaned["measure"], actor=signed_in(request))
        return _t("批次 %(batch)s 已解除冻结") % {"batch": hold.batch}
