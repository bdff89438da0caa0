"""Cardholder records: masked in every list, found by exact value only, corrected and unmasked as events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from orders.choices import RecordStatus
from orders.dictionary import COLUMNS, DOCUMENT_TYPES, ETHNICITIES, LABELS, SEXES
from orders.models import CardholderRecord
from orders.personal import PersonalPart, masked_name, masked_number, open_problems, open_source
from orders.problem_labels import problem_label
from orders.services.lookup import OpenedRow, find_records, open_for_correction, view_record
from orders.services.matching import unmatched_report
from orders.services.records import Unmasked, correct_record, unmask_record
from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    badge,
    exact_filter,
    link,
    organisation_filter,
    register,
    result_page,
    signed_in,
    status_column,
    table,
    verb,
    written,
)
from portal.choices import OrganisationKind
from portal.core.errors import PortalError
from portal.core.keystore import KeyDestroyedError, KeyMissingError
from portal.core.problems import Problem
from portal.models import Organisation, User
from portal.texts import coded, described, listed, told

T = TypeVar("T")
COLOURS = {
    "returned": "warning", "accepted": "info", "matched": "success", "ordered": "success",
    "superseded": "", "cancelled": "",
}  # fmt: skip
CORRECTED = tuple(column for column in COLUMNS if column.code != "seq")
# What was received in these columns may be a person's; it stands on the correction page only.
PUBLIC_FIELDS = frozenset(
    "AAE008 branch issue_kind card_kind AAC058 AAB301 AAC004 AAC005 issue_date expiry_date photo".split()
)
MAX_PHOTO_UPLOAD = 2 * 2**20


def _finding(problem: Problem) -> str:
    words = {"problem": problem_label(problem.code), "expected": told(problem.expected)}
    return _("%(problem)s，应为：%(expected)s") % words


class FindForm(VerbForm):
    """What to look for; sent in the body, so that no value stands in an address or a log."""

    number = forms.CharField(label=gettext_lazy("社会保障号码"), max_length=40, required=False)
    card_number = forms.CharField(label=gettext_lazy("社会保障卡号"), max_length=20, required=False)
    name = forms.CharField(label=gettext_lazy("姓名"), max_length=200, required=False)


class ReasonForm(VerbForm):
    """Why somebody looks."""

    reason = forms.CharField(
        label=gettext_lazy("查看理由"), max_length=200, help_text=gettext_lazy("本次查看连同理由记入审计")
    )


class CorrectionForm(VerbForm):
    """A returned row with one box for each column, the wrong ones marked."""

    reason = forms.CharField(label=gettext_lazy("补录依据"), max_length=200)

    def prepare(self) -> None:
        """Put every column into a box of its own, as it was received."""
        record = cast("CardholderRecord", self.row)
        self.opened = self._open(record)
        if self.opened is None:
            return
        wrong = {problem.field: problem for problem in self.opened.problems}
        for column in CORRECTED:
            problem = wrong.get(column.code)
            box = forms.TextInput(attrs={"aria-invalid": "true"} if problem else {})
            self.fields[column.code] = forms.CharField(
                widget=box,
                label=coded(column.label, column.code),
                required=False,
                strip=False,
                initial=self.opened.source.get(column.code, ""),
                help_text=_finding(problem) if problem else "",
            )
        self.fields["photo"] = forms.FileField(
            label=_("更换照片（JPEG）"),
            required=False,
            help_text=_("%(low)s–%(high)s 字节；不更换则留空")
            % {"low": settings.PHOTO_MIN_BYTES, "high": settings.PHOTO_MAX_BYTES},
        )
        codes = [column.code for column in CORRECTED]
        self.order_fields([*sorted(codes, key=lambda code: code not in wrong), "photo", "reason"])

    def _open(self, record: CardholderRecord) -> OpenedRow | None:
        """Open the row; only the first look is an event, sending the form in is audited by the correction."""
        try:
            if self.is_bound and record.status == RecordStatus.RETURNED:
                return OpenedRow(open_source(record), open_problems(record))
            return open_for_correction(record, actor=cast("User", self.request.user))
        except PortalError as exc:
            messages.error(self.request, described(exc))
            return None

    @classmethod
    def upload_limit(cls) -> int:
        """Take more than any photo may have, so that the check can say what is wrong with it."""
        return MAX_PHOTO_UPLOAD

    def clean_photo(self) -> Any:
        """Refuse a file that cannot be a photo of a card."""
        return self.bounded_file("photo")

    def preface(self) -> Any:
        """List what is wrong: field, expected, got."""
        if self.opened is None:
            return ""
        rows = [
            (
                told(LABELS.get(found.field, found.field)),
                problem_label(found.code),
                told(found.expected),
                found.got or "-",
            )
            for found in self.opened.problems
        ]
        return format_html(
            '<div class="pk-section">{}</div>', table([_("字段"), _("问题"), _("应为"), _("实为")], rows)
        )

    def clean(self) -> dict[str, Any]:
        """Add what changed."""
        cleaned = super().clean() or {}
        return {**cleaned, "changes": self.changes()}

    def changes(self) -> dict[str, str]:
        """Return the columns that differ from what was received."""
        source = self.opened.source if self.opened else {}
        return {
            column.code: self.cleaned_data[column.code]
            for column in CORRECTED
            if column.code in self.cleaned_data
            and self.cleaned_data[column.code] != source.get(column.code, "")
        }


class UnmatchedForm(VerbForm):
    """Whose waiting records to list."""

    bank = forms.ModelChoiceField(
        label=gettext_lazy("银行"), queryset=Organisation.objects.none(), empty_label=gettext_lazy("请选择")
    )

    def prepare(self) -> None:
        """Offer the banks that the user may see."""
        rows = Organisation.objects.visible_to(cast("User", self.request.user)).filter(
            kind=OrganisationKind.BANK
        )
        cast("forms.ModelChoiceField[Organisation]", self.fields["bank"]).queryset = rows
        if len(rows) == 1:
            self.fields["bank"].initial = rows[0]


@register(CardholderRecord)
class CardholderRecordAdmin(ScopedAdmin[CardholderRecord]):
    """People's rows, masked."""

    list_display = (
        "place",
        "number",
        "name",
        "bank",
        "delivery_point",
        "kinds",
        "state",
        "waits_for",
        "order",
    )
    list_filter = (
        ("status", ChoicesDropdownFilter),
        organisation_filter("bank", OrganisationKind.BANK, gettext_lazy("银行")),
        ("unmatched_reason", ChoicesDropdownFilter),
        ("card_kind", ChoicesDropdownFilter),
        exact_filter("package", gettext_lazy("数据包号"), "package__number"),
    )
    list_select_related = ("package", "bank", "delivery_point", "order")
    actions_list = ("find", "download_unmatched")
    actions_detail = ("correct", "unmask")
    state = status_column(cast("Any", COLOURS))
    fieldsets = (
        (None, {"fields": ("place", "number", "name", "state", "version", "problems")}),
        (
            gettext_lazy("制卡要求"),
            {"fields": ("bank", "delivery_point", "employer_code", "card_kind", "issue_kind")},
        ),
        (
            gettext_lazy("办理情况"),
            {"fields": ("waits_for", "matched_at", "order", "corrected_by", "created_at")},
        ),
    )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Follow the role."""
        return request.user.has_perm("orders.view_cardholderrecord")

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        """Show a person's page; that somebody opened it is an event."""
        if obj is not None:
            view_record(obj, actor=signed_in(request))
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    @display(description=gettext_lazy("数据包与行号"))
    def place(self, row: CardholderRecord) -> Any:
        """Say where the row stands."""
        line = _("第 %(row)s 行") % {"row": row.row_number}
        return format_html('<span class="pk-nowrap">{}<br>{}</span>', row.package.number, line)

    @display(description=gettext_lazy("社会保障号码"))
    def number(self, row: CardholderRecord) -> str:
        """Show the number masked; nothing of a destroyed one."""
        return _unless_destroyed(masked_number, row) or "-"

    @display(description=gettext_lazy("姓名"))
    def name(self, row: CardholderRecord) -> Any:
        """Show the name masked; nothing of a destroyed one."""
        return format_html('<span class="pk-nowrap">{}</span>', _unless_destroyed(masked_name, row) or "-")

    @display(description=gettext_lazy("卡种 / 类型"))
    def kinds(self, row: CardholderRecord) -> str:
        """Show what card is made and why."""
        return " / ".join(filter(None, (row.get_card_kind_display(), row.get_issue_kind_display()))) or "-"

    @display(description=gettext_lazy("等待原因"))
    def waits_for(self, row: CardholderRecord) -> Any:
        """Say what is wrong or what the record waits for."""
        if row.status == RecordStatus.RETURNED:
            return listed(problem_label(code) for code in row.problem_codes)
        if row.status == RecordStatus.ACCEPTED:
            return badge(
                row.get_unmatched_reason_display() if row.unmatched_reason else _("待匹配"), "warning"
            )
        return "-"

    @display(description=gettext_lazy("问题"))
    def problems(self, row: CardholderRecord) -> Any:
        """List field, expected and got; what may be personal is left to the correction page."""
        found = _unless_destroyed(open_problems, row)
        if isinstance(found, str):
            return found
        lines = [
            (
                told(LABELS.get(problem.field, problem.field)),
                problem_label(problem.code),
                told(problem.expected),
                (problem.got or "-") if problem.field in PUBLIC_FIELDS else _("补录时显示"),
            )
            for problem in found
        ]
        return table([_("字段"), _("问题"), _("应为"), _("实为")], lines, empty=_("没有问题"))

    @verb(
        label=gettext_lazy("查找持卡人"),
        permission="orders.view_cardholderrecord",
        form=FindForm,
        limit="search",
        icon="person_search",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy("须填写完整的值；填写多项时须同时相符。查找记入审计，不记查找的内容。"),
    )
    def find(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """List the records that fit exactly."""
        found = find_records(**cleaned, actor=cast("User", request.user))
        lines = [
            (
                link(reverse("admin:orders_cardholderrecord_change", args=[record.pk]), self.place(record)),
                self.number(record),
                self.name(record),
                record.bank or "-",
                self.state(record),
            )
            for record in found
        ]
        headers = [_("数据包与行号"), _("社会保障号码"), _("姓名"), _("银行"), _("状态")]
        body = table(headers, lines, empty=_("没有相符的记录"))
        title = _("找到 %(count)s 条记录") % {"count": len(found)}
        return result_page(self, request, None, title=title, body=body)

    @verb(
        label=gettext_lazy("下载未匹配清单"),
        permission="orders.view_cardholderrecord",
        form=UnmatchedForm,
        icon="download",
        help_text=gettext_lazy("列出尚未匹配到银行账号的人员及原因，号码和姓名已脱敏。"),
    )
    def download_unmatched(
        self, request: HttpRequest, row: None, cleaned: dict[str, Any]
    ) -> HttpResponseBase:
        """Send a bank's list of waiting records as Excel."""
        bank, actor = cleaned["bank"], cast("User", request.user)
        return written(
            f"未匹配清单-{bank.code}.xlsx", lambda target: unmatched_report(bank, target, actor=actor)
        )

    @verb(
        label=gettext_lazy("补录"),
        permission="orders.correct_record",
        form=CorrectionForm,
        when=lambda record: record.status == RecordStatus.RETURNED,
        icon="edit_note",
        variant=ActionVariant.PRIMARY,
        help_text=gettext_lazy("改正有问题的项目后保存；记录以新版本重新校验，原记录保留。"),
    )
    def correct(self, request: HttpRequest, row: CardholderRecord, cleaned: dict[str, Any]) -> HttpResponse:
        """Enter the row again with its corrections and go to the new version."""
        photo = cleaned.get("photo")
        corrected = correct_record(
            row,
            changes=cleaned["changes"],
            photo=photo.read() if photo else None,
            actor=cast("User", request.user),
            reason=cleaned["reason"],
        )
        messages.success(request, _("补录成功，记录已进入待匹配"))
        return redirect("admin:orders_cardholderrecord_change", corrected.pk)

    @verb(
        label=gettext_lazy("查看明文"),
        permission="orders.unmask_record",
        form=ReasonForm,
        limit="unmask",
        icon="visibility",
        variant=ActionVariant.WARNING,
        help_text=gettext_lazy("号码、姓名等只显示这一次；离开页面后须重新说明理由。"),
    )
    def unmask(self, request: HttpRequest, row: CardholderRecord, cleaned: dict[str, Any]) -> HttpResponse:
        """Show the personal values this once."""
        shown = unmask_record(row, actor=cast("User", request.user), reason=cleaned["reason"])
        body = table([_("项目"), _("内容")], [*_identity(shown), *_personal(shown.personal)])
        help_text = _("本次查看已记入审计。请勿截屏、抄录或转发。")
        return result_page(self, request, row, title=_("持卡人明文"), body=body, help_text=help_text)


def _unless_destroyed(opened: Callable[[CardholderRecord], T], row: CardholderRecord) -> T | str:
    """Open a column; say so where its key is destroyed (R-22)."""
    try:
        return opened(row)
    except (KeyDestroyedError, KeyMissingError):
        return _("已销毁")


def _identity(shown: Unmasked) -> list[tuple[Any, Any]]:
    return [
        (_("社会保障号码"), shown.number or "-"),
        (_("姓名"), shown.name or "-"),
        (_("银行账号"), shown.account or "-"),
    ]


def _personal(personal: PersonalPart | None) -> list[tuple[Any, Any]]:
    if personal is None:
        return []
    kind = DOCUMENT_TYPES.get(personal.document_type)
    return [
        (_("性别"), told(SEXES.get(personal.sex, personal.sex))),
        (_("民族"), ETHNICITIES.get(personal.ethnicity, personal.ethnicity) or "-"),
        (_("出生日期"), date_format(personal.birth_on)),
        (_("证件类型"), told(kind.label) if kind else personal.document_type),
        (_("行政区划代码"), personal.area),
        (_("单位名称"), personal.employer_name or "-"),
        (_("社会保障卡号"), personal.card_number),
        (_("发卡日期"), date_format(personal.issue_on)),
        (_("卡有效期"), date_format(personal.expires_on)),
    ]
