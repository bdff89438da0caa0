"""Who is signed in, and who tried to be."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

AGENT_LENGTH = 200


class UserSession(AbstractBaseSession):
    """A browser's session; its key is the SM3 digest of the cookie, so a stolen backup signs nobody in.

    Deleting the row ends the session at once: it is the only place where the session exists.
    """

    session_key = models.CharField(_("会话编号"), max_length=64, primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("用户"),
        null=True,
        on_delete=models.CASCADE,
        related_name="sessions",
    )
    address = models.CharField(_("来源地址"), max_length=64, blank=True)
    agent = models.CharField(_("浏览器"), max_length=AGENT_LENGTH, blank=True)
    started_at = models.DateTimeField(_("登录时间"), null=True)
    seen_at = models.DateTimeField(_("最近活动"))
    expire_date = models.DateTimeField(_("失效时间"), db_index=True)

    class Meta:
        verbose_name = _("登录会话")
        verbose_name_plural = pgettext_lazy("plural", "登录会话")
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"{self.user}: {self.session_key[:8]}" if self.user_id else self.session_key[:8]

    @classmethod
    def get_session_store_class(cls) -> Any:
        """Return the store that reads these rows."""
        from portal.session_store import SessionStore  # noqa: PLC0415 - the store imports this model

        return SessionStore


class SignInStep(models.TextChoices):
    """Which of its steps a sign-in failed at."""

    PASSWORD = "password", _("密码")
    CODE = "code", _("动态口令")


class SignInAttempt(models.Model):
    """An attempt to sign in that is under way or failed; enough of them lock a name or an address.

    The name that was typed is kept as a blind index only: people type passwords into the wrong field.
    """

    at = models.DateTimeField(_("时间"))
    step = models.CharField(_("步骤"), max_length=16, choices=SignInStep.choices)
    name_index = models.BinaryField(max_length=32)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("用户"),
        null=True,
        on_delete=models.CASCADE,
        related_name="sign_in_attempts",
    )
    address = models.CharField(_("来源地址"), max_length=64, blank=True)

    class Meta:
        verbose_name = _("登录失败")
        verbose_name_plural = pgettext_lazy("plural", "登录失败")
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["name_index", "at"], name="sign_in_attempt_name"),
            models.Index(fields=["address", "at"], name="sign_in_attempt_address"),
        ]

    def __str__(self) -> str:
        return f"{self.user or '-'} {self.address}"
