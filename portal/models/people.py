"""People who sign in, and the tokens that programs act for them with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from portal.choices import ADMINISTRATORS, Role, RoleRequestStatus
from portal.models.organisations import Organisation


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
    password_changed_at = models.DateTimeField(_("密码修改时间"), null=True, editable=False)
    must_change_password = models.BooleanField(_("须修改密码"), default=False, editable=False)

    # The scope of the API token the user came with; None for a person, who has all of the roles' permissions.
    token_permissions: frozenset[str] | None = None

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


class ApiToken(models.Model):
    """A bearer token of a user for the API; only its SM3 digest is kept."""

    user = models.ForeignKey(
        User, verbose_name=_("用户"), on_delete=models.PROTECT, related_name="api_tokens"
    )
    name = models.CharField(_("名称"), max_length=64)
    digest = models.BinaryField(max_length=32, unique=True)
    scopes = ArrayField(models.CharField(max_length=32), verbose_name=_("权限范围"), default=list)
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


class PasswordRecord(models.Model):
    """The hash of a password somebody had: the last ones may not come back."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="password_records")
    encoded = models.CharField(max_length=128)
    set_at = models.DateTimeField()

    class Meta:
        verbose_name = _("历史密码")
        verbose_name_plural = pgettext_lazy("plural", "历史密码")
        ordering = ["-set_at", "-id"]

    def __str__(self) -> str:
        return f"{self.user}: {self.set_at:%Y-%m-%d}"


class RoleRequest(models.Model):
    """Roles that a system administrator asks for somebody and a security administrator grants or refuses."""

    Status = RoleRequestStatus
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {
        RoleRequestStatus.PENDING: frozenset(
            {RoleRequestStatus.GRANTED, RoleRequestStatus.REJECTED, RoleRequestStatus.WITHDRAWN}
        ),
    }

    user = models.ForeignKey(
        User, verbose_name=_("用户"), on_delete=models.PROTECT, related_name="role_requests"
    )
    organisation = models.ForeignKey(
        Organisation, verbose_name=_("单位"), on_delete=models.PROTECT, related_name="+"
    )
    roles = ArrayField(
        models.CharField(max_length=32, choices=Role.choices), verbose_name=_("角色"), default=list
    )
    status = models.CharField(
        _("状态"), max_length=16, choices=RoleRequestStatus.choices, default=RoleRequestStatus.PENDING
    )
    requested_by = models.ForeignKey(
        User, verbose_name=_("申请人"), on_delete=models.PROTECT, related_name="+"
    )
    requested_at = models.DateTimeField(_("申请时间"), auto_now_add=True)
    decided_by = models.ForeignKey(
        User, verbose_name=_("批准人"), null=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField(_("批准时间"), null=True)
    reason = models.CharField(_("理由"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("角色申请")
        verbose_name_plural = pgettext_lazy("plural", "角色申请")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="role_request_one_pending",
                fields=["user"],
                condition=models.Q(status=RoleRequestStatus.PENDING),
            ),
            models.CheckConstraint(
                name="role_request_two_people",
                condition=models.Q(decided_by__isnull=True)
                | ~models.Q(decided_by=models.F("requested_by")) & ~models.Q(decided_by=models.F("user")),
                violation_error_message=_("角色须由申请人和本人以外的安全管理员批准"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} #{self.pk}"
