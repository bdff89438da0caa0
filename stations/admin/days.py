"""The count at the end of a station's day: blind, before any figure is shown (R-21)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.formats import date_format
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant

from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    exact_filter,
    register,
    result_page,
    signed_in,
    table,
    verb,
    written,
)
from portal.texts import told
from stations.models import Station, StationDay
from stations.services.blanks import MOST_AT_ONCE, close_day
from stations.services.journal import COLUMNS, export_journal, journal


class CountForm(VerbForm):
    """What was counted in the drawer; nothing here says what it should be."""

    station = forms.ModelChoiceField(Station.objects.none(), label=_("制卡点"))
    counted = forms.IntegerField(
        label=_("抽屉中未使用的白卡张数"),
        min_value=0,
        max_value=100 * MOST_AT_ONCE,
        widget=forms.NumberInput(attrs={"autocomplete": "off"}),
    )

    def prepare(self) -> None:
        """Offer the user's own stations."""
        rows = Station.objects.visible_to(signed_in(self.request)).filter(is_active=True)
        field: Any = self.fields["station"]
        field.queryset = rows
        if len(rows) == 1:
            field.initial = rows[0]


@register(StationDay)
class StationDayAdmin(ScopedAdmin[StationDay]):
    """Days that were counted, with the ledger's figures."""

    list_display = (
        "title", "station", "opening", "received", "returned", "good", "rejected", "unknown", "closing",
        "counted_by",
    )  # fmt: skip
    list_display_links = ("title",)
    list_select_related = ("station", "counted_by")
    list_filter = (exact_filter("station", _("制卡点代码"), "station__code"),)
    fields = (
        "station", "on", "opening", "received", "returned", "good", "rejected", "unknown", "closing",
        "counted_by", "closed_at",
    )  # fmt: skip
    actions_list = ("count",)
    actions_detail = ("show_journal", "download_journal")

    @display(description=_("日期"), ordering="on")
    def title(self, row: StationDay) -> str:
        """Name the day."""
        return date_format(row.on)

    @verb(
        label=_("盲点日结"),
        permission="stations.close_day",
        form=CountForm,
        icon="fact_check",
        variant=ActionVariant.PRIMARY,
        help_text=_("先清点抽屉中未使用的白卡，再填写张数。系统不显示账面数；不符时请重新清点。"),
    )
    def count(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Close the day by a blind count."""
        day = close_day(cleaned["station"], counted=cleaned["counted"], actor=signed_in(request))
        return _t("%(day)s 已日结，数量相符") % {"day": date_format(day.on)}

    @verb(label=_("制卡日志"), permission="stations.view_issuance", icon="list_alt")
    def show_journal(self, request: HttpRequest, row: StationDay, cleaned: dict[str, Any]) -> HttpResponse:
        """Show the day's journal."""
        lines = journal(row.station, row.on, actor=signed_in(request))
        body = table([told(column.label) for column in COLUMNS], lines, empty=_t("当天没有制卡"))
        title = _t("%(day)s 制卡日志，共 %(count)s 张") % {"day": date_format(row.on), "count": len(lines)}
        return result_page(self, request, row, title=title, body=body)

    @verb(label=_("下载制卡日志"), permission="stations.view_issuance", icon="download", download=True)
    def download_journal(
        self, request: HttpRequest, row: StationDay, cleaned: dict[str, Any]
    ) -> HttpResponseBase:
        """Send the day's journal as Excel."""
        actor, name = signed_in(request), f"制卡日志-{row.station.code}-{row.on:%Y%m%d}.xlsx"
        return written(name, lambda file: export_journal(row.station, row.on, file, actor=actor))
