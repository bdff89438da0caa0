"""The calendar of Chinese working days, seeded from `holidays` and edited by people (R-10)."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.models import User


class WorkCalendarDay(models.Model):
    """A day that differs from the ordinary week: a holiday, or a weekend day worked instead (调休)."""

    date = models.DateField(_("日期"), primary_key=True)
    is_workday = models.BooleanField(_("上班"))
    name = models.CharField(_("名称"), max_length=60)
    is_provisional = models.BooleanField(_("待国务院公布"), default=False)
    edited_by = models.ForeignKey(
        User, verbose_name=_("修改人"), null=True, blank=True, on_delete=models.PROTECT
    )

    class Meta:
        verbose_name = _("工作日历")
        verbose_name_plural = pgettext_lazy("plural", "工作日历")
        ordering = ["date"]

    def __str__(self) -> str:
        return f"{self.date:%Y-%m-%d} {self.name}"
