"""The second factor of a person: one TOTP secret (RFC 6238) and ten recovery codes."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class SecondFactor(models.Model):
    """A person's TOTP secret, sealed under a key of its own in the key store; counts once confirmed."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("用户"),
        on_delete=models.PROTECT,
        related_name="second_factor",
    )
    key_id = models.CharField(max_length=64)
    sealed_secret = models.BinaryField()
    last_step = models.BigIntegerField(
        default=0, help_text="time step of the last code taken: none before it counts again"
    )
    begun_at = models.DateTimeField(_("开始绑定"))
    confirmed_at = models.DateTimeField(_("绑定时间"), null=True)

    class Meta:
        verbose_name = _("两步验证")
        verbose_name_plural = pgettext_lazy("plural", "两步验证")

    def __str__(self) -> str:
        return str(self.user)


class RecoveryCode(models.Model):
    """A one-time code for a lost telephone; only a keyed digest is kept."""

    factor = models.ForeignKey(SecondFactor, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.BinaryField(max_length=32)
    used_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("恢复码")
        verbose_name_plural = pgettext_lazy("plural", "恢复码")
        constraints = [
            models.UniqueConstraint(name="recovery_code_once", fields=["factor", "digest"]),
        ]

    def __str__(self) -> str:
        return f"{self.factor}: {'used' if self.used_at else 'free'}"
