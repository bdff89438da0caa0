"""The calendar of working days: which days differ from the ordinary week (R-10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.contrib.admin import display
from django.db.models import Case, IntegerField, Value, When
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.enums import ActionVariant

from orders.models import WorkCalendarDay
from orders.services.calendar import edit_day
from portal.adminkit import ScopedAdmin, VerbForm, badge, register, verb
from portal.core.clock import today
from portal.models import User
from portal.texts import told

WEEKDAYS = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")


class DayForm(VerbForm):
    """A day and whether people work on it."""

    date = forms.DateField(label=gettext_lazy("日期"))
    name = forms.CharField(
        label=gettext_lazy("名称"), max_length=60, help_text=gettext_lazy("如：国庆节、调休上班")
    )
    is_workday = forms.BooleanField(label=gettext_lazy("上班"), required=False)
    is_provisional = forms.BooleanField(
        label=gettext_lazy("待国务院公布"),
        required=False,
        help_text=gettext_lazy("次年安排尚未公布时先按法定节假日登记"),
    )

    def prepare(self) -> None:
        """Start from the day the form was opened on."""
        if isinstance(self.row, WorkCalendarDay):
            for name in ("date", "name", "is_workday", "is_provisional"):
                self.fields[name].initial = getattr(self.row, name)
            self.fields["date"].disabled = True


@register(WorkCalendarDay)
class WorkCalendarAdmin(ScopedAdmin[WorkCalendarDay]):
    """Holidays and weekend days worked instead."""

    list_display = ("day", "weekday", "kind", "name", "certainty", "edited_by")
    list_display_links = ("day",)
    list_filter = (("date", RangeDateFilter), "is_workday", "is_provisional")
    list_select_related = ("edited_by",)
    list_per_page = 100
    actions_list = ("add_day",)
    actions_detail = ("change_day",)
    fields = ("day", "weekday", "kind", "name", "certainty", "edited_by")

    def get_ordering(self, request: HttpRequest) -> Sequence[Any]:
        """Begin with today and what comes next; what is past follows."""
        past = Case(When(date__lt=today(), then=Value(1)), default=Value(0), output_field=IntegerField())
        return (past.asc(), "date")

    @display(description=gettext_lazy("日期"))
    def day(self, row: WorkCalendarDay) -> str:
        """Show the day as a sortable date."""
        return f"{row.date:%Y-%m-%d}"

    @display(description=gettext_lazy("星期"))
    def weekday(self, row: WorkCalendarDay) -> str:
        """Name the weekday."""
        return told(WEEKDAYS[row.date.weekday()])

    @display(description=gettext_lazy("上班"))
    def kind(self, row: WorkCalendarDay) -> Any:
        """Tell a working day from a holiday."""
        return (
            badge(_("上班"), "warning", "work") if row.is_workday else badge(_("休息"), "success", "weekend")
        )

    @display(description=gettext_lazy("安排"))
    def certainty(self, row: WorkCalendarDay) -> Any:
        """Say whether the State Council has published it."""
        return badge(_("待公布"), "info") if row.is_provisional else _("已公布")

    @verb(
        label=gettext_lazy("登记日期"),
        permission="orders.edit_calendar",
        form=DayForm,
        icon="edit_calendar",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy("保存后，未完成订单的交付期限随之重新计算并记入审计。"),
    )
    def add_day(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Enter a day."""
        return _edited(request, cleaned)

    @verb(
        label=gettext_lazy("修改"),
        permission="orders.edit_calendar",
        form=DayForm,
        icon="edit",
        help_text=gettext_lazy("保存后，未完成订单的交付期限随之重新计算并记入审计。"),
    )
    def change_day(self, request: HttpRequest, row: WorkCalendarDay, cleaned: dict[str, Any]) -> str:
        """Change a day."""
        return _edited(request, cleaned)


def _edited(request: HttpRequest, cleaned: dict[str, Any]) -> str:
    day = edit_day(
        cleaned["date"],
        is_workday=cleaned["is_workday"],
        name=cleaned["name"],
        is_provisional=cleaned["is_provisional"],
        actor=cast("User", request.user),
    )
    return _("已保存 %(day)s，订单期限已重新计算") % {"day": f"{day.date:%Y-%m-%d}"}
