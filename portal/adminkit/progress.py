"""Live progress of the background tasks that work on a row."""

from __future__ import annotations

from typing import Any, TypeVar

from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from portal.adminkit.base import ScopedAdmin
from portal.choices import TaskStatus
from portal.queue import progress

M = TypeVar("M", bound=models.Model)


class ProgressAdmin(ScopedAdmin[M]):
    """Shows above a row how far its tasks are and reloads the page once when the last one is done."""

    change_form_outer_before_template = "admin/portal/progress_panel.html"

    def task_counts(self, row: M) -> dict[str, int]:
        """Return how many of the row's tasks stand in each status; override where tasks work on its parts."""
        return progress(row)

    def get_urls(self) -> list[URLPattern]:
        """Add the address that the panel asks."""
        options = self.model._meta
        view = self.admin_site.admin_view(self.progress_view)
        name = f"{options.app_label}_{options.model_name}_progress"
        return [path("<path:object_id>/progress/", view, name=name), *super().get_urls()]

    def progress_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer the panel; tell the browser to reload when work it saw running has ended."""
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        context = progress_context(self, row)
        response = TemplateResponse(request, "admin/portal/progress.html", context)
        if request.GET.get("running") and not context["running"]:
            response["HX-Refresh"] = "true"
        response["Cache-Control"] = "no-store"
        return response

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Put the present progress on the page."""
        row = self.get_object(request, object_id) if object_id else None
        context = progress_context(self, row) if row is not None else {}
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})


def progress_context(admin: ProgressAdmin[Any], row: models.Model) -> dict[str, Any]:
    """Return what the panel shows: counts, share in percent, and whether work is still running."""
    counts = admin.task_counts(row)
    done, failed = counts.get(TaskStatus.DONE, 0), counts.get(TaskStatus.FAILED, 0)
    queued = counts.get(TaskStatus.QUEUED, 0)
    total = done + failed + queued
    options = row._meta
    return {
        "task_total": total,
        "task_done": done,
        "task_failed": failed,
        "task_share": 100 * done // total if total else 0,
        "running": queued > 0,
        "progress_address": reverse(
            f"admin:{options.app_label}_{options.model_name}_progress", args=[row.pk]
        ),
    }
