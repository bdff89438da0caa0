"""Filters that never scan: fixed choices, exact texts, organisations the user may see."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from unfold.contrib.filters.admin import DropdownFilter, RangeDateTimeFilter, TextFilter

from portal.models import Organisation, User


def exact_filter(parameter: str, heading: Any, lookup: str | None = None) -> type[TextFilter]:
    """Return a filter with a text box that keeps the rows whose `lookup` equals the text."""

    class ExactFilter(TextFilter):
        title = heading
        parameter_name = parameter

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            """Keep the equal rows."""
            text = (self.value() or "").strip()
            try:
                return queryset.filter(**{lookup or parameter: text}) if text else queryset
            except ValueError:  # letters where the column holds a number
                return queryset.none()

    return ExactFilter


def organisation_filter(
    path: str, kind: str, heading: Any, *, parameter: str | None = None
) -> type[DropdownFilter]:
    """Return a drop-down of the organisations of a kind; people of that kind only see their own anyway."""

    class OrganisationFilter(DropdownFilter):
        title = heading
        parameter_name = parameter or path.replace("__", "_")

        def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
            """List organisations by code."""
            user = cast("User", request.user)
            # Suppliers work for every bank and may filter by it; banks only see themselves.
            if user.organisation is not None and user.organisation.kind == kind:
                return []
            rows = Organisation.objects.filter(kind=kind, is_active=True).order_by("short_name")
            return [(code, name) for code, name in rows.values_list("code", "short_name")]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            """Keep the organisation's rows."""
            return queryset.filter(**{f"{path}__code": self.value()}) if self.value() else queryset

    return OrganisationFilter


class PeriodFilter(RangeDateTimeFilter):
    """A period on the city's clock; unfold's own filter compares with times that have no zone."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows between the two moments, both counted; half a moment is none."""
        for side, lookup in (("from", "gte"), ("to", "lte")):
            moment = self._moment(side)
            if moment is not None:
                queryset = queryset.filter(**{f"{self.parameter_name}__{lookup}": moment})
        return queryset

    def _moment(self, side: str) -> dt.datetime | None:
        day = self.used_parameters.get(f"{self.parameter_name}_{side}_0")
        time = self.used_parameters.get(f"{self.parameter_name}_{side}_1")
        try:
            naive = parse_datetime(f"{day} {time}")
        except ValueError:  # a day that no calendar has
            return None
        return timezone.make_aware(naive) if naive is not None and timezone.is_naive(naive) else naive
