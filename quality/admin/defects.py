"""Defects and their codes (R-20, R-21)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.admin import display
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from portal.adminkit import ScopedAdmin, exact_filter, register, status_column
from portal.adminkit.columns import Colour, told_column
from portal.texts import listed
from production.admin.references import reference_column
from quality.models import Defect, DefectCode

KINDS: Mapping[str, Colour] = {"wrong_card": "danger", "bad_card": "warning"}
LIABILITIES: Mapping[str, Colour] = {"supplier": "info", "source": "info"}


@register(DefectCode)
class DefectCodeAdmin(ScopedAdmin[DefectCode]):
    """What can be wrong with a card."""

    list_display = ("label", "code", "kind_badge", "liability_badge")
    list_filter = (("kind", ChoicesDropdownFilter), ("liability", ChoicesDropdownFilter))
    fields = ("label", "code", "kind_badge", "liability_badge")
    label = told_column("name", _("名称"))
    kind_badge = status_column(KINDS, field="kind", description=_("类别"))
    liability_badge = status_column(LIABILITIES, field="liability", description=_("责任"))


@register(Defect)
class DefectAdmin(ScopedAdmin[Defect]):
    """What was wrong with which card."""

    list_display = (
        "title",
        "card_link",
        "batch_link",
        "kind_badge",
        "liability_badge",
        "found_at",
        "recorded_at",
    )
    list_display_links = ("title",)
    list_select_related = ("card__batch", "code", "found_by")
    list_filter = (
        ("kind", ChoicesDropdownFilter),
        ("liability", ChoicesDropdownFilter),
        ("found_at", ChoicesDropdownFilter),
        exact_filter("batch", _("批次号"), "card__batch__number"),
        exact_filter("card", _("芯片序列号"), "card__serial"),
    )
    fields = (
        "title", "card_link", "batch_link", "kind_badge", "liability_badge", "found_at", "tag_text", "note",
        "found_by", "recorded_at",
    )  # fmt: skip
    kind_badge = status_column(KINDS, field="kind", description=_("类别"))
    liability_badge = status_column(LIABILITIES, field="liability", description=_("责任"))
    card_link = reference_column("card", _("卡片"))
    batch_link = reference_column("card__batch", _("批次"))

    @display(description=_("缺陷"))
    def title(self, row: Defect) -> str:
        """Name the defect by its code."""
        return str(row.code)

    @display(description=_("不符数据项"))
    def tag_text(self, row: Defect) -> Any:
        """Name the data elements that differ; what they hold is told to nobody."""
        return listed(row.tags) or "-"
