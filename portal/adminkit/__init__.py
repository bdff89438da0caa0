"""What every admin of the portal shares: scoped rows, read-only columns and verbs that call services."""

from portal.adminkit.base import EditableAdmin, ScopedAdmin, register
from portal.adminkit.columns import badge, bar, days_text, grouped, light_badge, link, status_column, table
from portal.adminkit.downloads import attachment, safe_name, written
from portal.adminkit.filters import exact_filter, organisation_filter
from portal.adminkit.progress import ProgressAdmin
from portal.adminkit.requests import signed_in
from portal.adminkit.verbs import VerbForm, in_status, result_page, verb

__all__ = [
    "EditableAdmin",
    "ProgressAdmin",
    "ScopedAdmin",
    "VerbForm",
    "attachment",
    "badge",
    "bar",
    "days_text",
    "exact_filter",
    "grouped",
    "in_status",
    "light_badge",
    "link",
    "organisation_filter",
    "register",
    "result_page",
    "safe_name",
    "signed_in",
    "status_column",
    "table",
    "verb",
    "written",
]
