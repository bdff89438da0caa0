"""Admin of the organisations."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import display
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from portal.adminkit import (
    EditableAdmin,
    badge,
    register,
    status_column,
)
from portal.models import Organisation


@register(Organisation)
class OrganisationAdmin(EditableAdmin[Organisation]):
    """Who takes part in the programme."""

    list_display = ("short_name", "name", "code", "kind_label", "activity")
    list_filter = (("kind", ChoicesDropdownFilter),)
    search_fields = ("=code", "short_name", "name")
    search_help_text = gettext_lazy("按名称、简称或代码查找")
    fields = ("kind", "code", "name", "short_name", "is_active")
    kind_label = status_column(
        {"purchaser": "info", "supplier": "warning", "bank": "success"},
        field="kind",
        description=gettext_lazy("类别"),
    )

    @display(description=gettext_lazy("启用"))
    def activity(self, row: Organisation) -> Any:
        """Say in words whether the organisation takes part."""
        return badge(_("启用"), "success") if row.is_active else badge(_("停用"))
