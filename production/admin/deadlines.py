"""How a batch stands: its state in colour, whether it is held, its deadline's light and how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Count
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import ngettext

from orders.selectors.orders import Progress, progress
from portal.adminkit import badge, bar, grouped, light_badge
from portal.adminkit.columns import Colour
from production.choices import BatchStatus, Outcome
from production.models import Batch, Card

S = BatchStatus
COLOURS: Mapping[str, Colour] = {
    S.PLANNED: "warning", S.APPROVED: "info", S.RELEASED: "info", S.PREPARING: "info", S.PREPARED: "info",
    S.RUNNING: "info", S.INSPECTING: "info", S.INSPECTED: "warning", S.CLOSED: "info", S.PACKED: "info",
    S.DISPATCHED: "info", S.SIGNED: "success", S.DESTROYED: "", S.CANCELLED: "",
}  # fmt: skip
ENDED = frozenset({S.SIGNED, S.DESTROYED, S.CANCELLED})


def learn_progress(batches: Iterable[Batch]) -> None:
    """Put `deadline` and `good_count` on each batch of a page; two queries and the calendar."""
    page = list(batches)
    stands = progress(batch.order for batch in page)
    good: dict[int, int] = dict(
        Card.objects.filter(batch__in=[batch.pk for batch in page], outcome=Outcome.GOOD)
        .values_list("batch_id")
        .annotate(count=Count("id"))
        .order_by()
    )
    for batch in page:
        row: Any = batch
        row.deadline, row.good_count = stands[batch.order_id], good.get(batch.pk, 0)


def state_badge(batch: Batch) -> SafeString:
    """Return the status in its colour, with the hold beside it."""
    state = badge(batch.get_status_display(), COLOURS[BatchStatus(batch.status)])
    return format_html("{} {}", state, badge(_t("冻结"), "danger", "lock")) if batch.held_reason else state


def deadline_badge(batch: Batch) -> SafeString:
    """Return the working days left in the light's colour (R-10)."""
    stands: Progress = batch.deadline  # type: ignore[attr-defined]
    if batch.status in ENDED:
        return light_badge("done", batch.get_status_display())
    return light_badge(stands.light, days_text(stands.days_left))


def days_text(days: int) -> str:
    """Say how many working days are left, or by how many the deadline has passed."""
    if days > 0:
        return ngettext("剩 %(days)s 个工作日", "剩 %(days)s 个工作日", days) % {"days": days}
    return _t("今日到期") if days == 0 else _t("逾期 %(days)s 个工作日") % {"days": -days}


def good_bar(batch: Batch) -> SafeString:
    """Return how many of the batch's cards are good."""
    good: int = batch.good_count  # type: ignore[attr-defined]
    colour: Colour = "danger" if batch.held_reason else "success" if good == batch.quantity else ""
    return bar(good, batch.quantity, f"{grouped(good)} / {grouped(batch.quantity)}", colour)
