"""Links between the pages of the admin, and rows that need more than their own columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from portal.adminkit import link


def reference(row: models.Model | None, text: Any = None) -> SafeString | str:
    """Link a row's page; plain text where the model has none, "-" for no row."""
    if row is None:
        return "-"
    options = row._meta
    try:
        address = reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[row.pk])
    except NoReverseMatch:
        return str(text or row)
    return link(address, text or row)


def listing(model: type[models.Model], text: Any, **query: Any) -> SafeString:
    """Link a model's list with its filters set."""
    options = model._meta
    address = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    return link(f"{address}?{urlencode(query)}", text)


def unbroken(text: Any) -> SafeString:
    """Keep a short text on one line of a narrow list."""
    return format_html('<span class="whitespace-nowrap">{}</span>', text)


def reference_column(path: str, description: Any) -> Callable[[Any, Any], SafeString | str]:
    """Return a column that links the row at the end of `path`, such as "order" or "order__contract"."""

    def column(admin: Any, row: models.Model) -> SafeString | str:
        target: Any = row
        for name in path.split("__"):
            target = getattr(target, name)
        return reference(target)

    column.short_description = description  # type: ignore[attr-defined]
    column.admin_order_field = path  # type: ignore[attr-defined]
    return column


class PageFacts:
    """A list that reads facts about the page's rows together, in a constant number of queries."""

    def learn(self, rows: list[Any]) -> None:
        """Put on each row of a page what its columns show; a list without such columns learns nothing."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Read the page's facts once."""
        page = super().get_changelist_instance(request)  # type: ignore[misc]
        rows = list(page.result_list)
        self.learn(rows)
        page.result_list = rows
        return page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Read the facts of a single row too."""
        row = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        if row is not None:
            self.learn([row])
        return row
