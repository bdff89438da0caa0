"""Lists of millions of rows, newest first: each page starts behind the last row of the one before (P6)."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import TextFilter

BEFORE = "before"


class KeysetPaginator(Paginator):
    """Show one page and where the next begins; how many rows there are is never asked.

    The queryset must be ordered by its primary key, descending.
    """

    template_name = "admin/portal/keyset_pagination.html"

    @property
    def count(self) -> int:
        """Return the number of rows, up to one more than a page holds."""
        return len(self._keys)

    @property
    def older(self) -> Any:
        """Return the key that the next page stays below, None on the last page."""
        return self._keys[self.per_page - 1] if len(self._keys) > self.per_page else None

    @property
    def num_pages(self) -> int:
        """Return 1: other pages have addresses of their own."""
        return 1

    @property
    def _keys(self) -> list[Any]:
        if not hasattr(self, "_found"):
            rows: Any = self.object_list
            self._found = list(rows.values_list("pk", flat=True)[: self.per_page + 1])
        return self._found


class BeforeFilter(TextFilter):
    """A text box that starts the list below a key: for the next page, and to jump."""

    title = _("序号小于")
    parameter_name = BEFORE

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows below the key."""
        text = (self.value() or "").strip()
        if not text:
            return queryset
        return queryset.filter(pk__lt=int(text)) if text.isdecimal() else queryset.none()
