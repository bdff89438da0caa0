"""Emergency cases: opened at the counter, seen and decided by the second person (R-14)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from orders.dictionary import (
    CARD_KIND_LABELS,
    COLUMNS,
    DOCUMENT_TYPES,
    ETHNICITIES,
    ISSUE_KIND_LABELS,
    SEXES,
)
from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    exact_filter,
    register,
    result_page,
    signed_in,
    status_column,
    table,
    verb,
)
from portal.adminkit.columns import Colour
from portal.core.crypto import TamperedError
from portal.core.keystore import KeyDestroyedError, KeyMissingError
from portal.texts import coded, told
from stations.choices import CaseStatus
from stations.models import EmergencyCase
from stations.services.cases import CasePerson, decide_case, person_of, view_person

COLOURS: Mapping[str, Colour] = {"requested": "warning", "approved": "success", "refused": "danger"}


class ApproveForm(VerbForm):
    """What the second person adds."""

    text = forms.CharField(label=_("复核意见（可不填）"), max_length=200, required=False)


class RefuseForm(VerbForm):
    """Why not."""

    text = forms.CharField(label=_("不同意的原因"), max_length=200)


def _waits(row: EmergencyCase) -> bool:
    return row.status == CaseStatus.REQUESTED


@register(EmergencyCase)
class EmergencyCaseAdmin(ScopedAdmin[EmergencyCase]):
    """What counters ask for."""

    list_display = (
        "title",
        "station",
        "bank",
        "person",
        "state",
        "requested_by",
        "requested_at",
        "decided_by",
    )
    list_display_links = ("title",)
    list_select_related = ("station", "bank", "requested_by", "decided_by")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        exact_filter("station", _("制卡点代码"), "station__code"),
    )
    fields = (
        "station", "bank", "person", "reason", "state", "requested_by", "requested_at", "decided_by",
        "decided_at", "decision_text", "record",
    )  # fmt: skip
    actions_list = ("open",)
    actions_detail: ClassVar[tuple[str, ...]] = ("look", "approve", "refuse")
    state = status_column(COLOURS)

    @display(description=_("申请"))
    def title(self, row: EmergencyCase) -> str:
        """Name the case by its number."""
        return f"#{row.pk}"

    @display(description=_("持卡人"))
    def person(self, row: EmergencyCase) -> str:
        """Show the person masked while the case waits; afterwards the case has forgotten."""
        try:
            return "　".join(person_of(row).masked) if _waits(row) else "-"
        except (KeyDestroyedError, KeyMissingError, TamperedError):
            return "-"

    @verb(
        label=_("录入应急申请"), permission="stations.request_case", icon="add", variant=ActionVariant.PRIMARY
    )
    def open(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Lead to the counter's form."""
        return redirect("counter-case")

    @verb(
        label=_("查看资料和照片"),
        permission="stations.decide_case",
        when=_waits,
        limit="unmask",
        icon="visibility",
        variant=ActionVariant.WARNING,
        help_text=_("显示申请人录入的全部资料和照片，供与本人及证件核对；本次查看记入审计。"),
    )
    def look(self, request: HttpRequest, row: EmergencyCase, cleaned: dict[str, Any]) -> HttpResponse:
        """Show what was entered, this once."""
        person = view_person(row, actor=signed_in(request))
        help_text = _t("本次查看已记入审计。请勿截屏、抄录或转发。")
        return result_page(
            self, request, row, title=_t("应急申请资料"), body=_shown(person), help_text=help_text
        )

    @verb(
        label=_("同意"),
        permission="stations.decide_case",
        form=ApproveForm,
        when=_waits,
        second_after="requested_by",
        icon="check",
        variant=ActionVariant.PRIMARY,
        help_text=_("同意后生成持卡人记录，操作员即可制卡；申请中的资料随即清除。"),
    )
    def approve(self, request: HttpRequest, row: EmergencyCase, cleaned: dict[str, Any]) -> str:
        """Approve as the second person."""
        decide_case(row, approve=True, text=cleaned["text"], actor=signed_in(request))
        return _t("已同意，操作员可以制卡")

    @verb(
        label=_("不同意"),
        permission="stations.decide_case",
        form=RefuseForm,
        when=_waits,
        second_after="requested_by",
        icon="close",
        variant=ActionVariant.DANGER,
        help_text=_("申请中的资料随即清除。"),
    )
    def refuse(self, request: HttpRequest, row: EmergencyCase, cleaned: dict[str, Any]) -> str:
        """Refuse as the second person."""
        decide_case(row, approve=False, text=cleaned["text"], actor=signed_in(request))
        return _t("已驳回")


def _words(code: str, value: str) -> str:
    """Return what a code of the dictionary means; other values as they were entered."""
    if code == "AAC058":
        kind = DOCUMENT_TYPES.get(value)
        return told(kind.label) if kind else value or "-"
    meanings: Mapping[str, Mapping[str, str]] = {
        "AAC004": SEXES, "AAC005": ETHNICITIES,
        "issue_kind": {str(kind): label for kind, label in ISSUE_KIND_LABELS.items()},
        "card_kind": {str(kind): label for kind, label in CARD_KIND_LABELS.items()},
    }  # fmt: skip
    return told(meanings.get(code, {}).get(value, value)) or "-"


def _shown(person: CasePerson) -> SafeString:
    rows: list[tuple[Any, Any]] = [
        (coded(column.label, column.code), _words(column.code, person.row.get(column.code, "")))
        for column in COLUMNS
        if column.code != "seq"
    ]
    picture = base64.b64encode(person.photo).decode()
    return format_html(
        '<p class="pk-picture"><img src="data:image/jpeg;base64,{}" width="179" height="221" alt="{}"></p>{}',
        picture,
        _t("申请人照片"),
        table([_t("项目"), _t("内容")], [*rows, (_t("银行账号"), person.account)]),
    )
