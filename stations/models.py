"""Models of the stations app: where single cards are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from portal.models import Organisation
from portal.scoping import ScopedModel


class Station(ScopedModel):
    """A counter or plant position with a reader and a printer; its agent reports here."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": "", "supplier": "operator"}

    code = models.SlugField(_("代码"), max_length=32, unique=True)
    name = models.CharField(_("名称"), max_length=60)
    place = models.CharField(_("地点"), max_length=100)
    operator = models.ForeignKey(Organisation, verbose_name=_("运营单位"), on_delete=models.PROTECT)
    credential_digest = models.BinaryField(max_length=32, null=True)
    reader_state = models.CharField(_("读写器"), max_length=60, blank=True)
    printer_state = models.CharField(_("打印机"), max_length=60, blank=True)
    agent_version = models.CharField(_("代理版本"), max_length=32, blank=True)
    last_seen_at = models.DateTimeField(_("最近心跳"), null=True)
    is_active = models.BooleanField(_("启用"), default=True)

    class Meta:
        verbose_name = _("制卡点")
        verbose_name_plural = _("制卡点")
        ordering = ["code"]

    def __str__(self) -> str:
        return self.name
