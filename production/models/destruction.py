"""Certificates that a batch's personal data was destroyed (R-22)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.scoping import ScopedModel
from production.models.batches import Batch


class DestructionCertificate(ScopedModel):
    """What was destroyed, how, and who answers for it; verifiable offline with the portal's public key."""

    VISIBLE_THROUGH: ClassVar[Mapping[str, str]] = {
        "purchaser": "",
        "supplier": "batch__order__contract__supplier",
    }

    number = models.CharField(_("证明编号"), max_length=50, unique=True)
    batch = models.OneToOneField(
        Batch, verbose_name=_("批次"), on_delete=models.PROTECT, related_name="destruction_certificate"
    )
    content = models.JSONField(_("内容"))
    signature = models.BinaryField(_("SM2 签名"))
    issued_at = models.DateTimeField(_("签发时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("数据销毁证明")
        verbose_name_plural = pgettext_lazy("plural", "数据销毁证明")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.number
