"""Packages: upload, progress, what was returned and why (R-8, R-9)."""

from __future__ import annotations

from functools import partial
from typing import Any, cast
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.enums import ActionVariant

from orders.admin.account_packages import taken_in
from orders.choices import RecordStatus
from orders.models import AccountPackage, Package
from orders.problem_labels import problem_label
from orders.selectors.packages import problem_counts, validation_of
from orders.services.records import return_list
from orders.services.sealed_accounts import receive_sealed
from portal.adminkit import (
    ProgressAdmin,
    VerbForm,
    badge,
    bar,
    grouped,
    register,
    status_column,
    table,
    verb,
    written,
)
from portal.models import User
from portal.texts import coded

COLOURS = {
    "received": "info",
    "validating": "info",
    "validated": "success",
    "refused": "danger",
    "destroyed": "",
}


class UploadPackageForm(VerbForm):
    """One sealed package."""

    file = forms.FileField(
        label=gettext_lazy("数据包文件"),
        help_text=gettext_lazy("发送方加密、签名后的 ZIP 文件。接收时先核对签名与摘要，再解密。"),
    )

    @classmethod
    def upload_limit(cls) -> int:
        """Take what the installation allows a package."""
        return settings.MAX_PACKAGE_BYTES

    def clean_file(self) -> Any:
        """Refuse a file above the installation's limit."""
        return self.bounded_file("file")


@register(Package)
class PackageAdmin(ProgressAdmin[Package]):
    """Sealed packages as they were received."""

    list_display = ("number", "sender", "state", "records", "accepted", "returned", "refusal", "received_at")
    list_filter = (("status", ChoicesDropdownFilter), ("received_at", RangeDateTimeFilter))
    list_select_related = ("sender",)
    search_fields = ("number__exact",)
    search_help_text = gettext_lazy("按完整包号查找")
    actions_list = ("upload",)
    actions_detail = ("download_returns", "show_returned", "show_records")
    state = status_column(cast("Any", COLOURS))
    fieldsets = (
        (
            None,
            {"fields": ("number", "sender", "state", "refusal", "file_name", "received_at", "received_by")},
        ),
        (gettext_lazy("校验结果"), {"fields": ("checked", "balance", "problems", "validated_at")}),
        (gettext_lazy("保存与销毁"), {"fields": ("digest", "payload_length", "destroyed_at")}),
    )

    @display(description=gettext_lazy("记录数"))
    def records(self, row: Package) -> str:
        """Count the package's rows."""
        return grouped(row.record_count)

    @display(description=gettext_lazy("接受"))
    def accepted(self, row: Package) -> str:
        """Count the rows that go on."""
        return grouped(row.accepted_count)

    @display(description=gettext_lazy("退回"))
    def returned(self, row: Package) -> Any:
        """Count the rows that went back."""
        if not row.returned_count:
            return grouped(row.returned_count)
        return badge(grouped(row.returned_count), "warning")

    @display(description=gettext_lazy("拒收原因"))
    def refusal(self, row: Package) -> Any:
        """Say why the package was refused."""
        return coded(row.refusal_text, row.refusal_code) if row.refusal_code else "-"

    @display(description=gettext_lazy("校验进度"))
    def checked(self, row: Package) -> Any:
        """Show how many rows are checked."""
        if not row.record_count:
            return "-"
        state = validation_of(row)
        words = _("%(done)s / %(all)s 行") % {"done": grouped(state.checked), "all": grouped(state.records)}
        return bar(state.checked, state.records, words, "success" if state.percent == 100 else "")

    @display(description=gettext_lazy("记录 = 接受 + 退回"))
    def balance(self, row: Package) -> str:
        """Show that nothing is lost: in = accepted + returned."""
        if row.accepted_count is None:
            return "-"
        return f"{grouped(row.record_count)} = {grouped(row.accepted_count)} + {grouped(row.returned_count)}"

    @display(description=gettext_lazy("退回原因"))
    def problems(self, row: Package) -> Any:
        """Count what is wrong by code."""
        lines = [(problem_label(code), code, grouped(count)) for code, count in problem_counts(row)]
        return table([_("问题"), _("代码"), _("行数")], lines, empty=_("没有退回的行"))

    @display(description=gettext_lazy("SM3 摘要"))
    def digest(self, row: Package) -> str:
        """Show the digest the sender signed."""
        return bytes(row.payload_digest).hex() if row.payload_digest else "-"

    @verb(
        label=gettext_lazy("上传数据包"),
        permission="orders.receive_package",
        form=UploadPackageForm,
        icon="upload_file",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy(
            "签名不符、重复、收件方不对、内容不完整的数据包会整包拒收，原因记入列表和审计。"
        ),
    )
    def upload(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Receive a package and go to its page."""
        upload = cleaned["file"]
        package = receive_sealed(upload.file, file_name=upload.name, actor=cast("User", request.user))
        if isinstance(package, AccountPackage):
            return taken_in(request, package)
        messages.success(request, _("已接收数据包 %(number)s，正在后台校验") % {"number": package.number})
        return redirect("admin:orders_package_change", package.pk)

    @verb(
        label=gettext_lazy("下载退回清单"),
        permission="orders.export_returns",
        when=lambda package: bool(package.returned_count),
        icon="download",
        download=True,
    )
    def download_returns(
        self, request: HttpRequest, row: Package, cleaned: dict[str, Any]
    ) -> HttpResponseBase:
        """Send the list of returned rows as Excel."""
        write = partial(return_list, row, actor=cast("User", request.user))
        return written(f"退回清单-{row.number}.xlsx", write)

    @verb(
        label=gettext_lazy("查看退回的行"),
        permission="orders.view_cardholderrecord",
        when=lambda package: bool(package.returned_count),
        icon="rule",
        download=True,
    )
    def show_returned(self, request: HttpRequest, row: Package, cleaned: dict[str, Any]) -> HttpResponse:
        """Go to the returned rows of the package."""
        return _records_of(row, status__exact=RecordStatus.RETURNED)

    @verb(
        label=gettext_lazy("查看全部记录"),
        permission="orders.view_cardholderrecord",
        when=lambda package: bool(package.record_count),
        icon="groups",
        download=True,
    )
    def show_records(self, request: HttpRequest, row: Package, cleaned: dict[str, Any]) -> HttpResponse:
        """Go to all rows of the package."""
        return _records_of(row)


def _records_of(package: Package, **also: str) -> HttpResponse:
    query = urlencode({"package": package.number, **also})
    return redirect(f"{reverse('admin:orders_cardholderrecord_changelist')}?{query}")
