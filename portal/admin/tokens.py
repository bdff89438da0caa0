"""Admin of the API's tokens."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.enums import ActionVariant

from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    badge,
    register,
    result_page,
    signed_in,
    verb,
)
from portal.models import ApiToken, User
from portal.services.tokens import MAX_TOKEN_DAYS, issue_token, revoke_token
from portal.texts import listed
from portal.token_scopes import SCOPES


class TokenForm(VerbForm):
    """Whose token, for what and for how long."""

    user = forms.ModelChoiceField(
        label=gettext_lazy("用户"), queryset=User.objects.none(), empty_label=gettext_lazy("请选择")
    )
    name = forms.CharField(label=gettext_lazy("用途"), max_length=64)
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("权限范围"),
        choices=[(name, scope.label) for name, scope in SCOPES.items()],
        help_text=gettext_lazy("只选需要的；不得超出该用户的角色，角色变小时令牌随之变小"),
    )
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

    list_display = ("name", "user", "scope_labels", "validity", "created_at", "expires_at", "last_used_at")
    list_select_related = ("user",)
    actions_list = ("issue",)
    actions_detail = ("revoke",)
    fields = (
        "name",
        "user",
        "scope_labels",
        "validity",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    )

    @display(description=gettext_lazy("权限范围"))
    def scope_labels(self, row: ApiToken) -> str:
        """Name what the token opens."""
        return listed(SCOPES[name].label for name in row.scopes if name in SCOPES) or "-"

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
