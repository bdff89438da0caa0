"""Batches: the list with deadlines and progress, the page with everything about one, and its verbs."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.admin import display
from django.db.models import Count, Q
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter, MultipleChoicesDropdownFilter

from portal.adminkit import ProgressAdmin, exact_filter, organisation_filter, register, signed_in
from portal.adminkit.columns import told_column
from portal.choices import OrganisationKind, TaskStatus
from portal.models import Task
from production.admin import batch_sections as sections
from production.admin.batch_verbs import BatchVerbs
from production.admin.deadlines import deadline_badge, good_bar, learn_progress, state_badge
from production.admin.references import PageFacts, reference_column, unbroken
from production.choices import BatchStatus
from production.models import Batch, Delivery, MachineFile


def _section(draw: Any, description: Any) -> Any:
    def column(admin: Any, row: Batch) -> SafeString:
        shown: SafeString = draw(row)
        return shown

    column.short_description = description  # type: ignore[attr-defined]
    return column


def _without(fields: tuple[Any, ...], hidden: frozenset[str] | set[str]) -> tuple[Any, ...]:
    """Leave names out of a fieldset's rows."""
    rows = (
        tuple(name for name in row if name not in hidden) if isinstance(row, tuple) else row for row in fields
    )
    return tuple(row for row in rows if row and row not in hidden)


@register(Batch)
class BatchAdmin(PageFacts, BatchVerbs, ProgressAdmin[Batch]):
    """What is made together."""

    list_display = (
        "number",
        "bank",
        "kind",
        "quantity",
        "due",
        "light",
        "state",
        "pass_number",
        "made",
    )
    list_select_related = ("order__bank", "order__contract__supplier")
    list_filter = (
        ("status", MultipleChoicesDropdownFilter),
        ("card_kind", ChoicesDropdownFilter),
        organisation_filter("order__bank", OrganisationKind.BANK, _("银行"), parameter="bank"),
        organisation_filter(
            "order__contract__supplier", OrganisationKind.SUPPLIER, _("中标人"), parameter="supplier"
        ),
        exact_filter("number", _("批次号")),
        exact_filter("order", _("订单号"), "order__number"),
    )
    fieldsets: ClassVar[tuple[Any, ...]] = (
        (
            None,
            {
                "fields": (
                    ("order_link", "state"),
                    ("bank", "light"),
                    ("supplier", "due"),
                    ("kind", "quantity"),
                    ("pass_number", "made"),
                    ("sort_order", "carton_size"),
                    "held_text",
                )
            },
        ),
        (_("工作日程与白卡"), {"fields": ("plans", "blanks")}),
        (_("制作"), {"fields": ("positions", "outcomes", "runs")}),
        (_("交付与归档"), {"fields": ("deliveries", "papers", "milestones")}),
    )
    actions_list = ("split",)
    actions_detail: ClassVar[tuple[str, ...]] = (
        "propose", "withdraw", "prepare", "run", "remake", "close", "pack", "dispatch", "send_return",
        "destroy",
    )  # fmt: skip

    # What the system counted: hidden from those who are about to count by hand.
    COUNTED_FIELDS: ClassVar[frozenset[str]] = frozenset({"made", "positions", "outcomes", "blanks"})

    order_link = reference_column("order", _("订单"))
    held_text = told_column("held_reason", _("冻结原因"))
    plans = _section(sections.plans, _("工作日程"))
    blanks = _section(sections.blanks, _("白卡"))
    positions = _section(sections.positions, _("明细"))
    outcomes = _section(sections.outcomes, _("卡片"))
    runs = _section(sections.runs, _("机器文件"))
    deliveries = _section(sections.deliveries, _("交付"))
    papers = _section(sections.papers, _("归档文件"))
    milestones = _section(sections.milestones, _("经过"))
    light = _section(deadline_badge, _("剩余时间"))
    state = _section(state_badge, _("状态"))
    made = _section(good_bar, _("良品进度"))

    def learn(self, rows: list[Any]) -> None:
        """Read deadlines and good cards of the page."""
        learn_progress(rows)

    @display(description=_("银行"))
    def bank(self, row: Batch) -> SafeString:
        """Show whose cards they are."""
        return unbroken(row.order.bank)

    @display(description=_("卡种"))
    def kind(self, row: Batch) -> SafeString:
        """Show the card kind."""
        return unbroken(row.get_card_kind_display())

    @display(description=_("交付期限"))
    def due(self, row: Batch) -> SafeString:
        """Show the deadline."""
        return unbroken(date_format(row.due_on))

    @display(description=_("中标人"))
    def supplier(self, row: Batch) -> str:
        """Show who makes them."""
        return str(row.order.contract.supplier)

    def get_fieldsets(self, request: HttpRequest, obj: Batch | None = None) -> Any:
        """Hide counts from those who are about to count blind (R-21), and the hold where there is none."""
        hidden = set() if obj is None or obj.held_reason else {"held_text"}
        if (
            obj is not None
            and obj.status == BatchStatus.INSPECTED
            and signed_in(request).has_perm("production.close_batch")
        ):
            hidden |= self.COUNTED_FIELDS
        return [
            (title, {**options, "fields": _without(options["fields"], hidden)})
            for title, options in self.fieldsets
        ]

    def task_counts(self, row: Batch) -> dict[str, int]:
        """Count the tasks of the step that is running or has failed; nothing once all are done."""
        runs = MachineFile.objects.filter(batch=row, pass_number=row.pass_number).values("pk")
        subjects = (
            Q(subject_type="production.batch", subject_id=row.pk)
            | Q(subject_type="production.machinefile", subject_id__in=runs)
            | Q(
                subject_type="production.delivery",
                subject_id__in=Delivery.objects.filter(batch=row).values("pk"),
            )
        )
        found: Any = (
            Task.objects.filter(subjects)
            .values_list("handler", "status")
            .annotate(count=Count("id"))
            .order_by()
        )
        counted = list(found)
        open_steps = {handler for handler, status, _count in counted if status != TaskStatus.DONE}
        counts: dict[str, int] = {}
        for handler, status, count in counted:
            if handler in open_steps:
                counts[status] = counts.get(status, 0) + count
        return counts
