"""The append-only audit and the signed anchors of its chain."""

from __future__ import annotations

import json
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.core.audit_anchors import Anchor
from portal.core.audit_forms import FORM


class ExactJSONField(models.JSONField):
    """JSON kept as the text that was written (type `json`, not `jsonb`): a digest covers that text."""

    def db_type(self, connection: Any) -> str:
        """Name the column's type."""
        return "json"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Take what psycopg has parsed already."""
        return json.loads(value, cls=self.decoder) if isinstance(value, str) else value


class AuditEntry(models.Model):
    """One event of the append-only, SM3-chained audit; triggers refuse UPDATE, DELETE and TRUNCATE.

    Rows are written by `portal.audit` only, as the bytes that their digest covers.
    """

    position = models.BigIntegerField(_("序号"), primary_key=True)
    form = models.PositiveSmallIntegerField(_("摘要格式"), default=FORM)
    at = models.DateTimeField(_("时间"), db_index=True)
    actor_id = models.BigIntegerField(_("用户编号"), null=True)
    actor_name = models.CharField(_("用户"), max_length=150)
    organisation_code = models.CharField(_("单位"), max_length=32, blank=True)
    address = models.CharField(_("来源地址"), max_length=64, blank=True)
    action = models.CharField(_("动作"), max_length=64)
    object_type = models.CharField(_("对象类别"), max_length=64, blank=True)
    object_id = models.CharField(_("对象编号"), max_length=64, blank=True)
    object_label = models.CharField(_("对象"), max_length=200, blank=True)
    details = ExactJSONField(_("内容"), default=dict)
    result = models.CharField(_("结果"), max_length=32, default="done")
    previous_digest = models.BinaryField(max_length=32)
    digest = models.BinaryField(max_length=32)

    class Meta:
        verbose_name = _("审计记录")
        verbose_name_plural = pgettext_lazy("plural", "审计记录")
        ordering = ["-position"]
        # Each index ends with the position, so that a search finds its newest rows without sorting.
        indexes = [
            models.Index(fields=["actor_name", "position"], name="audit_by_actor"),
            models.Index(fields=["organisation_code", "position"], name="audit_by_organisation"),
            models.Index(fields=["address", "position"], name="audit_by_address"),
            models.Index(fields=["action", "position"], name="audit_by_action"),
            models.Index(fields=["object_type", "object_id", "position"], name="audit_by_object"),
            models.Index(fields=["result", "position"], name="audit_by_result"),
        ]

    def __str__(self) -> str:
        return f"{self.position} {self.action}"


class AuditAnchor(models.Model):
    """What the chain was at a moment, signed with the portal's SM2 key; triggers refuse every change."""

    number = models.BigIntegerField(_("锚点号"), primary_key=True)
    position = models.BigIntegerField(_("审计序号"), unique=True)
    digest = models.BinaryField(_("摘要"), max_length=32)
    entry_count = models.BigIntegerField(_("记录条数"))
    at = models.DateTimeField(_("签署时间"))
    previous = models.BinaryField(max_length=32)
    public_key = models.BinaryField(max_length=64)
    signature = models.BinaryField(max_length=80)

    class Meta:
        verbose_name = _("审计锚点")
        verbose_name_plural = pgettext_lazy("plural", "审计锚点")
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"{self.number}（{self.position}）"

    @classmethod
    def of(cls, anchor: Anchor) -> AuditAnchor:
        """Return the row of an anchor."""
        return cls(
            number=anchor.number,
            position=anchor.position,
            digest=anchor.digest,
            entry_count=anchor.count,
            at=anchor.at,
            previous=anchor.previous,
            public_key=anchor.public_key,
            signature=anchor.signature,
        )

    def anchor(self) -> Anchor:
        """Return what was signed."""
        return Anchor(
            self.number,
            self.position,
            bytes(self.digest),
            self.entry_count,
            self.at,
            bytes(self.previous),
            bytes(self.public_key),
            bytes(self.signature),
        )
