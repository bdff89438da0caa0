"""The ceremony by which two people bring a card master key; the key itself is never in the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.choices import KeyImportStatus
from portal.models.people import User
from portal.scoping import ScopedModel

_OPEN = [KeyImportStatus.WAITING, KeyImportStatus.IMPORTED]


class KeyImport(ScopedModel):
    """One ceremony: what was announced, who brought which half, and how it ended.

    The first component waits in the key store under `component_key_id` and is destroyed when it ends.
    """

    Status = KeyImportStatus
    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {"purchaser": ""}
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {
        KeyImportStatus.WAITING: frozenset(
            {
                KeyImportStatus.IMPORTED,
                KeyImportStatus.FAILED,
                KeyImportStatus.CANCELLED,
                KeyImportStatus.EXPIRED,
            }
        ),
    }

    name = models.CharField(_("主密钥"), max_length=40)
    version = models.PositiveIntegerField(_("版本"), validators=[MinValueValidator(1)])
    check_value = models.CharField(_("校验值"), max_length=6, validators=[RegexValidator(r"\A[0-9A-F]{6}\Z")])
    valid_from = models.DateField(_("启用日期"), null=True, blank=True)
    valid_until = models.DateField(_("停用日期"), null=True, blank=True)
    status = models.CharField(
        _("状态"), max_length=16, choices=KeyImportStatus.choices, default=KeyImportStatus.WAITING
    )
    component_key_id = models.CharField(max_length=64, blank=True)
    first_by = models.ForeignKey(
        User, verbose_name=_("分量一录入人"), on_delete=models.PROTECT, related_name="+"
    )
    second_by = models.ForeignKey(
        User, verbose_name=_("分量二录入人"), null=True, on_delete=models.PROTECT, related_name="+"
    )
    started_at = models.DateTimeField(_("开始时间"), auto_now_add=True)
    expires_at = models.DateTimeField(_("截止时间"))
    closed_at = models.DateTimeField(_("结束时间"), null=True)

    class Meta:
        verbose_name = _("主密钥导入")
        verbose_name_plural = pgettext_lazy("plural", "主密钥")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="key_import_once",
                fields=["name", "version"],
                condition=models.Q(status__in=_OPEN),
                violation_error_message=_("该主密钥的这一版本已导入或正在导入"),
            ),
            models.CheckConstraint(
                name="key_import_two_people",
                condition=models.Q(second_by=None) | ~models.Q(second_by=models.F("first_by")),
                violation_error_message=_("两个分量须由两人分别录入"),
            ),
            models.CheckConstraint(
                name="key_import_second_person_known",
                condition=~models.Q(status=KeyImportStatus.IMPORTED) | models.Q(second_by__isnull=False),
            ),
            models.CheckConstraint(
                name="key_import_component_goes_with_the_end",
                condition=models.Q(status=KeyImportStatus.WAITING) | models.Q(component_key_id=""),
            ),
            models.CheckConstraint(
                name="key_import_days_in_order",
                condition=models.Q(valid_from=None)
                | models.Q(valid_until=None)
                | models.Q(valid_until__gte=models.F("valid_from")),
                violation_error_message=_("停用日期早于启用日期"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"
