"""What was answered to requests that may come twice."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.models.people import User


class IdempotencyKey(models.Model):
    """What a request with an `Idempotency-Key` was answered, so that sending it again changes nothing more.

    The row is written in the transaction of the request itself: whoever comes second waits for it.
    """

    user = models.ForeignKey(User, verbose_name=_("用户"), on_delete=models.CASCADE)
    key = models.CharField(_("幂等键"), max_length=100)
    digest = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField(_("状态码"), null=True)
    body = models.JSONField(_("应答"), null=True)
    expires_at = models.DateTimeField(_("到期时间"), db_index=True)

    class Meta:
        verbose_name = _("幂等键")
        verbose_name_plural = pgettext_lazy("plural", "幂等键")
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(name="idempotency_key_once", fields=["user", "key"])]

    def __str__(self) -> str:
        return f"{self.user_id}/{self.pk}"
