"""Every try to make a card, with its steps and times against the tender's limits (R-24)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib.admin import display
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from portal.adminkit import ScopedAdmin, badge, exact_filter, grouped, link, register, status_column, table
from portal.adminkit.columns import Colour, told_column
from production.admin.references import reference, reference_column
from stations.choices import StepStatus
from stations.models import Issuance, IssuanceStep
from stations.selectors import limit_of, parts_of

COLOURS: Mapping[str, Colour] = {
    "queued": "info", "running": "info", "printing": "info", "awaiting_look": "warning", "made": "success",
    "good": "success",
    "rejected": "danger", "unknown": "warning", "resolving": "info", "cancelled": "",
}  # fmt: skip
STEP_COLOURS: Mapping[str, Colour] = {"running": "info", "done": "success", "failed": "danger"}


@register(Issuance)
class IssuanceAdmin(ScopedAdmin[Issuance]):
    """Issuances; they are worked on at the counter's page."""

    list_display = (
        "title", "station", "state", "reason_words", "operator", "requested_at", "seconds", "print_state",
    )  # fmt: skip
    list_display_links = ("title",)
    list_select_related = ("station", "card", "operator")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        exact_filter("station", _("制卡点代码"), "station__code"),
        exact_filter("serial", _("芯片序列号"), "card__serial"),
        exact_filter("reason", _("原因代码")),
    )
    fieldsets: ClassVar[tuple[Any, ...]] = (
        (
            None,
            {"fields": ("card_link", "station", "batch_link", "operator", "state", "reason", "reason_words")},
        ),
        (
            _("打印"),
            {"fields": ("prints_front", "print_state", "print_job", "print_words")},
        ),
        (
            _("步骤与用时"),
            {"fields": ("step_table", "share_table", "requested_at", "ended_at", "counter_link")},
        ),
    )
    state = status_column(COLOURS)
    reason_words = told_column("reason_text", _("说明"))
    print_words = told_column("print_text", _("打印机信息"))
    card_link = reference_column("card", _("卡片"))
    batch_link = reference_column("batch", _("批次"))

    @display(description=_("芯片序列号"))
    def title(self, row: Issuance) -> str:
        """Name the try by its blank."""
        return row.card.serial

    @display(description=_("写卡用时（秒）"))
    def seconds(self, row: Issuance) -> str:
        """Show how long writing and reading back took."""
        return "-" if row.total_milliseconds is None else f"{row.total_milliseconds / 1000:.2f}"

    @display(description=_("步骤"))
    def step_table(self, row: Issuance) -> SafeString:
        """List the steps with times, limits and what failed."""
        rows = [
            (
                step.get_kind_display(),
                badge(step.get_status_display(), STEP_COLOURS[step.status]),
                _took(step.milliseconds),
                _against(step),
                grouped(step.command_count) if step.command_count else "-",
                " ".join(filter(None, (step.code, step.text))) or "-",
            )
            for step in row.steps.all()
        ]
        headers = [_t("步骤"), _t("状态"), _t("用时（秒）"), _t("招标要求"), _t("指令数"), _t("说明")]
        return table(headers, rows)

    @display(description=_("写卡用时构成"))
    def share_table(self, row: Issuance) -> SafeString:
        """Show where the time of writing went."""
        rows = [
            (part.label, _took(part.milliseconds), _within(part.milliseconds, part.limit), part.note or "-")
            for part in parts_of(row)
        ]
        return table([_t("部分"), _t("用时（秒）"), _t("招标要求"), _t("说明")], rows)

    @display(description=_("办理页面"))
    def counter_link(self, row: Issuance) -> SafeString | str:
        """Lead to where the card is worked on; a batch's card is on the page of its run."""
        if row.feeder_run is not None:
            return reference(row.feeder_run, _t("送卡制作"))
        return link(reverse("counter-issuance", args=[row.pk]), _t("打开"))


def _took(milliseconds: int | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds / 1000:.2f}"


def _against(step: IssuanceStep) -> SafeString | str:
    """Say in words and colour whether a step kept the tender's limit."""
    return _within(step.milliseconds if step.status == StepStatus.DONE else None, limit_of(step))


def _within(milliseconds: int | None, limit: int | None) -> SafeString | str:
    """Say whether a time kept the tender's limit, both in milliseconds."""
    if limit is None or milliseconds is None:
        return "-"
    kept = milliseconds <= limit
    words = _t("符合") if kept else _t("超出")
    colour: Colour = "success" if kept else "danger"
    return format_html("{} ≤ {}", badge(words, colour, "check" if kept else "close"), _took(limit))
