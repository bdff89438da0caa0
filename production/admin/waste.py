"""Destroying rejected cards: asked for by one person, witnessed by another (R-21)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from orders.models import Contract
from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    exact_filter,
    grouped,
    organisation_filter,
    register,
    signed_in,
    status_column,
    table,
    verb,
    written,
)
from portal.adminkit.columns import Colour
from portal.choices import OrganisationKind
from production.admin.references import reference
from production.choices import DestructionMethod, RequestStatus
from production.models import Card, CardDestruction
from production.selectors.waste import requested_serials, spoiled_cards
from production.services.waste import (
    decide_card_destruction,
    destruction_record,
    request_card_destruction,
)

DECISIONS: Mapping[str, Colour] = {"requested": "warning", "approved": "success", "refused": "danger"}
CARDS_SHOWN = 200
_SEPARATORS = re.compile(r"[\s,，、;；]+")


class ContractChoice(forms.ModelChoiceField):
    """Contracts with what waits in their spoiled store."""

    def label_from_instance(self, contract: Contract) -> str:
        """Name the contract and how many cards can be destroyed."""
        waiting = spoiled_cards(contract.pk).count() - len(requested_serials(contract.pk))
        return _t("%(contract)s（待销毁 %(count)s 张）") % {"contract": contract, "count": grouped(waiting)}


class RequestForm(VerbForm):
    """Which cards, how and where."""

    contract = ContractChoice(Contract.objects.none(), label=_("合同"))
    serials = forms.CharField(
        label=_("芯片序列号"),
        widget=forms.Textarea,
        required=False,
        max_length=200_000,
        help_text=_("每行一个，可用扫描枪录入；留空表示废卡库中待销毁的全部"),
    )
    method = forms.ChoiceField(label=_("销毁方式"), choices=DestructionMethod.choices)
    place = forms.CharField(label=_("销毁地点"), max_length=100)
    note = forms.CharField(label=_("说明"), max_length=200, required=False)

    def prepare(self) -> None:
        """Offer the supplier's own contracts."""
        contracts = Contract.objects.visible_to(signed_in(self.request))
        field: Any = self.fields["contract"]
        field.queryset = contracts
        self.initial.setdefault("contract", contracts.values_list("pk", flat=True).first())

    def clean_serials(self) -> list[str] | None:
        """Return the serials that were named; None for all."""
        return [part for part in _SEPARATORS.split(self.cleaned_data["serials"]) if part] or None


class WitnessForm(VerbForm):
    """Who else was there."""

    witnesses = forms.CharField(label=_("其他在场人员"), max_length=200, required=False)


def _requested(row: CardDestruction) -> bool:
    return row.status == RequestStatus.REQUESTED


@register(CardDestruction)
class CardDestructionAdmin(ScopedAdmin[CardDestruction]):
    """Records of destroyed cards, and requests that wait for their witness."""

    list_display = (
        "number",
        "contract",
        "count",
        "method",
        "state",
        "requested_by",
        "requested_at",
        "decided_by",
        "destroyed_on",
    )
    list_select_related = ("contract", "requested_by", "decided_by")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        organisation_filter(
            "contract__supplier", OrganisationKind.SUPPLIER, _("中标人"), parameter="supplier"
        ),
        exact_filter("number", _("销毁单号")),
    )
    fieldsets = (
        (None, {"fields": ("number", "contract", "state", "count", "method", "place", "note")}),
        (
            _("两人办理"),
            {
                "fields": (
                    ("requested_by", "requested_at"),
                    ("decided_by", "decided_at"),
                    "destroyed_on",
                    "witnesses",
                )
            },
        ),
        (_("卡片"), {"fields": ("cards",)}),
    )
    actions_list = ("ask",)
    actions_detail = ("approve", "refuse", "download")
    state = status_column(DECISIONS)

    @display(description=_("张数"))
    def count(self, row: CardDestruction) -> str:
        """Show how many cards."""
        return grouped(row.card_count)

    @display(description=_("卡片"))
    def cards(self, row: CardDestruction) -> SafeString:
        """Show the first cards; the record as Excel has all."""
        found = Card.objects.filter(serial__in=row.serials[:CARDS_SHOWN]).select_related("lot", "batch")
        rows: list[tuple[Any, ...]] = [
            (reference(card), card.lot, reference(card.batch), card.get_card_kind_display())
            for card in found.order_by("serial")
        ]
        if row.card_count > CARDS_SHOWN:
            rows.append(
                (_t("共 %(count)s 张，其余见销毁记录") % {"count": grouped(row.card_count)}, "", "", "")
            )
        return table([_t("芯片序列号"), _t("白卡批"), _t("批次"), _t("卡种")], rows)

    @verb(
        label=_("申请销毁废卡"),
        permission="production.request_carddestruction",
        form=RequestForm,
        icon="delete_sweep",
        variant=ActionVariant.PRIMARY,
        help_text=_("只列已核对批次中的废品。须由另一人现场监销并复核后记账。"),
    )
    def ask(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Ask to destroy cards of the spoiled store."""
        destruction = request_card_destruction(cleaned.pop("contract"), **cleaned, actor=signed_in(request))
        names = {"number": destruction.number, "count": grouped(destruction.card_count)}
        return _t("已提出 %(number)s，共 %(count)s 张，须由另一人监销") % names

    @verb(
        label=_("确认已销毁"),
        permission="production.decide_carddestruction",
        form=WitnessForm,
        when=_requested,
        second_after="requested_by",
        icon="local_fire_department",
        variant=ActionVariant.PRIMARY,
        help_text=_("请在现场清点并看着卡片销毁后确认；确认后记入流水，不能撤销。申请人不能监销自己的申请。"),
    )
    def approve(self, request: HttpRequest, row: CardDestruction, cleaned: dict[str, Any]) -> str:
        """Confirm as the witness."""
        decided = decide_card_destruction(row, approve=True, **cleaned, actor=signed_in(request))
        return _t("已销毁 %(count)s 张，流水已记账") % {"count": grouped(decided.card_count)}

    @verb(
        label=_("拒绝"),
        permission="production.decide_carddestruction",
        when=_requested,
        second_after="requested_by",
        icon="close",
        variant=ActionVariant.DANGER,
    )
    def refuse(self, request: HttpRequest, row: CardDestruction, cleaned: dict[str, Any]) -> str:
        """Refuse as the second person; the cards stay where they are."""
        decide_card_destruction(row, approve=False, actor=signed_in(request))
        return _t("已拒绝，卡片仍在废卡库")

    @verb(
        label=_("下载销毁记录"),
        permission="production.view_carddestruction",
        icon="download",
        download=True,
    )
    def download(
        self, request: HttpRequest, row: CardDestruction, cleaned: dict[str, Any]
    ) -> HttpResponseBase:
        """Send the record that both people sign as Excel."""
        actor = signed_in(request)
        return written(f"{row.number}.xlsx", lambda target: destruction_record(row, target, actor=actor))
