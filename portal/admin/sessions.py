"""Admin of who is signed in and who failed to be, and of requests for roles."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin import display
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.enums import ActionVariant

from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    exact_filter,
    register,
    signed_in,
    status_column,
    verb,
)
from portal.choices import Role, RoleRequestStatus
from portal.models import RoleRequest, SignInAttempt, UserSession
from portal.services.attempts import unlock_address
from portal.services.role_requests import decide_request, withdraw_request
from portal.services.sessions import end_session
from portal.texts import listed


@register(UserSession)
class UserSessionAdmin(ScopedAdmin[UserSession]):
    """Who is signed in, from where and since when."""

    list_display = ("seen_at", "user", "address", "agent", "started_at", "expire_date")
    list_filter = (exact_filter("username", gettext_lazy("用户名"), "user__username"),)
    list_select_related = ("user",)
    fields = ("user", "address", "agent", "started_at", "seen_at", "expire_date")
    ordering = ("-seen_at",)
    actions_detail = ("end",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[UserSession]:
        """Leave out browsers nobody signed in with, and sessions that have run out."""
        return super().get_queryset(request).filter(user__isnull=False, expire_date__gt=timezone.now())

    @verb(
        label=gettext_lazy("结束登录"),
        permission="portal.end_session",
        icon="logout",
        variant=ActionVariant.DANGER,
    )
    def end(self, request: HttpRequest, row: UserSession, cleaned: dict[str, Any]) -> str:
        """End a session."""
        end_session(row, actor=signed_in(request))
        return _("该登录已结束")


@register(SignInAttempt)
class SignInAttemptAdmin(ScopedAdmin[SignInAttempt]):
    """Sign-ins that failed within the time that counts for locking."""

    list_display = ("at", "known_user", "step", "address")
    list_filter = (
        exact_filter("username", gettext_lazy("用户名"), "user__username"),
        exact_filter("address", gettext_lazy("来源地址")),
    )
    list_select_related = ("user",)
    fields = ("at", "known_user", "step", "address")
    actions_detail = ("unlock_source",)

    @display(description=gettext_lazy("用户"))
    def known_user(self, row: SignInAttempt) -> str:
        """Name the user; a name nobody has is not kept, for it may be a password."""
        return str(row.user.username) if row.user else _("（无此用户名）")

    @verb(
        label=gettext_lazy("解除该地址的锁定"),
        permission="portal.unlock_sign_in",
        icon="lock_open",
        help_text=gettext_lazy("清除该来源地址的失败记录，使其可以立即重新登录。"),
    )
    def unlock_source(self, request: HttpRequest, row: SignInAttempt, cleaned: dict[str, Any]) -> str:
        """Let an address try again at once."""
        unlock_address(row, actor=signed_in(request))
        return _("已解除锁定")


class GrantForm(VerbForm):
    """A note that goes with the grant."""

    reason = forms.CharField(label=gettext_lazy("理由"), max_length=200, required=False)


class RejectForm(VerbForm):
    """Why the roles are not granted."""

    reason = forms.CharField(label=gettext_lazy("理由"), max_length=200)


def _is_pending(row: RoleRequest) -> bool:
    return row.status == RoleRequestStatus.PENDING


@register(RoleRequest)
class RoleRequestAdmin(ScopedAdmin[RoleRequest]):
    """Roles asked for by a system administrator and granted by a security administrator."""

    list_display = (
        "requested_at",
        "user",
        "organisation",
        "role_labels",
        "state",
        "requested_by",
        "decided_by",
    )
    list_filter = ("status",)
    list_select_related = ("user", "organisation", "requested_by", "decided_by")
    fields = (
        "user",
        "organisation",
        "role_labels",
        "present_roles",
        "state",
        "requested_by",
        "requested_at",
        "decided_by",
        "decided_at",
        "reason",
    )
    actions_detail = ("grant", "reject", "withdraw")
    state = status_column(
        {
            RoleRequestStatus.PENDING: "warning",
            RoleRequestStatus.GRANTED: "success",
            RoleRequestStatus.REJECTED: "danger",
        }
    )

    @display(description=gettext_lazy("申请的角色"))
    def role_labels(self, row: RoleRequest) -> str:
        """Name the roles."""
        return listed(Role(role).label for role in row.roles) or "-"

    @display(description=gettext_lazy("现有角色"))
    def present_roles(self, row: RoleRequest) -> str:
        """Name what the person has now."""
        return listed(Role(role).label for role in row.user.roles) or "-"

    @verb(
        label=gettext_lazy("批准"),
        permission="portal.decide_rolerequest",
        form=GrantForm,
        when=_is_pending,
        second_after="requested_by",
        icon="check",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy("批准后该用户的现有登录结束，重新登录后角色生效。"),
    )
    def grant(self, request: HttpRequest, row: RoleRequest, cleaned: dict[str, Any]) -> str:
        """Grant the roles."""
        decide_request(row, grant=True, reason=cleaned["reason"], actor=signed_in(request))
        return _("已批准，角色生效")

    @verb(
        label=gettext_lazy("驳回"),
        permission="portal.decide_rolerequest",
        form=RejectForm,
        when=_is_pending,
        second_after="requested_by",
        icon="close",
        variant=ActionVariant.DANGER,
    )
    def reject(self, request: HttpRequest, row: RoleRequest, cleaned: dict[str, Any]) -> str:
        """Refuse the roles."""
        decide_request(row, grant=False, reason=cleaned["reason"], actor=signed_in(request))
        return _("已驳回")

    @verb(
        label=gettext_lazy("撤回"),
        permission="portal.withdraw_rolerequest",
        when=_is_pending,
        icon="undo",
    )
    def withdraw(self, request: HttpRequest, row: RoleRequest, cleaned: dict[str, Any]) -> str:
        """Take the request back."""
        withdraw_request(row, actor=signed_in(request))
        return _("已撤回")
