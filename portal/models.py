"""Kernel models: organisations, people, background tasks and the audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.choices import ADMINISTRATORS, OrganisationKind, Role, TaskStatus
from portal.scoping import ScopedModel, ScopedQuerySet


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


class PortalUserManager(UserManager["User"]):
    """Adds the system's own account, which jobs act as."""

    def system(self) -> User:
        """Return the account of the portal itself; nobody can sign in with it."""
        user, created = self.get_or_create(
            username="system", defaults={"is_system": True, "last_name": "系统"}
        )
        if created:
            user.set_unusable_password()
            user.save(update_fields=["password"])
        return user


class User(AbstractUser):
    """A person who signs in; what they may do follows from `roles` (see portal/roles.py)."""

    organisation = models.ForeignKey(
        Organisation,
        verbose_name=_("单位"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="users",
    )
    roles = ArrayField(
        models.CharField(max_length=32, choices=Role.choices),
        verbose_name=_("角色"),
        default=list,
        blank=True,
    )
    is_system = models.BooleanField(_("系统账户"), default=False, editable=False)

    objects: ClassVar[PortalUserManager] = PortalUserManager()

    class Meta:
        verbose_name = _("用户")
        verbose_name_plural = pgettext_lazy("plural", "用户")
        ordering = ["username"]
        constraints = [
            models.CheckConstraint(
                name="user_administrator_stands_alone",
                condition=~models.Q(roles__overlap=sorted(ADMINISTRATORS)) | models.Q(roles__len=1),
                violation_error_message=_("系统管理员、安全管理员、审计员三个角色互斥，且不能与其他角色兼任"),
            ),
            models.CheckConstraint(
                name="user_is_never_superuser",
                condition=models.Q(is_superuser=False),
                violation_error_message=_("本平台不设超级用户"),
            ),
            models.UniqueConstraint(
                name="user_one_system_account", fields=["is_system"], condition=models.Q(is_system=True)
            ),
        ]

    def __str__(self) -> str:
        return self.get_full_name() or self.username

    def get_full_name(self) -> str:
        """Return family name and given name in Chinese order."""
        return f"{self.last_name}{self.first_name}".strip()


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


class Task(models.Model):
    """One unit of background work; this row is the truth, an RQ job only wakes a worker (D7).

    While a worker runs it, it holds the row's lock; the work and `done` commit together.
    """

    Status = TaskStatus

    handler = models.CharField(_("处理程序"), max_length=120)
    subject_type = models.CharField(_("对象类别"), max_length=64)
    subject_id = models.BigIntegerField(_("对象编号"))
    part = models.PositiveIntegerField(_("分块"), default=0)
    queue = models.CharField(_("队列"), max_length=32, default="default")
    status = models.CharField(_("状态"), max_length=16, choices=TaskStatus.choices, default=TaskStatus.QUEUED)
    attempts = models.PositiveSmallIntegerField(_("尝试次数"), default=0)
    error_code = models.CharField(_("错误代码"), max_length=64, blank=True)
    error_text = models.CharField(_("错误"), max_length=500, blank=True)
    requested_by = models.ForeignKey(User, verbose_name=_("发起人"), null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    enqueued_at = models.DateTimeField(_("入队时间"))
    started_at = models.DateTimeField(_("开始时间"), null=True)
    finished_at = models.DateTimeField(_("完成时间"), null=True)

    class Meta:
        verbose_name = _("后台任务")
        verbose_name_plural = pgettext_lazy("plural", "后台任务")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="task_once_per_part", fields=["handler", "subject_type", "subject_id", "part"]
            )
        ]
        indexes = [
            models.Index(fields=["enqueued_at"], name="task_queued", condition=models.Q(status="queued")),
            models.Index(fields=["subject_type", "subject_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.handler.rsplit('.', 1)[-1]} {self.subject_type} {self.subject_id}/{self.part}"


class PendingRemoval(models.Model):
    """A key or stored file whose owner is gone; removed right after the commit, or by the sweeper (R-22)."""

    class Kind(models.TextChoices):
        """What is to be removed."""

        KEY = "key", _("密钥")
        FILE = "file", _("文件")

    kind = models.CharField(_("类别"), max_length=8, choices=Kind.choices)
    name = models.CharField(_("名称"), max_length=200)
    requested_at = models.DateTimeField(_("登记时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("待清除项")
        verbose_name_plural = pgettext_lazy("plural", "待清除项")
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="pending_removal_once", fields=["kind", "name"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class ApiToken(models.Model):
    """A bearer token of a user for the API; only its SM3 digest is kept."""

    user = models.ForeignKey(
        User, verbose_name=_("用户"), on_delete=models.PROTECT, related_name="api_tokens"
    )
    name = models.CharField(_("名称"), max_length=64)
    digest = models.BinaryField(max_length=32, unique=True)
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)
    expires_at = models.DateTimeField(_("到期时间"))
    last_used_at = models.DateTimeField(_("最近使用"), null=True)
    revoked_at = models.DateTimeField(_("撤销时间"), null=True)

    class Meta:
        verbose_name = _("接口令牌")
        verbose_name_plural = pgettext_lazy("plural", "接口令牌")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.user.username}: {self.name}"


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


__all__ = [
    "ApiToken",
    "AuditEntry",
    "IdempotencyKey",
    "Organisation",
    "PendingRemoval",
    "ScopedQuerySet",
    "Task",
    "User",
]
