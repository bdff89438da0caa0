"""Admin of the kernel: organisations, people, tokens, background tasks and the audit."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import display
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_rq.models import Dashboard
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from portal import admin_audit
from portal.adminkit import (
    EditableAdmin,
    ScopedAdmin,
    VerbForm,
    badge,
    exact_filter,
    organisation_filter,
    register,
    result_page,
    status_column,
    verb,
)
from portal.adminkit.columns import told_column
from portal.choices import OrganisationKind, Role, TaskStatus
from portal.models import ApiToken, Organisation, Task, User
from portal.services import (
    MAX_TOKEN_DAYS,
    add_user,
    change_user,
    issue_token,
    reset_password,
    retry_task,
    revoke_token,
)

__all__ = ["admin_audit"]

admin.site.unregister(Group)
# django-rq lets everybody who may sign in see, delete and repeat jobs; tasks have a page of their own.
admin.site.unregister(Dashboard)


def signed_in(request: HttpRequest) -> User:
    """Return the user behind a request to the admin."""
    return cast("User", request.user)


@register(Organisation)
class OrganisationAdmin(EditableAdmin[Organisation]):
    """Who takes part in the programme."""

    list_display = ("short_name", "name", "code", "kind_label", "activity")
    list_filter = (("kind", ChoicesDropdownFilter),)
    search_fields = ("=code", "short_name", "name")
    search_help_text = gettext_lazy("按名称、简称或代码查找")
    fields = ("kind", "code", "name", "short_name", "is_active")
    kind_label = status_column(
        {"purchaser": "info", "supplier": "warning", "bank": "success"},
        field="kind",
        description=gettext_lazy("类别"),
    )

    @display(description=gettext_lazy("启用"))
    def activity(self, row: Organisation) -> Any:
        """Say in words whether the organisation takes part."""
        return badge(_("启用"), "success") if row.is_active else badge(_("停用"))


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
        help_text=gettext_lazy("系统管理员、安全管理员、审计员三个角色互斥，且不能与其他角色兼任"),
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
        help_text=gettext_lazy("至少 10 个字符，不能全为数字，不能与姓名相近"),
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

    list_display = ("username", "get_full_name", "organisation", "role_labels", "activity", "last_login")
    list_filter = (
        organisation_filter("organisation", OrganisationKind.BANK, gettext_lazy("银行")),
        "is_active",
    )
    list_select_related = ("organisation",)
    search_fields = ("^username", "last_name", "first_name")
    search_help_text = gettext_lazy("按用户名或姓名查找")
    fields = (
        "username",
        "get_full_name",
        "organisation",
        "role_labels",
        "activity",
        "last_login",
        "date_joined",
    )
    ordering = ("username",)
    actions_list = ("add_person",)
    actions_detail = ("change_person", "set_password")

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
        return _("已新增用户 %(name)s") % {"name": user.username}

    @verb(
        label=gettext_lazy("修改"),
        permission="portal.change_user",
        form=ChangeUserForm,
        when=_is_person,
        icon="edit",
    )
    def change_person(self, request: HttpRequest, row: User, cleaned: dict[str, Any]) -> str:
        """Change a user."""
        change_user(row, **cleaned, actor=signed_in(request))
        return _("已保存")

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


class TokenForm(VerbForm):
    """Whose token, for what and for how long."""

    user = forms.ModelChoiceField(
        label=gettext_lazy("用户"), queryset=User.objects.none(), empty_label=gettext_lazy("请选择")
    )
    name = forms.CharField(label=gettext_lazy("用途"), max_length=64)
    days = forms.IntegerField(
        label=gettext_lazy("有效天数"), initial=90, min_value=1, max_value=MAX_TOKEN_DAYS
    )

    def prepare(self) -> None:
        """Offer people who may sign in."""
        people = User.objects.filter(is_active=True, is_system=False).order_by("username")
        cast("forms.ModelChoiceField[User]", self.fields["user"]).queryset = people


@register(ApiToken)
class ApiTokenAdmin(ScopedAdmin[ApiToken]):
    """Bearer tokens of the API."""

    list_display = ("name", "user", "validity", "created_at", "expires_at", "last_used_at")
    list_select_related = ("user",)
    actions_list = ("issue",)
    actions_detail = ("revoke",)
    fields = ("name", "user", "validity", "created_at", "expires_at", "last_used_at", "revoked_at")

    @display(description=gettext_lazy("状态"))
    def validity(self, row: ApiToken) -> Any:
        """Say whether the token still opens the API."""
        if row.revoked_at:
            return badge(_("已撤销"), "danger")
        return badge(_("已过期")) if row.expires_at <= timezone.now() else badge(_("有效"), "success")

    @verb(
        label=gettext_lazy("签发令牌"),
        permission="portal.add_apitoken",
        form=TokenForm,
        icon="vpn_key",
        variant=ActionVariant.PRIMARY,
    )
    def issue(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Issue a token and show it this once."""
        token, text = issue_token(**cleaned, actor=signed_in(request))
        return result_page(
            self,
            request,
            token,
            title=_("令牌已签发"),
            body=format_html('<p class="pk-secret" id="token">{}</p>', text),
            help_text=_("请立即复制并妥善保存。离开本页后无法再次显示，平台只保存其摘要。"),
        )

    @verb(
        label=gettext_lazy("撤销"),
        permission="portal.revoke_apitoken",
        when=lambda token: token.revoked_at is None,
        icon="block",
        variant=ActionVariant.DANGER,
    )
    def revoke(self, request: HttpRequest, row: ApiToken, cleaned: dict[str, Any]) -> str:
        """Revoke a token."""
        revoke_token(row, actor=signed_in(request))
        return _("令牌已撤销")


TASK_NAMES = {
    "open_package": gettext_lazy("打开数据包"),
    "check_chunk": gettext_lazy("校验记录"),
    "check_account_file": gettext_lazy("预检账号文件"),
    "load_account_file": gettext_lazy("导入账号文件"),
    "match_bank": gettext_lazy("匹配账号"),
    "prepare_run": gettext_lazy("准备制卡数据"),
    "make_run": gettext_lazy("生产线制作"),
    "inspect_cards": gettext_lazy("读回核对"),
    "write_list": gettext_lazy("生成交接清单"),
    "write_return_file": gettext_lazy("生成回盘文件"),
    "certify": gettext_lazy("出具销毁证明"),
}


@register(Task)
class TaskAdmin(ScopedAdmin[Task]):
    """Background work, above all what failed."""

    list_display = (
        "handler_name",
        "subject",
        "part",
        "state",
        "attempts",
        "error_code",
        "created_at",
        "finished_at",
    )
    list_filter = (
        ("status", ChoicesDropdownFilter),
        exact_filter("subject_type", gettext_lazy("对象类别")),
        exact_filter("subject_id", gettext_lazy("对象编号")),
    )
    list_select_related = ("requested_by",)
    actions_detail = ("retry",)
    fields = (
        "handler", "subject", "part", "queue", "state", "attempts", "error_code", "error",
        "requested_by",
        "created_at", "enqueued_at", "started_at", "finished_at",
    )  # fmt: skip
    state = status_column({"queued": "info", "done": "success", "failed": "danger"})
    error = told_column("error_text", gettext_lazy("错误"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        """Show suppliers only what their own people or the system started for nobody in particular."""
        rows = super().get_queryset(request)
        home = signed_in(request).organisation
        if home is not None and home.kind == OrganisationKind.PURCHASER:
            return rows
        return rows.filter(requested_by__organisation=home) if home is not None else rows.none()

    @display(description=gettext_lazy("处理程序"))
    def handler_name(self, row: Task) -> str:
        """Say what the task does."""
        name = row.handler.rsplit(".", 1)[-1]
        return str(TASK_NAMES.get(name, name))

    @display(description=gettext_lazy("对象"))
    def subject(self, row: Task) -> str:
        """Name what the task works on."""
        try:
            kind = apps.get_model(row.subject_type)._meta.verbose_name
        except LookupError:
            kind = row.subject_type
        return f"{kind} #{row.subject_id}"

    @verb(
        label=gettext_lazy("重试"),
        permission="portal.retry_task",
        when=lambda task: task.status == TaskStatus.FAILED,
        icon="replay",
        help_text=gettext_lazy("请先排除失败原因。任务可重复执行，不会重复处理已完成的部分。"),
    )
    def retry(self, request: HttpRequest, row: Task, cleaned: dict[str, Any]) -> str:
        """Retry a failed task."""
        retry_task(row, actor=signed_in(request))
        return _("任务已重新排队")
