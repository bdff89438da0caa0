"""Stations with their heartbeat."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.admin import display
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from portal.adminkit import EditableAdmin, badge, organisation_filter, register
from portal.choices import OrganisationKind
from stations.models import Station

ALIVE = timedelta(seconds=90)


@register(Station)
class StationAdmin(EditableAdmin[Station]):
    """Where single cards are made."""

    list_display = ("code", "name", "place", "operator", "heartbeat", "reader", "printer", "agent_version")
    list_select_related = ("operator",)
    list_filter = (
        "is_active",
        organisation_filter("operator", OrganisationKind.SUPPLIER, _("运营单位")),
    )
    fieldsets = (
        (None, {"fields": ("code", "name", "place", "operator", "is_active")}),
        (_("状态"), {"fields": ("heartbeat", "last_seen_at", "reader", "printer", "agent_version")}),
    )
    readonly_fields = ("heartbeat", "last_seen_at", "reader", "printer", "agent_version")

    @display(description=_("心跳"))
    def heartbeat(self, row: Station) -> SafeString:
        """Show whether the station's agent reports."""
        if not row.is_active:
            return badge(_t("停用"))
        if row.last_seen_at is None:
            return badge(_t("从未连接"), "warning", "link_off")
        if timezone.now() - row.last_seen_at <= ALIVE:
            return badge(_t("在线"), "success", "wifi")
        return badge(_t("离线"), "danger", "wifi_off")

    @display(description=_("读写器"))
    def reader(self, row: Station) -> Any:
        """Show the reader's last report."""
        return row.reader_state or "-"

    @display(description=_("打印机"))
    def printer(self, row: Station) -> Any:
        """Show the printer's last report."""
        return row.printer_state or "-"
