"""Cards, the unknown among them, and the machine files they came from (D8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    badge,
    exact_filter,
    organisation_filter,
    register,
    result_page,
    signed_in,
    status_column,
    table,
    verb,
)
from portal.adminkit.columns import Colour
from portal.choices import OrganisationKind
from portal.texts import told
from production.admin.batch_sections import RUN_COLOURS
from production.admin.references import reference, reference_column
from production.choices import Outcome, RequestStatus
from production.line.made import REASON_LABELS
from production.models import Card, MachineFile, UnknownDecision
from production.selectors.search import find_cards
from production.services.cards import DECIDED, decide_unknown, read_unknown, request_unknown_decision

OUTCOMES: Mapping[str, Colour] = {
    "pending": "",
    "made": "info",
    "good": "success",
    "rejected": "danger",
    "unknown": "warning",
    "unused": "",
}
DECISIONS: Mapping[str, Colour] = {"requested": "warning", "approved": "success", "refused": "danger"}


REASONS = {**REASON_LABELS, DECIDED: "双人认定"}


class SearchForm(VerbForm):
    """One exact term; it is sent in the body, never in an address (R-45)."""

    term = forms.CharField(
        label=_("序列号、社会保障号码或社保卡号"),
        max_length=40,
        help_text=_("须完整输入；号码只按盲索引比对，不记录"),
    )


class DecisionForm(VerbForm):
    """What became of an unknown card and how it is known."""

    outcome = forms.ChoiceField(
        label=_("认定结果"),
        choices=[(str(Outcome.GOOD), Outcome.GOOD.label), (str(Outcome.REJECTED), Outcome.REJECTED.label)],
    )
    evidence = forms.CharField(
        label=_("依据"),
        max_length=200,
        widget=forms.Textarea,
        help_text=_("例如：实物位置、读回结果、清点情况"),
    )


def _unknown(row: Card) -> bool:
    return row.outcome == Outcome.UNKNOWN


def _unknown_at_line(row: Card) -> bool:
    """Leave what a station made to its own reader."""
    return _unknown(row) and not row.machine_file.station


def _undecided(row: Card) -> bool:
    return _unknown(row) and not row.decisions.filter(status=RequestStatus.REQUESTED).exists()


@register(Card)
class CardAdmin(ScopedAdmin[Card]):
    """Every physical card, without personal data."""

    list_display = (
        "serial",
        "batch_link",
        "bank",
        "card_kind",
        "attempt",
        "state",
        "reason_text",
        "made_at",
        "place",
    )
    list_select_related = ("batch", "bank", "carton")
    list_filter = (
        ("outcome", ChoicesDropdownFilter),
        ("card_kind", ChoicesDropdownFilter),
        organisation_filter("bank", OrganisationKind.BANK, _("银行")),
        exact_filter("batch", _("批次号"), "batch__number"),
        exact_filter("serial", _("芯片序列号")),
        exact_filter("carton", _("箱号"), "carton__number"),
    )
    fieldsets: ClassVar[tuple[Any, ...]] = (
        (
            None,
            {
                "fields": (
                    ("serial", "state"),
                    ("batch_link", "reason_text"),
                    ("sequence", "attempt"),
                    ("bank", "card_kind"),
                    "issue_kind",
                )
            },
        ),
        (
            _("制作"),
            {
                "fields": (
                    ("lot_link", "machine_file"),
                    ("machine", "operator"),
                    "made_at",
                    "card_identifier",
                    "atr",
                )
            },
        ),
        (
            _("交付与质保"),
            {
                "fields": (
                    ("place", "delivered_on"),
                    ("accepted_on", "warranty_until"),
                    "destruction_link",
                    "decision_table",
                )
            },
        ),
    )
    actions_list = ("find",)
    actions_detail: ClassVar[tuple[str, ...]] = ("read_again", "propose")
    state = status_column(OUTCOMES, field="outcome", description=_("结果"))
    batch_link = reference_column("batch", _("批次"))
    lot_link = reference_column("lot", _("白卡批"))

    @display(description=_("原因"))
    def reason_text(self, row: Card) -> str:
        """Show why a card is not good."""
        return told(REASONS.get(row.reason, row.reason)) or "-"

    @display(description=_("批次内序号"))
    def sequence(self, row: Card) -> int:
        """Show which position of the batch the card is for."""
        return row.item.sequence

    @display(description=_("装箱位置"))
    def place(self, row: Card) -> str:
        """Show carton and position."""
        return f"{row.carton.number}/{row.carton_position}" if row.carton else "-"

    @display(description=_("废卡销毁单"))
    def destruction_link(self, row: Card) -> Any:
        """Link the record of the card's destruction."""
        return reference(row.destruction)

    @display(description=_("未知卡认定"))
    def decision_table(self, row: Card) -> Any:
        """Show what people decided about the card."""
        found = row.decisions.select_related("card", "requested_by", "decided_by")
        rows = [
            (
                reference(decision, f"#{decision.pk}"),
                decision.get_outcome_display(),
                decision.evidence,
                badge(decision.get_status_display(), DECISIONS[decision.status]),
                decision.requested_by,
                decision.decided_by or "-",
            )
            for decision in found
        ]
        return table([_t("认定"), _t("结果"), _t("依据"), _t("状态"), _t("提出人"), _t("复核人")], rows)

    @verb(
        label=_("查找卡片"),
        permission="production.view_card",
        form=SearchForm,
        limit="search",
        icon="search",
        variant=ActionVariant.PRIMARY,
    )
    def find(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Find cards by an exact term."""
        cards = find_cards(cleaned["term"], user=signed_in(request))
        rows = [
            (
                reference(card),
                reference(card.batch),
                card.bank,
                badge(card.get_outcome_display(), OUTCOMES[card.outcome]),
                card.accepted_on or "-",
                card.warranty_until or "-",
            )
            for card in cards
        ]
        headers = [_t("芯片序列号"), _t("批次"), _t("银行"), _t("结果"), _t("签收日期"), _t("质保截止")]
        body = table(headers, rows, empty=_t("没有完全一致的卡片"))
        return result_page(self, request, None, title=_t("查找结果"), body=body)

    @verb(
        label=_("重新读卡"),
        permission="production.decide_unknown",
        when=_unknown_at_line,
        icon="contactless",
        variant=ActionVariant.PRIMARY,
        help_text=_("将卡片放入读写器：内容相符为良品，不符为废品，读不出则仍为未知。"),
    )
    def read_again(self, request: HttpRequest, row: Card, cleaned: dict[str, Any]) -> str:
        """Put the card into a reader."""
        card = read_unknown(row, actor=signed_in(request))
        return _t("读卡结果：%(outcome)s") % {"outcome": card.get_outcome_display()}

    @verb(
        label=_("提出认定"),
        permission="production.decide_unknown",
        form=DecisionForm,
        when=_undecided,
        icon="gavel",
        help_text=_("认定须由另一人复核后生效。"),
    )
    def propose(self, request: HttpRequest, row: Card, cleaned: dict[str, Any]) -> str:
        """Propose what became of the card."""
        request_unknown_decision(row, **cleaned, actor=signed_in(request))
        return _t("已提出认定，须由另一人复核")


@register(UnknownDecision)
class UnknownDecisionAdmin(ScopedAdmin[UnknownDecision]):
    """What two people decide about unknown cards."""

    list_display = (
        "title",
        "card_link",
        "batch_link",
        "outcome",
        "state",
        "requested_by",
        "requested_at",
        "decided_by",
    )
    list_display_links = ("title",)
    list_select_related = ("card__batch", "requested_by", "decided_by")
    list_filter = (("status", ChoicesDropdownFilter), ("outcome", ChoicesDropdownFilter))
    fields = (
        "card_link", "batch_link", "outcome", "evidence", "state",
        "requested_by", "requested_at", "decided_by", "decided_at",
    )  # fmt: skip
    actions_detail = ("confirm", "refuse")
    state = status_column(DECISIONS)
    card_link = reference_column("card", _("卡片"))
    batch_link = reference_column("card__batch", _("批次"))

    @display(description=_("认定"))
    def title(self, row: UnknownDecision) -> str:
        """Name the decision by its number."""
        return f"#{row.pk}"

    @verb(
        label=_("复核同意"),
        permission="production.decide_unknown",
        when=lambda row: row.status == RequestStatus.REQUESTED,
        second_after="requested_by",
        icon="check",
        variant=ActionVariant.PRIMARY,
        help_text=_("提出人不能复核自己的认定。"),
    )
    def confirm(self, request: HttpRequest, row: UnknownDecision, cleaned: dict[str, Any]) -> str:
        """Confirm as the second person; the card is settled."""
        decision = decide_unknown(row, approve=True, actor=signed_in(request))
        return _t("已认定为%(outcome)s") % {"outcome": decision.get_outcome_display()}

    @verb(
        label=_("不同意"),
        permission="production.decide_unknown",
        when=lambda row: row.status == RequestStatus.REQUESTED,
        second_after="requested_by",
        icon="close",
        variant=ActionVariant.DANGER,
    )
    def refuse(self, request: HttpRequest, row: UnknownDecision, cleaned: dict[str, Any]) -> str:
        """Refuse as the second person; the card stays unknown."""
        decide_unknown(row, approve=False, actor=signed_in(request))
        return _t("未予认定，卡片仍为未知")


@register(MachineFile)
class MachineFileAdmin(ScopedAdmin[MachineFile]):
    """Runs of cards prepared and made together."""

    list_display = ("title", "batch_link", "pass_number", "part", "card_count", "state", "seconds")
    list_display_links = ("title",)
    list_select_related = ("batch",)
    list_filter = (("status", ChoicesDropdownFilter), exact_filter("batch", _("批次号"), "batch__number"))
    fields = ("batch_link", "pass_number", "part", "card_count", "state", "digest_text", "seconds")
    state = status_column(RUN_COLOURS)
    batch_link = reference_column("batch", _("批次"))

    @display(description=_("机器文件"))
    def title(self, row: MachineFile) -> str:
        """Name the file by batch, pass and part."""
        return f"{row.batch.number}/{row.pass_number}/{row.part}"

    @display(description=_("SM3 摘要"))
    def digest_text(self, row: MachineFile) -> str:
        """Show the digest in hex."""
        return bytes(row.digest).hex() if row.digest else "-"

    @display(description=_("准备用时（秒/张）"))
    def seconds(self, row: MachineFile) -> str:
        """Show the time of preparation."""
        return "-" if row.seconds_per_card is None else f"{row.seconds_per_card:.3f}"
