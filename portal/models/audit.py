"""The append-only audit."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class AuditEntry(models.Model):
    """One event of the append-only, SM3-chained audit; a trigger refuses UPDATE and DELETE."""

    position = models.BigIntegerField(_("序号"), primary_key=True)
    at = models.DateTimeField(_("时间"), db_index=True)
    actor_id = models.BigIntegerField(_("用户编号"), null=True, db_index=True)
    actor_name = models.CharField(_("用户"), max_length=150)
    organisation_code = models.CharField(_("单位"), max_length=32, blank=True)
    address = models.CharField(_("来源地址"), max_length=64, blank=True)
    action = models.CharField(_("动作"), max_length=64, db_index=True)
    object_type = models.CharField(_("对象类别"), max_length=64, blank=True)
    object_id = models.CharField(_("对象编号"), max_length=64, blank=True)
    object_label = models.CharField(_("对象"), max_length=200, blank=True)
    details = models.JSONField(_("内容"), default=dict)
    result = models.CharField(_("结果"), max_length=32, default="done")
    previous_digest = models.BinaryField(max_length=32)
    digest = models.BinaryField(max_length=32)

    class Meta:
        verbose_name = _("审计记录")
        verbose_name_plural = pgettext_lazy("plural", "审计记录")
        ordering = ["-position"]
        indexes = [models.Index(fields=["object_type", "object_id"])]

    def __str__(self) -> str:
        return f"{self.position} {self.action}"
