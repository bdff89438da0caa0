"""Organisations: who takes part in the programme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.choices import OrganisationKind
from portal.scoping import ScopedModel


class Organisation(ScopedModel):
    """A purchaser, supplier, bank or the provincial card system."""

    Kind = OrganisationKind
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "id",
        "bank": "id",
        "province": "id",
    }

    kind = models.CharField(_("类别"), max_length=16, choices=OrganisationKind.choices)
    code = models.CharField(_("代码"), max_length=32, unique=True)
    name = models.CharField(_("名称"), max_length=100)
    short_name = models.CharField(_("简称"), max_length=32)
    is_active = models.BooleanField(_("启用"), default=True)

    class Meta:
        verbose_name = _("单位")
        verbose_name_plural = pgettext_lazy("plural", "单位")
        ordering = ["kind", "code"]

    def __str__(self) -> str:
        return self.short_name
