"""Public keys of those who send packages; kept by the security administrator."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django import forms
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.enums import ActionVariant

from orders.choices import KeyUse
from orders.models import SenderKey
from orders.services.registry import SENDERS, add_sender_key, read_public_key, revoke_sender_key
from portal.adminkit import ScopedAdmin, VerbForm, badge, register, verb
from portal.models import Organisation, User

VALIDITY = timedelta(days=366)


class SenderKeyForm(VerbForm):
    """Whose key, and when it is valid."""

    organisation = forms.ModelChoiceField(
        label=gettext_lazy("发送方"), queryset=Organisation.objects.none(), empty_label=gettext_lazy("请选择")
    )
    public_key = forms.CharField(
        label=gettext_lazy("SM2 公钥"),
        widget=forms.Textarea,
        help_text=gettext_lazy("PEM（BEGIN PUBLIC KEY）或 128 位十六进制。登记后请与发送方电话核对指纹。"),
    )
    proof = forms.CharField(
        label=gettext_lazy("持有证明"),
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("发送方运行 seal_package.py --prove 得到的十六进制签名，证明私钥在其手中。"),
    )
    use = forms.ChoiceField(label=gettext_lazy("用途"), choices=KeyUse.choices, initial=KeyUse.BOTH)
    valid_from = forms.DateTimeField(label=gettext_lazy("生效时间"), widget=forms.DateTimeInput)
    valid_until = forms.DateTimeField(label=gettext_lazy("失效时间"), widget=forms.DateTimeInput)

    def prepare(self) -> None:
        """Offer senders, and a year from now."""
        rows = Organisation.objects.visible_to(cast("User", self.request.user))
        field = cast("forms.ModelChoiceField[Organisation]", self.fields["organisation"])
        field.queryset = rows.filter(kind__in=SENDERS, is_active=True)
        now = timezone.localtime().replace(second=0, microsecond=0)
        self.fields["valid_from"].initial = now.strftime("%Y-%m-%dT%H:%M")
        self.fields["valid_until"].initial = (now + VALIDITY).strftime("%Y-%m-%dT%H:%M")


@register(SenderKey)
class SenderKeyAdmin(ScopedAdmin[SenderKey]):
    """Keys of the senders, the old ones too."""

    list_display = ("organisation", "fingerprint", "validity", "use", "valid_from", "valid_until", "added_by")
    list_select_related = ("organisation", "added_by")
    actions_list = ("add_key",)
    actions_detail = ("revoke",)
    fields = (
        "organisation",
        "fingerprint",
        "validity",
        "use",
        "valid_from",
        "valid_until",
        "added_by",
        "added_at",
        "revoked_by",
        "revoked_at",
        "public_key",
    )

    @display(description=gettext_lazy("指纹"))
    def fingerprint(self, row: SenderKey) -> str:
        """Show what people compare over the telephone."""
        return read_public_key(row.public_key).fingerprint()

    @display(description=gettext_lazy("状态"))
    def validity(self, row: SenderKey) -> Any:
        """Say whether packages signed with the key are taken."""
        now = timezone.now()
        if row.revoked_at:
            return badge(_("已撤销"), "danger")
        if row.valid_until <= now:
            return badge(_("已过期"))
        return badge(_("有效"), "success") if row.valid_from <= now else badge(_("未生效"), "info")

    @verb(
        label=gettext_lazy("登记公钥"),
        permission="orders.add_senderkey",
        form=SenderKeyForm,
        icon="key",
        variant=ActionVariant.PRIMARY,
    )
    def add_key(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Register a key and show its fingerprint."""
        key = add_sender_key(**cleaned, actor=cast("User", request.user))
        return _("已登记，指纹 %(fingerprint)s") % {"fingerprint": self.fingerprint(key)}

    @verb(
        label=gettext_lazy("撤销"),
        permission="orders.revoke_senderkey",
        when=lambda key: key.revoked_at is None,
        icon="block",
        variant=ActionVariant.DANGER,
        help_text=gettext_lazy("撤销后，用该公钥签名的数据包一律拒收，且不能恢复。"),
    )
    def revoke(self, request: HttpRequest, row: SenderKey, cleaned: dict[str, Any]) -> str:
        """Revoke a key."""
        revoke_sender_key(row, actor=cast("User", request.user))
        return _("公钥已撤销")
