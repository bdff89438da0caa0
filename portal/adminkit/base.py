"""Admin classes that show only what the user's organisation may see and change nothing by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection, models
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.dataclasses import UnfoldAction

from portal.models import User

M = TypeVar("M", bound=models.Model)
EXACT_COUNT_LIMIT = 10_000


class CappedPaginator(Paginator[Any]):
    """Count at most EXACT_COUNT_LIMIT rows exactly; beyond it ask the planner, never the whole table (P6)."""

    @property
    def count(self) -> int:
        """Return the number of rows, estimated where it is large."""
        if not hasattr(self, "_count"):
            self._count = self._capped()
        return self._count

    def _capped(self) -> int:
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        # An inner LIMIT stops the scan; the outer count is then small whatever the table holds.
        capped = rows.order_by()[: EXACT_COUNT_LIMIT + 1].count()
        return capped if capped <= EXACT_COUNT_LIMIT else max(capped, _estimated(rows))


def _estimated(rows: QuerySet[Any]) -> int:
    sql, params = rows.order_by().query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
        return int(cursor.fetchone()[0][0]["Plan"]["Plan Rows"])


class ScopedAdmin(ModelAdmin[M]):
    """Rows through `visible_to`, permissions through roles, all columns read-only; work is done by verbs."""

    show_full_result_count = False
    paginator = CappedPaginator
    list_per_page = 50
    list_filter_submit = True
    compressed_fields = True
    warn_unsaved_form = True
    list_select_related: Any = True
    hidden_fields: Sequence[str] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        """Start from what the user may see (D12)."""
        rows = super().get_queryset(request)
        if hasattr(rows, "visible_to"):
            return cast("QuerySet[M]", rows.visible_to(cast("User", request.user)))
        return rows

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nothing is added but by a verb."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Nothing is changed but by a verb."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Nothing is deleted in the admin."""
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer no bulk actions."""
        return {}

    def get_fields(self, request: HttpRequest, obj: M | None = None) -> Sequence[Any]:
        """Show every column but sealed, indexed and internal ones."""
        if self.fields:
            return self.fields
        hidden = (models.BinaryField,)
        return [
            field.name
            for field in self.model._meta.fields
            if not isinstance(field, hidden)
            and field.name not in {"id", *self.hidden_fields}
            and field.editable
        ] + [name for name in self.readonly_fields if isinstance(name, str)]

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        """Offer the verbs that the user may use and the row's state allows."""
        row = self.get_object(request, str(object_id)) if object_id else None
        return [
            action
            for action in super().get_actions_detail(request, object_id)
            if row is None or _offered(action, row)
        ]


def _offered(action: UnfoldAction, row: models.Model) -> bool:
    when: Callable[[Any], bool] | None = getattr(action.method, "when", None)
    return when is None or when(row)


class EditableAdmin(ScopedAdmin[M]):
    """An admin whose simple rows may be added and changed by those whose role says so; audited on save."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Follow the role."""
        options = self.model._meta
        return cast("User", request.user).has_perm(f"{options.app_label}.add_{options.model_name}")

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Follow the role."""
        options = self.model._meta
        return cast("User", request.user).has_perm(f"{options.app_label}.change_{options.model_name}")


def register(model: type[M]) -> Callable[[type[ScopedAdmin[M]]], type[ScopedAdmin[M]]]:
    """Register an admin class for a model on the portal's site."""
    return admin.register(model)
