"""What quality adds to production's pages of batches and cards: production may not know of quality."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant

from portal.adminkit import VerbForm, badge, grouped, register, signed_in, table, verb
from portal.texts import told
from production.admin import BatchAdmin, CardAdmin
from production.admin.references import reference
from production.choices import BatchStatus, Outcome, RunStatus
from production.models import Batch, Card
from production.selectors.batches import runs_of_pass
from quality.admin.rates import HOLDS, RESULTS, pass_rate, rate_badge
from quality.choices import FoundAt
from quality.models import Defect, DefectCode, Hold, Inspection
from quality.selectors import defect_rate
from quality.services.defects import record_defect
from quality.services.holds import place_hold
from quality.services.inspection import inspect_batch

SHIPPED = (BatchStatus.DISPATCHED, BatchStatus.SIGNED, BatchStatus.DESTROYED, BatchStatus.CANCELLED)


class ReasonForm(VerbForm):
    """Why a batch is stopped."""

    reason = forms.CharField(label=_("冻结原因"), max_length=200, widget=forms.Textarea)


class DefectForm(VerbForm):
    """A defect that a person found."""

    code = forms.ModelChoiceField(DefectCode.objects.all(), label=_("缺陷"))
    found_at = forms.ChoiceField(
        label=_("发现环节"),
        choices=[(str(place), place.label) for place in (FoundAt.BODY, FoundAt.LINE, FoundAt.BANK)],
    )
    note = forms.CharField(label=_("说明"), max_length=200, required=False)


def _to_inspect(row: Batch) -> bool:
    return row.status == BatchStatus.INSPECTING and runs_of_pass(row).filter(status=RunStatus.MADE).exists()


def _to_hold(row: Batch) -> bool:
    return row.status not in SHIPPED and not row.held_reason


admin.site.unregister([Batch, Card])


@register(Batch)
class InspectedBatchAdmin(BatchAdmin):
    """A batch with its inspections and holds."""

    fieldsets = (
        *BatchAdmin.fieldsets[:3],
        (_("质量"), {"fields": ("rate", "inspections", "holds")}),
        *BatchAdmin.fieldsets[3:],
    )
    # In the order of the flow: the line, the inspection, the remake.
    actions_detail = (*BatchAdmin.actions_detail[:4], "inspect", *BatchAdmin.actions_detail[4:], "hold")
    COUNTED_FIELDS = BatchAdmin.COUNTED_FIELDS | {"rate", "inspections"}

    @display(description=_("错坏卡率（R-26）"))
    def rate(self, row: Batch) -> SafeString:
        """Show the rate over all passes."""
        return rate_badge(defect_rate(row))

    @display(description=_("检验"))
    def inspections(self, row: Batch) -> SafeString:
        """Show what each pass's inspection found."""
        rows = [
            (
                reference(found, f"#{found.pass_number}"),
                grouped(found.read_count),
                grouped(found.good_count),
                grouped(found.wrong_count),
                grouped(found.bad_count),
                grouped(found.unknown_count),
                rate_badge(pass_rate(found)),
                badge(found.get_result_display(), RESULTS[found.result]),
            )
            for found in Inspection.objects.filter(batch=row).order_by("pass_number")
        ]
        headers = [
            _t("轮次"),
            _t("读回"),
            _t("良品"),
            _t("错卡"),
            _t("坏卡"),
            _t("未知"),
            _t("错坏卡率"),
            _t("结论"),
        ]
        return table(headers, rows, empty=_t("尚未检验"))

    @display(description=_("冻结"))
    def holds(self, row: Batch) -> SafeString:
        """Show the holds with their measures."""
        rows = [
            (
                reference(found, f"#{found.pk}"),
                told(found.reason),
                badge(found.get_status_display(), HOLDS[found.status]),
                found.measure or "-",
                found.released_by or "-",
            )
            for found in Hold.objects.filter(batch=row).select_related("batch", "released_by")
        ]
        headers = [_t("冻结"), _t("原因"), _t("状态"), _t("处置措施"), _t("解除人")]
        return table(headers, rows, empty=_t("未曾冻结"))

    @verb(
        label=_("读回检验"),
        permission="quality.inspect_batch",
        when=_to_inspect,
        icon="fact_check",
        variant=ActionVariant.PRIMARY,
        help_text=_("逐张读回芯片并与记录比对；错卡、坏卡率超过 0.1 % 的批次自动冻结。"),
    )
    def inspect(self, request: HttpRequest, row: Batch, cleaned: dict[str, Any]) -> str:
        """Let the cards of the pass be read back."""
        inspect_batch(row, actor=signed_in(request))
        return _t("读回检验已开始")

    @verb(
        label=_("冻结批次"),
        permission="quality.place_hold",
        form=ReasonForm,
        when=_to_hold,
        icon="lock",
        variant=ActionVariant.DANGER,
    )
    def hold(self, request: HttpRequest, row: Batch, cleaned: dict[str, Any]) -> str:
        """Stop the batch from shipping."""
        place_hold(row, reason=cleaned["reason"], actor=signed_in(request))
        return _t("批次已冻结")


@register(Card)
class InspectedCardAdmin(CardAdmin):
    """A card with its defect."""

    fieldsets = (*CardAdmin.fieldsets, (_("质量"), {"fields": ("defect_link",)}))
    actions_detail = (*CardAdmin.actions_detail, "add_defect")

    @display(description=_("缺陷"))
    def defect_link(self, row: Card) -> Any:
        """Link the card's defect."""
        found = Defect.objects.filter(card=row).select_related("code").first()
        return reference(found, found.code.name) if found else "-"

    @verb(
        label=_("登记缺陷"),
        permission="quality.record_defect",
        form=DefectForm,
        when=lambda row: row.outcome in {Outcome.GOOD, Outcome.REJECTED} and not hasattr(row, "defect"),
        icon="report",
    )
    def add_defect(self, request: HttpRequest, row: Card, cleaned: dict[str, Any]) -> str:
        """Register a defect that a person found."""
        defect = record_defect(row, cleaned.pop("code"), **cleaned, actor=signed_in(request))
        return _t("已登记缺陷：%(code)s") % {"code": defect.code}
