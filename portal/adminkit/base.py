"""Admin classes that show only what the user's organisation may see and change nothing by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.contrib import admin, messages
from django.contrib.admin.checks import ModelAdminChecks
from django.contrib.admin.utils import flatten_fieldsets
from django.core import checks
from django.core.exceptions import FieldDoesNotExist, PermissionDenied
from django.core.paginator import Paginator
from django.db import connection, models
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.admin import ModelAdmin
from unfold.dataclasses import UnfoldAction

from portal.core.errors import PermissionRefusedError, PortalError
from portal.models import User
from portal.roles import PERMISSIONS
from portal.services.master_rows import save_row
from portal.texts import described, told

M = TypeVar("M", bound=models.Model)
EXACT_COUNT_LIMIT = 10_000


if TYPE_CHECKING:
    from unfold.admin import ModelAdmin as UnfoldAdmin
else:

    class UnfoldAdmin(ModelAdmin):
        """unfold's admin, which Python cannot subscript at run time although its type stubs are generic."""

        def __class_getitem__(cls, item: object) -> type:
            return cls


class CappedPaginator(Paginator):
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


class VerbChecks(ModelAdminChecks):
    """Check verbs against the roles table; unfold would ask a database that is not there yet."""

    def check(self, admin_obj: Any, **kwargs: Any) -> list[checks.CheckMessage]:
        """Add an error for each verb whose permission no role carries."""
        known = frozenset().union(*PERMISSIONS.values())
        verbs = [*admin_obj._get_base_actions_list(), *admin_obj._get_base_actions_detail()]  # noqa: SLF001
        return [
            *super().check(admin_obj, **kwargs),
            *(
                checks.Error(
                    f"{verb.action_name}: no role has {permission}", obj=type(admin_obj), id="portal.E001"
                )
                for verb in verbs
                for permission in getattr(verb.method, "allowed_permissions", ())
                if permission not in known
            ),
        ]


class ScopedAdmin(UnfoldAdmin[M]):
    """Rows through `visible_to`, permissions through roles, all columns read-only; work is done by verbs."""

    checks_class = VerbChecks
    show_full_result_count = False
    paginator: type[Paginator] = CappedPaginator
    list_per_page = 50
    list_filter_submit = True
    compressed_fields = True
    warn_unsaved_form = True
    list_select_related: Any = True
    sortable_by: (
        Sequence[str] | None
    ) = ()  # sorting a big table by a chance column would scan it; None allows it
    hidden_fields: Sequence[str] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        """Start from what the user may see (D12)."""
        rows = super().get_queryset(request)
        if hasattr(rows, "visible_to"):
            return cast("QuerySet[M]", rows.visible_to(cast("User", request.user)))
        return rows

    def _get_obj_does_not_exist_redirect(
        self, request: HttpRequest, opts: Any, object_id: str
    ) -> HttpResponse:
        """Answer 404 for a row that is not there or not the user's; Django would redirect with a message."""
        raise Http404

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Refuse before the row is looked for, so that nobody learns which rows there are."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return super().history_view(request, object_id, extra_context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Refuse before the row is looked for: nothing is deleted in the admin."""
        raise PermissionDenied

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Refuse the page of a row before the row is looked for."""
        if object_id is not None and not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return super().changeform_view(request, object_id, form_url, extra_context)

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
        shown = [field.name for field in self.model._meta.fields if not _is_internal(field)]
        return [name for name in shown if name not in self.hidden_fields] + [
            name for name in self.readonly_fields if isinstance(name, str) and name not in shown
        ]

    def get_fieldsets(self, request: HttpRequest, obj: M | None = None) -> Any:
        """Show rows of models the user may not open as plain text: a link there would only be refused."""
        return [
            (title, {**options, "fields": [self._shown(name, request) for name in options["fields"]]})
            for title, options in super().get_fieldsets(request, obj)
        ]

    def _shown(self, name: Any, request: HttpRequest) -> Any:
        if isinstance(name, (tuple, list)):  # several on one line
            return tuple(self._shown(each, request) for each in name)
        if not isinstance(name, str) or (self._is_editable(name) and self._may_edit(request, name)):
            return name
        try:
            field = self.model._meta.get_field(name)
        except FieldDoesNotExist:
            return name
        remote: Any = field.related_model if field.many_to_one or field.one_to_one else None
        if remote is None or request.user.has_perm(
            f"{remote._meta.app_label}.view_{remote._meta.model_name}"
        ):
            return name
        return _plain(field)

    def _may_edit(self, request: HttpRequest, name: str) -> bool:
        allowed = self.has_change_permission(request) or self.has_add_permission(request)
        return allowed and name not in self.readonly_fields

    def get_readonly_fields(self, request: HttpRequest, obj: M | None = None) -> Sequence[Any]:
        """Add what cannot be edited: methods of the admin and columns the database or the services fill."""
        names = flatten_fieldsets(self.get_fieldsets(request, obj))
        return [*self.readonly_fields, *(name for name in names if not self._is_editable(name))]

    def _is_editable(self, name: Any) -> bool:
        if not isinstance(name, str):
            return False
        try:
            return bool(getattr(self.model._meta.get_field(name), "editable", False))
        except FieldDoesNotExist:
            return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Let addresses filter by what the list offers only, never by a sealed or indexed column."""
        name = lookup.split("__", maxsplit=1)[0]
        offered = {
            item[0] if isinstance(item, (list, tuple)) else item for item in self.get_list_filter(request)
        }
        parameters = {getattr(item, "parameter_name", "") for item in offered}
        columns = {field.name for field in self.model._meta.get_fields()}
        return lookup in parameters or name in offered or name not in columns

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """Leave Django's own log empty: the audit is the record."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> None:
        """Leave Django's own log empty: the audit is the record."""

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        """Offer the verbs that the user may use and the row's state allows."""
        row = self.get_object(request, str(object_id)) if object_id else None
        return [
            action
            for action in super().get_actions_detail(request, object_id)
            if row is None or _offered(action, row, cast("User", request.user))
        ]


def _offered(action: UnfoldAction, row: models.Model, user: User) -> bool:
    when: Callable[[Any], bool] | None = getattr(action.method, "when", None)
    first_person = getattr(action.method, "second_after", "")
    if first_person and getattr(row, f"{first_person}_id") == user.pk:
        return False
    return when is None or when(row)


@cache
def _plain(field: Any) -> Callable[[Any], str]:
    """Return a column that names the related row without linking to it; always the same one for a field."""

    def column(row: Any) -> str:
        related = getattr(row, field.name)
        return "-" if related is None else str(related)

    column.__name__ = field.name
    column.short_description = field.verbose_name  # type: ignore[attr-defined]
    return column


def _is_internal(field: models.Field[Any, Any]) -> bool:
    """Tell columns for programs from columns for people: those have a name people read."""
    unnamed = str(field.verbose_name) == field.name.replace("_", " ")
    return field.primary_key or isinstance(field, models.BinaryField) or unnamed


class EditableAdmin(ScopedAdmin[M]):
    """An admin whose simple rows may be added and changed by those whose role says so; audited on save."""

    def save_model(self, request: HttpRequest, obj: M, form: Any, change: bool) -> None:
        """Save through the service that checks the role, the row's organisation and writes the audit."""
        save_row(obj, changed=form.changed_data, actor=cast("User", request.user))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show what a service refuses as a message on the page it was asked from."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except PermissionRefusedError as exc:
            raise PermissionDenied(told(exc.message)) from exc
        except PortalError as exc:
            messages.error(request, described(exc))
            return redirect(request.get_full_path())

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer only rows that the user may see."""
        rows = db_field.remote_field.model._default_manager.all()
        if "queryset" not in kwargs and hasattr(rows, "visible_to"):
            kwargs["queryset"] = rows.visible_to(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

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
