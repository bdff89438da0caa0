"""Account files of the banks: upload, dry run, error workbook, load (R-8, R-9)."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from orders.choices import AccountFileStatus
from orders.models import AccountFile
from orders.problem_labels import account_problem_label
from orders.selectors.accounts import account_report
from orders.services.accounts import (
    check_account_file,
    load_account_file,
    problem_workbook,
    upload_account_file,
)
from portal.adminkit import (
    ProgressAdmin,
    VerbForm,
    badge,
    grouped,
    organisation_filter,
    register,
    status_column,
    table,
    verb,
    written,
)
from portal.choices import OrganisationKind
from portal.core.errors import InputRefusedError
from portal.models import User
from portal.texts import coded, told

COLOURS = {
    "received": "info",
    "checked": "warning",
    "loaded": "success",
    "refused": "danger",
    "destroyed": "",
}
SHOWN_PROBLEMS = 100


class UploadAccountsForm(VerbForm):
    """One account file."""

    file = forms.FileField(
        label=gettext_lazy("账号文件"),
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.xlsx"}),
        help_text=gettext_lazy("CSV 或 XLSX，须有证件号码、户名、账号三列；号码和账号请用文本格式。"),
    )

    @classmethod
    def upload_limit(cls) -> int:
        """Take what the installation allows an account file."""
        return settings.MAX_ACCOUNT_FILE_BYTES

    def clean_file(self) -> Any:
        """Refuse a file above the installation's limit."""
        return self.bounded_file("file")


def _is_checked(file: AccountFile) -> bool:
    return file.status == AccountFileStatus.CHECKED and bool(file.good_count)


@register(AccountFile)
class AccountFileAdmin(ProgressAdmin[AccountFile]):
    """Account files as the banks sent them."""

    list_display = ("file_name", "bank", "state", "rows", "good", "refused", "uploaded_by", "uploaded_at")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        organisation_filter("bank", OrganisationKind.BANK, gettext_lazy("银行")),
    )
    list_select_related = ("bank", "package", "uploaded_by")
    actions_list = ("upload",)
    actions_detail = ("load", "download_problems", "recheck")
    state = status_column(cast("Any", COLOURS))
    fieldsets = (
        (
            None,
            {"fields": ("file_name", "bank", "package", "state", "refusal", "uploaded_by", "uploaded_at")},
        ),
        (gettext_lazy("预检结果"), {"fields": ("balance", "problems")}),
        (gettext_lazy("文件"), {"fields": ("size", "digest_text")}),
    )

    @display(description=gettext_lazy("行数"))
    def rows(self, row: AccountFile) -> str:
        """Count the rows of the file."""
        return grouped(row.row_count)

    @display(description=gettext_lazy("有效行"))
    def good(self, row: AccountFile) -> str:
        """Count the rows that can be loaded."""
        return grouped(row.good_count)

    @display(description=gettext_lazy("问题行"))
    def refused(self, row: AccountFile) -> Any:
        """Count the rows that cannot."""
        return (
            badge(grouped(row.refused_count), "warning") if row.refused_count else grouped(row.refused_count)
        )

    @display(description=gettext_lazy("拒收原因"))
    def refusal(self, row: AccountFile) -> str:
        """Say why the file was refused."""
        return coded(row.refusal_text, row.refusal_code) if row.refusal_code else "-"

    @display(description=gettext_lazy("行数 = 有效 + 问题"))
    def balance(self, row: AccountFile) -> str:
        """Show that every row is accounted for."""
        if row.row_count is None:
            return "-"
        return f"{grouped(row.row_count)} = {grouped(row.good_count)} + {grouped(row.refused_count)}"

    @display(description=gettext_lazy("问题"))
    def problems(self, row: AccountFile) -> Any:
        """List the first findings by row and column; what came stands in the bank's workbook only."""
        if row.problems_sealed is None:
            return "-"
        if row.status == AccountFileStatus.DESTROYED:
            return _("已销毁")
        found = account_report(row).problems
        lines: list[tuple[Any, ...]] = [
            (
                found_one.row_number,
                found_one.column,
                account_problem_label(found_one.code),
                told(found_one.expected),
            )
            for found_one in found[:SHOWN_PROBLEMS]
        ]
        if len(found) > SHOWN_PROBLEMS:
            lines.append(("…", "", _("共 %(count)s 条，其余见问题清单") % {"count": grouped(len(found))}, ""))
        return table([_("行号"), _("列"), _("问题"), _("应为")], lines, empty=_("没有问题"))

    @display(description=gettext_lazy("SM3 摘要"))
    def digest_text(self, row: AccountFile) -> str:
        """Show the file's digest."""
        return bytes(row.digest).hex()

    @verb(
        label=gettext_lazy("上传账号文件"),
        permission="orders.upload_accounts",
        form=UploadAccountsForm,
        icon="upload_file",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy("上传后自动预检，只检查、不导入；确认无误后再点“导入”。"),
    )
    def upload(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Take a file in for the user's own bank and go to its page."""
        user, file = cast("User", request.user), cleaned["file"]
        if user.organisation is None:
            raise InputRefusedError("您的账户没有所属银行")
        row_ = upload_account_file(file.file, file_name=file.name, bank=user.organisation, actor=user)
        messages.success(request, _("已接收账号文件，正在后台预检"))
        return redirect("admin:orders_accountfile_change", row_.pk)

    @verb(
        label=gettext_lazy("导入"),
        permission="orders.upload_accounts",
        when=_is_checked,
        icon="database_upload",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy("导入有效的行，同一人员以最新账号为准；导入后自动匹配。问题行不会导入。"),
    )
    def load(self, request: HttpRequest, row: AccountFile, cleaned: dict[str, Any]) -> str:
        """Load the good rows."""
        load_account_file(row, actor=cast("User", request.user))
        return _("正在后台导入并匹配")

    @verb(
        label=gettext_lazy("重新预检"),
        permission="orders.upload_accounts",
        when=lambda file: file.status == AccountFileStatus.RECEIVED,
        icon="rule",
    )
    def recheck(self, request: HttpRequest, row: AccountFile, cleaned: dict[str, Any]) -> str:
        """Schedule the dry run."""
        check_account_file(row, actor=cast("User", request.user))
        return _("已安排预检")

    @verb(
        label=gettext_lazy("下载问题清单"),
        permission="orders.upload_accounts",
        when=lambda file: bool(file.refused_count) and file.status != AccountFileStatus.DESTROYED,
        icon="download",
        download=True,
    )
    def download_problems(
        self, request: HttpRequest, row: AccountFile, cleaned: dict[str, Any]
    ) -> HttpResponseBase:
        """Send the findings as Excel."""
        write = partial(problem_workbook, row, actor=cast("User", request.user))
        return written(f"账号文件问题清单-{row.pk}.xlsx", write)
