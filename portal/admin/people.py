"""Admin of the people who sign in."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.enums import ActionVariant

from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    badge,
    organisation_filter,
    register,
    result_page,
    signed_in,
    table,
    verb,
)
from portal.choices import OrganisationKind, Role
from portal.models import Organisation, User
from portal.roles import PERMISSIONS, PRIVILEGED_ROLES
from portal.services.attempts import is_locked, unlock_user
from portal.services.people import add_user, change_user, reset_password
from portal.services.second_factor import factor_of, is_required, reset_second_factor
from portal.services.sessions import end_all_sessions
from portal.texts import listed


class _PersonForm(VerbForm):
    last_name = forms.CharField(label=gettext_lazy("姓"), max_length=50)
    first_name = forms.CharField(label=gettext_lazy("名"), max_length=50, required=False)
    organisation = forms.ModelChoiceField(
        label=gettext_lazy("单位"), queryset=Organisation.objects.none(), empty_label=gettext_lazy("请选择")
    )
    roles = forms.MultipleChoiceField(
        label=gettext_lazy("角色"),
        choices=Role.choices,
        required=False,
        help_text=gettext_lazy(
            "新增的角色由安全管理员批准后生效，取消的立即生效。"
            "系统管理员、安全管理员、审计员三个角色互斥，且不能与其他角色兼任"
        ),
    )

    def prepare(self) -> None:
        """Offer the organisations that are in use."""
        rows = Organisation.objects.visible_to(signed_in(self.request)).filter(is_active=True)
        field = cast("forms.ModelChoiceField[Organisation]", self.fields["organisation"])
        field.queryset = rows


class AddUserForm(_PersonForm):
    """What a new user needs."""

    username = forms.CharField(label=gettext_lazy("用户名"), max_length=150)
    password = forms.CharField(
        label=gettext_lazy("初始密码"),
        widget=forms.PasswordInput,
        strip=False,
        help_text=gettext_lazy("至少 10 个字符，不能全为数字，不能与姓名相近；本人首次登录时须修改"),
    )
    field_order = ("username", "last_name", "first_name", "organisation", "roles", "password")


class ChangeUserForm(_PersonForm):
    """What may change about a user."""

    is_active = forms.BooleanField(label=gettext_lazy("允许登录"), required=False)

    def prepare(self) -> None:
        """Start from what is."""
        super().prepare()
        user = cast("User", self.row)
        for name in ("last_name", "first_name", "organisation", "roles", "is_active"):
            self.fields[name].initial = getattr(user, name)


class PasswordForm(VerbForm):
    """A new password, typed twice."""

    password = forms.CharField(label=gettext_lazy("新密码"), widget=forms.PasswordInput, strip=False)
    again = forms.CharField(label=gettext_lazy("再次输入"), widget=forms.PasswordInput, strip=False)

    def clean(self) -> dict[str, Any]:
        """Refuse two different passwords."""
        cleaned = super().clean() or {}
        if cleaned.get("password") != cleaned.get("again"):
            self.add_error("again", _("两次输入的密码不一致"))
        return cleaned


def _is_person(user: User) -> bool:
    return not user.is_system


@register(User)
class UserAdmin(ScopedAdmin[User]):
    """Who may sign in and in which roles."""

    list_display = (
        "username",
        "full_name",
        "organisation",
        "role_labels",
        "activity",
        "second_step",
        "last_login",
    )
    list_filter = (
        organisation_filter("organisation", OrganisationKind.BANK, gettext_lazy("银行")),
        "is_active",
    )
    list_select_related = ("organisation", "second_factor")
    search_fields = ("^username", "last_name", "first_name")
    search_help_text = gettext_lazy("按用户名或姓名查找")
    fields = (
        "username",
        "full_name",
        "organisation",
        "role_labels",
        "activity",
        "locking",
        "second_step",
        "password_changed_at",
        "must_change_password",
        "last_login",
        "date_joined",
    )
    ordering = ("username",)
    actions_list = ("add_person", "role_table")
    actions_detail = ("change_person", "set_password", "unlock", "end_all", "reset_factor")

    @display(description=gettext_lazy("姓名"))
    def full_name(self, row: User) -> str:
        """Show the name in Chinese order."""
        return row.get_full_name() or "-"

    @display(description=gettext_lazy("角色"))
    def role_labels(self, row: User) -> Any:
        """Show every role by name."""
        labels = [badge(Role(role).label, "info") for role in row.roles]
        return format_html(" ".join(["{}"] * len(labels)), *labels) if labels else "-"

    @display(description=gettext_lazy("状态"))
    def activity(self, row: User) -> Any:
        """Say whether the user may sign in."""
        if row.is_system:
            return badge(_("系统账户"), "warning")
        return badge(_("启用"), "success") if row.is_active else badge(_("停用"))

    @display(description=gettext_lazy("登录锁定"))
    def locking(self, row: User) -> Any:
        """Say whether too many failures lock the name now."""
        return badge(_("已锁定"), "danger") if is_locked(row) else _("未锁定")

    @display(description=gettext_lazy("两步验证"))
    def second_step(self, row: User) -> Any:
        """Say whether the user has a second factor, and whether the roles need one."""
        if factor_of(row) is not None:
            return badge(_("已绑定"), "success")
        return badge(_("待绑定"), "warning") if is_required(row) else "-"

    @verb(
        label=gettext_lazy("新增用户"),
        permission="portal.add_user",
        form=AddUserForm,
        icon="person_add",
        variant=ActionVariant.PRIMARY,
    )
    def add_person(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Add a user."""
        user = add_user(**cleaned, actor=signed_in(request))
        if not cleaned["roles"]:
            return _("已新增用户 %(name)s") % {"name": user.username}
        return _("已新增用户 %(name)s，角色待安全管理员批准") % {"name": user.username}

    @verb(
        label=gettext_lazy("修改"),
        permission="portal.change_user",
        form=ChangeUserForm,
        when=_is_person,
        icon="edit",
    )
    def change_person(self, request: HttpRequest, row: User, cleaned: dict[str, Any]) -> str:
        """Change a user."""
        changed = change_user(row, **cleaned, actor=signed_in(request))
        waiting = (
            set(cleaned["roles"]) - set(changed.roles) or cleaned["organisation"] != changed.organisation
        )
        return _("已保存，新增的角色待安全管理员批准") if waiting else _("已保存")

    @verb(
        label=gettext_lazy("重置密码"),
        permission="portal.change_user",
        form=PasswordForm,
        when=_is_person,
        icon="key",
    )
    def set_password(self, request: HttpRequest, row: User, cleaned: dict[str, Any]) -> str:
        """Set a user's password."""
        reset_password(row, password=cleaned["password"], actor=signed_in(request))
        return _("密码已重置，该用户的其他登录已失效")

    @verb(
        label=gettext_lazy("解除锁定"),
        permission="portal.unlock_sign_in",
        when=lambda user: _is_person(user) and is_locked(user),
        icon="lock_open",
    )
    def unlock(self, request: HttpRequest, row: User, cleaned: dict[str, Any]) -> str:
        """Let a user try again at once."""
        unlock_user(row, actor=signed_in(request))
        return _("已解除锁定")

    @verb(
        label=gettext_lazy("结束全部登录"),
        permission="portal.end_session",
        when=_is_person,
        icon="logout",
        variant=ActionVariant.DANGER,
    )
    def end_all(self, request: HttpRequest, row: User, cleaned: dict[str, Any]) -> str:
        """End every session of a user."""
        count = end_all_sessions(row, actor=signed_in(request))
        return _("已结束登录 %(count)s 个") % {"count": count}

    @verb(
        label=gettext_lazy("重置两步验证"),
        permission="portal.reset_second_factor",
        when=lambda user: factor_of(user) is not None,
        icon="phonelink_erase",
        variant=ActionVariant.DANGER,
        help_text=gettext_lazy("请先核实本人身份。重置后该用户的登录全部结束，下次登录须重新绑定。"),
    )
    def reset_factor(self, request: HttpRequest, row: User, cleaned: dict[str, Any]) -> str:
        """Remove a user's second factor."""
        reset_second_factor(row, actor=signed_in(request))
        return _("两步验证已重置")

    @verb(label=gettext_lazy("角色与权限"), permission="portal.view_user", icon="rule", download=True)
    def role_table(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Show what each role may do, who has it, and whether it needs a second factor."""
        lines = [
            (
                format_html('<span class="pk-nowrap">{}</span>', Role(role).label),
                User.objects.filter(roles__contains=[role], is_active=True).count(),
                _("须") if role in PRIVILEGED_ROLES else "-",
                listed(sorted(allowed)),
            )
            for role, allowed in PERMISSIONS.items()
        ]
        body = table([_("角色"), _("启用人数"), _("两步验证"), _("权限")], lines)
        help_text = _("角色与权限写在程序中，随版本评审变更；此处只供查阅。")
        return result_page(self, request, None, title=_("角色与权限"), body=body, help_text=help_text)
