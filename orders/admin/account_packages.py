"""Sealed account packages of the banks: what was taken in, and why one was not (R-8)."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import display
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from orders.models import AccountPackage
from orders.services.registry import fingerprint
from orders.services.sealed_accounts import FRAME_BYTES, receive_accounts
from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    grouped,
    link,
    organisation_filter,
    register,
    status_column,
    table,
    verb,
)
from portal.choices import OrganisationKind
from portal.models import User
from portal.texts import coded

COLOURS = {"received": "success", "refused": "danger"}


class UploadAccountPackageForm(VerbForm):
    """One sealed account package."""

    file = forms.FileField(
        label=gettext_lazy("密封账号包"),
        help_text=gettext_lazy("用 seal_package.py --accounts 生成、以本行私钥签名的文件。"),
    )

    @classmethod
    def upload_limit(cls) -> int:
        """Take what the installation allows an account file, and the seal around it."""
        return settings.MAX_ACCOUNT_FILE_BYTES + FRAME_BYTES

    def clean_file(self) -> Any:
        """Refuse a file above the installation's limit."""
        return self.bounded_file("file")


@register(AccountPackage)
class AccountPackageAdmin(ScopedAdmin[AccountPackage]):
    """Sealed account packages as they came."""

    list_display = ("number", "bank", "state", "file_count", "refusal", "received_by", "received_at")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        organisation_filter("bank", OrganisationKind.BANK, gettext_lazy("银行")),
    )
    list_select_related = ("bank", "received_by")
    actions_list = ("upload",)
    state = status_column(cast("Any", COLOURS))
    fieldsets = (
        (None, {"fields": ("number", "bank", "state", "refusal", "file_name", "received_by", "received_at")}),
        (gettext_lazy("内容"), {"fields": ("files", "signed_with", "digest")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccountPackage]:
        """Count the files of each package."""
        return super().get_queryset(request).annotate(counted=Count("files"))

    @display(description=gettext_lazy("文件数"))
    def file_count(self, row: AccountPackage) -> str:
        """Count the account files that came with the package."""
        return grouped(cast("Any", row).counted)

    @display(description=gettext_lazy("拒收原因"))
    def refusal(self, row: AccountPackage) -> str:
        """Say why the package was refused."""
        return coded(row.refusal_text, row.refusal_code) if row.refusal_code else "-"

    @display(description=gettext_lazy("账号文件"))
    def files(self, row: AccountPackage) -> Any:
        """List the account files and where each stands."""
        lines = [
            (
                link(reverse("admin:orders_accountfile_change", args=[file.pk]), file.file_name),
                file.get_status_display(),
            )
            for file in row.files.order_by("pk")
        ]
        return table([_("文件名"), _("状态")], lines, empty=_("没有文件"))

    @display(description=gettext_lazy("签名公钥指纹"))
    def signed_with(self, row: AccountPackage) -> str:
        """Show which of the bank's keys vouches for the package."""
        return fingerprint(row.sender_key) if row.sender_key else "-"

    @display(description=gettext_lazy("SM3 摘要"))
    def digest(self, row: AccountPackage) -> str:
        """Show the digest the bank signed."""
        return bytes(row.payload_digest).hex() if row.payload_digest else "-"

    @verb(
        label=gettext_lazy("上传密封账号包"),
        permission="orders.upload_accounts",
        form=UploadAccountPackageForm,
        icon="upload_file",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy(
            "先核对签名、收件方和摘要，再解密；任何一项不符整包拒收，原因记入列表和审计。"
        ),
    )
    def upload(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Receive a package and go to its page."""
        upload = cleaned["file"]
        package = receive_accounts(upload.file, file_name=upload.name, actor=cast("User", request.user))
        return taken_in(request, package)


def taken_in(request: HttpRequest, package: AccountPackage) -> HttpResponse:
    """Say what came and go to the package's page."""
    said = _("已接收密封账号包 %(number)s：%(count)s 个账号文件，正在后台预检")
    messages.success(request, said % {"number": package.number, "count": package.files.count()})
    return redirect("admin:orders_accountpackage_change", package.pk)
