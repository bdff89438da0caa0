"""Columns of lists and detail pages that say more than plain text: coloured states, bars, links, tables.

Their looks stand in portal/static/portal/admin.css.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from django.db import models
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from portal.texts import told

Colour = Literal["", "info", "success", "warning", "danger"]
# Colour and icon of an order's light.
LIGHTS: Mapping[str, tuple[Colour, str]] = {
    "green": ("success", "schedule"),
    "amber": ("warning", "warning"),
    "red": ("danger", "error"),
    "done": ("", "check_circle"),
}
Column = Callable[[Any, Any], SafeString]


def badge(text: Any, colour: Colour = "", icon: str = "") -> SafeString:
    """Return a small coloured label; the icon repeats what the colour says for those who do not see it."""
    picture = (
        format_html('<span class="material-symbols-outlined" aria-hidden="true">{}</span>', icon)
        if icon
        else ""
    )
    return format_html('<span class="pk-badge pk-{}">{}{}</span>', colour or "plain", picture, text)


def status_column(
    colours: Mapping[str, Colour], *, field: str = "status", description: Any = None, empty: str = "-"
) -> Column:
    """Return a column that shows a field's choice as a coloured label; `colours` maps the stored value.

    A class attribute of an admin: `state = status_column({...})`; then name "state" in `list_display`.
    """

    def column(admin: Any, row: models.Model) -> SafeString:
        value = getattr(row, field)
        text = getattr(row, f"get_{field}_display")()
        return badge(text, colours.get(str(value), "")) if value else SafeString(empty)

    column.short_description = description or _("状态")  # type: ignore[attr-defined]
    column.admin_order_field = field  # type: ignore[attr-defined]
    return column


def told_column(field: str, description: Any) -> Column:
    """Return a column that shows a kept text of ours, such as a reason, in the reader's language."""

    def column(admin: Any, row: models.Model) -> SafeString:
        return format_html("{}", told(getattr(row, field)) or "-")

    column.short_description = description  # type: ignore[attr-defined]
    column.admin_order_field = field  # type: ignore[attr-defined]
    return column


def light_badge(light: str, text: Any) -> SafeString:
    """Return a label in the colour of an order's light: green, amber, red or done (R-10)."""
    colour, icon = LIGHTS[light]
    return badge(text, colour, icon)


def days_text(days: int) -> str:
    """Say how many days are left until a deadline, or how many have passed since."""
    if days < 0:
        return ngettext("逾期 %(days)s 天", "逾期 %(days)s 天", -days) % {"days": -days}
    if days == 0:
        return str(_("今日到期"))
    return ngettext("%(days)s 天", "%(days)s 天", days) % {"days": days}


def bar(part: Any, whole: Any, text: Any = "", colour: Colour = "") -> SafeString:
    """Return a bar that shows `part` of `whole`, with its share in words for screen readers."""
    share = max(0.0, min(100.0, 100.0 * float(part) / float(whole))) if whole else 0.0
    return format_html(
        '<div class="pk-bar pk-{}"><progress max="100" value="{}" aria-label="{}"></progress>'
        "<span>{}</span></div>",
        colour or "plain",
        f"{share:.1f}",
        f"{share:.1f}%",
        text or f"{share:.1f}%",
    )


def grouped(value: Any) -> str:
    """Return a number with separators, "-" where there is none."""
    return "-" if value is None else number_format(value, force_grouping=True)


def link(address: str, text: Any) -> SafeString:
    """Return a link that looks like one."""
    return format_html('<a class="pk-link" href="{}">{}</a>', address, text)


def table(headers: Iterable[Any], rows: Sequence[Sequence[Any]], *, empty: Any = "") -> SafeString:
    """Return a plain table for a detail page, or `empty` where it has no rows."""
    if not rows:
        return format_html('<p class="pk-empty">{}</p>', empty or _("无"))
    head = format_html_join("", '<th scope="col">{}</th>', ((header,) for header in headers))
    lines = (format_html_join("", "<td>{}</td>", ((cell,) for cell in row)) for row in rows)
    body = format_html_join("", "<tr>{}</tr>", ((line,) for line in lines))
    return format_html(
        '<div class="pk-table"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>', head, body
    )
