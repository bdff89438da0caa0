"""Admin of the card master keys: what the key store holds, by check values, and the two-person import."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.enums import ActionVariant

from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    badge,
    register,
    signed_in,
    status_column,
    table,
    verb,
)
from portal.choices import KeyImportStatus
from portal.core.clock import today
from portal.core.errors import PortalError
from portal.core.keystore import MasterKey
from portal.models import KeyImport
from portal.services.keys import (
    cancel_key_import,
    finish_key_import,
    master_key_names,
    master_keys,
    start_key_import,
)
from portal.texts import described, told

COMPONENT_HELP = gettext_lazy("32 位十六进制，可按 4 位一组输入；不会显示、保存到数据库或写入日志")


def _component_field(label: Any) -> forms.CharField:
    # Browsers must neither show nor remember what is typed here.
    hidden = forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    return forms.CharField(label=label, widget=hidden, max_length=80, help_text=COMPONENT_HELP)


def _check_value_field(label: Any, help_text: Any = "") -> forms.CharField:
    return forms.CharField(label=label, min_length=6, max_length=12, help_text=help_text)


class StartForm(VerbForm):
    """The announced key and the first person's component."""

    name = forms.ChoiceField(label=gettext_lazy("主密钥"))
    version = forms.IntegerField(
        label=gettext_lazy("版本"),
        min_value=1,
        help_text=gettext_lazy("新版本号须大于已有版本；制卡使用有效期内的最高版本"),
    )
    check_value = _check_value_field(
        gettext_lazy("主密钥校验值"), gettext_lazy("密钥下发方公布的整把主密钥校验值，6 位十六进制")
    )
    valid_from = forms.DateField(label=gettext_lazy("启用日期"), required=False)
    valid_until = forms.DateField(
        label=gettext_lazy("停用日期"),
        required=False,
        help_text=gettext_lazy("含当日；停用后不再用于新的制卡，仍可核验已制的卡。不填表示不限"),
    )
    component = _component_field(gettext_lazy("分量一"))
    component_check_value = _check_value_field(gettext_lazy("分量一校验值"))

    def prepare(self) -> None:
        """Offer the master keys that the cards need."""
        choices = [(name, f"{name}（{told(use)}）") for name, use in sorted(master_key_names().items())]
        field = cast("forms.ChoiceField", self.fields["name"])
        field.choices = [("", _("请选择")), *choices]


class FinishForm(VerbForm):
    """The second person's component."""

    component = _component_field(gettext_lazy("分量二"))
    component_check_value = _check_value_field(gettext_lazy("分量二校验值"))


def _waits(row: KeyImport) -> bool:
    return row.status == KeyImportStatus.WAITING


@register(KeyImport)
class KeyImportAdmin(ScopedAdmin[KeyImport]):
    """Ceremonies, below the list of what the key store holds."""

    list_display = (
        "name",
        "version",
        "check_value",
        "state",
        "first_by",
        "second_by",
        "started_at",
        "expires_at",
        "closed_at",
    )
    list_filter = ("status",)
    list_select_related = ("first_by", "second_by")
    list_before_template = "admin/portal/master_keys.html"
    actions_list = ("start_import",)
    actions_detail = ("finish_import", "cancel_import")
    fields = (
        "name", "version", "check_value", "valid_from", "valid_until", "state", "first_by", "second_by",
        "started_at", "expires_at", "closed_at",
    )  # fmt: skip
    state = status_column(
        {"waiting": "warning", "imported": "success", "failed": "danger", "cancelled": "", "expired": ""}
    )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the key store's master keys above the ceremonies."""
        shown = {"master_keys": _master_key_table()}
        return super().changelist_view(request, {**(extra_context or {}), **shown})

    @verb(
        label=gettext_lazy("导入主密钥：录入分量一"),
        permission="portal.import_key",
        form=StartForm,
        icon="key",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy(
            "两名安全管理员各持一个分量，在不同时间、互不在场地录入。分量一密封保存在密钥库中，"
            "等待另一人录入分量二；逾期或取消即销毁。"
        ),
    )
    def start_import(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Take the first component."""
        begun = start_key_import(**cleaned, actor=signed_in(request))
        return _("已录入 %(key)s 的分量一，请另一名安全管理员录入分量二") % {"key": begun}

    @verb(
        label=gettext_lazy("录入分量二"),
        permission="portal.import_key",
        form=FinishForm,
        when=_waits,
        second_after="first_by",
        icon="vpn_key",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy(
            "两个分量合成的主密钥须与公布的校验值一致。不一致时两个分量都不保留，双方重新录入。"
        ),
    )
    def finish_import(self, request: HttpRequest, row: KeyImport, cleaned: dict[str, Any]) -> str:
        """Take the second component and keep the key."""
        master = finish_key_import(row, **cleaned, actor=signed_in(request))
        return _("主密钥 %(key)s 已导入，校验值 %(value)s") % {"key": row, "value": master.check_value}

    @verb(
        label=gettext_lazy("取消导入"),
        permission="portal.import_key",
        when=_waits,
        icon="block",
        variant=ActionVariant.DANGER,
        help_text=gettext_lazy("分量一将被销毁，需要时重新开始。"),
    )
    def cancel_import(self, request: HttpRequest, row: KeyImport, cleaned: dict[str, Any]) -> str:
        """End a ceremony that waits."""
        cancel_key_import(row, actor=signed_in(request))
        return _("导入已取消，分量一已销毁")


def _master_key_table() -> SafeString:
    """Return what the key store holds, or why it cannot be opened."""
    try:
        masters, names = master_keys(), master_key_names()
    except PortalError as exc:
        return badge(described(exc), "danger", "error")
    rows = [_line(master, names.get(master.name, "")) for master in masters]
    headers = [_("主密钥"), _("用途"), _("版本"), _("校验值"), _("启用日期"), _("停用日期"), _("状态")]
    return table(headers, rows, empty=_("密钥库中还没有主密钥"))


def _line(master: MasterKey, use: str) -> tuple[Any, ...]:
    return (
        master.name,
        told(use) or "-",
        master.version,
        master.check_value,
        _day(master.valid_from),
        _day(master.valid_until),
        _state(master),
    )


def _day(day: Any) -> str:
    return "-" if day is None else date_format(day)


def _state(master: MasterKey) -> SafeString:
    if master.test:
        return badge(_("测试密钥"), "warning")
    if master.is_valid(today()):
        return badge(_("有效"), "success")
    started = master.valid_from is None or master.valid_from <= today()
    return badge(_("已停用")) if started else badge(_("未启用"), "info")
