"""The table of roles as the database holds it."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class RoleDefinition(models.Model):
    """What a role may do since the last migration of the table; says so, and grants nothing by itself.

    Permissions are answered from `portal.roles.PERMISSIONS`, so whoever may write to the database gains
    nothing by writing here. Migrations keep both equal (portal/role_table.py).
    """

    role = models.CharField(_("角色"), max_length=32, primary_key=True)
    permissions = ArrayField(models.CharField(max_length=100), verbose_name=_("权限"))

    class Meta:
        verbose_name = _("角色定义")
        verbose_name_plural = pgettext_lazy("plural", "角色定义")
        ordering = ["role"]

    def __str__(self) -> str:
        return self.role
