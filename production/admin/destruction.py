"""Destruction of personal data: certificates, requests of two people, alarms (R-22)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.admin import EmptyFieldListFilter, display
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.enums import ActionVariant

from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    attachment,
    badge,
    exact_filter,
    grouped,
    register,
    signed_in,
    status_column,
    table,
    verb,
)
from portal.adminkit.columns import Colour
from portal.texts import told
from production.admin.cards import DECISIONS
from production.admin.references import reference, reference_column
from production.choices import AlarmKind, RequestStatus
from production.models import DestructionAlarm, DestructionCertificate, DestructionRequest
from production.services.destruction_requests import (
    decide_early_destruction,
    find_subject,
    request_early_destruction,
)
from production.services.papers import certificate_json, certificate_pdf, verify_certificate

FACTS = (
    ("number", _("证明编号")), ("subject", _("对象")), ("origin", _("来源")), ("occasion", _("事由")),
    ("destroyed_at", _("销毁时间")), ("method", _("销毁方式")), ("key_fingerprint", _("签名公钥指纹")),
)  # fmt: skip
ALARMS: Mapping[str, Colour] = {kind.value: "danger" for kind in AlarmKind}


def _signed(row: DestructionCertificate) -> bool:
    return bool(row.signature)


@register(DestructionCertificate)
class DestructionCertificateAdmin(ScopedAdmin[DestructionCertificate]):
    """Proofs of destruction."""

    list_display = ("number", "batch_link", "records", "state", "issued_at")
    list_select_related = ("batch", "request__package")
    list_filter = (exact_filter("number", _("证明编号")), exact_filter("batch", _("批次号"), "batch__number"))
    fields = ("number", "batch_link", "request_link", "state", "issued_at", "facts", "destroyed")
    actions_detail = ("pdf", "json", "verify")
    batch_link = reference_column("batch", _("批次"))
    request_link = reference_column("request", _("提前销毁申请"))

    @display(description=_("状态"))
    def state(self, row: DestructionCertificate) -> SafeString:
        """Show whether the destruction is checked and signed."""
        return badge(_t("已签署"), "success") if row.signature else badge(_t("待签署"), "warning")

    @display(description=_("记录数"))
    def records(self, row: DestructionCertificate) -> Any:
        """Show how many people's records it covers."""
        return row.content.get("record_count", "-")

    @display(description=_("证明内容"))
    def facts(self, row: DestructionCertificate) -> SafeString:
        """Show who destroyed what, when and how."""
        facts = [(label, told(row.content.get(key, "-"))) for key, label in FACTS]
        signers = [tuple(map(told, signer)) for signer in row.content.get("signers", [])]
        return table(["", ""], [*facts, *signers])

    @display(description=_("已销毁"))
    def destroyed(self, row: DestructionCertificate) -> SafeString:
        """Show what is gone."""
        facts = [tuple(map(told, fact)) for fact in row.content.get("facts", [])]
        return table([_t("项目"), _t("数量或摘要")], facts)

    @verb(
        label=_("下载 PDF"),
        permission="production.view_destructioncertificate",
        when=_signed,
        icon="picture_as_pdf",
        variant=ActionVariant.PRIMARY,
        download=True,
    )
    def pdf(
        self, request: HttpRequest, row: DestructionCertificate, cleaned: dict[str, Any]
    ) -> HttpResponseBase:
        """Send the certificate as PDF."""
        content = io.BytesIO(certificate_pdf(row, actor=signed_in(request)))
        return attachment(content, f"{row.number}.pdf", "application/pdf")

    @verb(
        label=_("下载 JSON"),
        permission="production.view_destructioncertificate",
        when=_signed,
        icon="data_object",
        download=True,
    )
    def json(
        self, request: HttpRequest, row: DestructionCertificate, cleaned: dict[str, Any]
    ) -> HttpResponseBase:
        """Send what an offline check needs."""
        content = io.BytesIO(certificate_json(row, actor=signed_in(request)))
        return attachment(content, f"{row.number}.json", "application/json")

    @verb(
        label=_("验证签名"),
        permission="production.view_destructioncertificate",
        when=_signed,
        icon="verified",
        help_text=_("用平台公钥验证证明内容的 SM2 签名。"),
    )
    def verify(self, request: HttpRequest, row: DestructionCertificate, cleaned: dict[str, Any]) -> str:
        """Check the signature."""
        fingerprint = verify_certificate(row, actor=signed_in(request))
        return _t("签名有效，公钥指纹 %(fingerprint)s") % {"fingerprint": fingerprint}


class EarlyDestructionForm(VerbForm):
    """A package, or one row of it, and why."""

    package = forms.CharField(label=_("包号"), max_length=64)
    row_number = forms.IntegerField(
        label=_("行号"),
        min_value=1,
        required=False,
        help_text=_("只销毁一个人的记录时填写；空白为整个数据包"),
    )
    reason = forms.CharField(
        label=_("事由"),
        max_length=200,
        widget=forms.Textarea,
        help_text=_("事由会长期保存，请勿填写姓名、证件号码、卡号或账号"),
    )


@register(DestructionRequest)
class DestructionRequestAdmin(ScopedAdmin[DestructionRequest]):
    """Requests for early destruction, which a second person decides."""

    list_display = (
        "title", "package_link", "row_number", "state", "requested_by", "requested_at", "decided_by",
    )  # fmt: skip
    list_display_links = ("title",)
    list_select_related = ("package", "requested_by", "decided_by")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        exact_filter("package", _("包号"), "package__number"),
    )
    fields = (
        "package_link", "row_number", "reason", "state", "record_count", "requested_by", "requested_at",
        "decided_by", "decided_at", "paper",
    )  # fmt: skip
    actions_list = ("ask",)
    actions_detail = ("approve", "refuse")
    state = status_column(DECISIONS)
    package_link = reference_column("package", _("数据包"))

    @display(description=_("申请"))
    def title(self, row: DestructionRequest) -> str:
        """Name the request by its number."""
        return f"#{row.pk}"

    @display(description=_("数据销毁证明"))
    def paper(self, row: DestructionRequest) -> SafeString | str:
        """Link the certificate."""
        return reference(DestructionCertificate.objects.filter(request=row).first())

    @verb(
        label=_("申请提前销毁"),
        permission="production.request_destruction",
        form=EarlyDestructionForm,
        icon="auto_delete",
        variant=ActionVariant.PRIMARY,
        help_text=_("只能销毁未下单、未分批的记录；须由另一人复核后才会销毁。"),
    )
    def ask(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Ask for the early destruction of a package or a person."""
        subject = find_subject(cleaned["package"], cleaned["row_number"], actor=signed_in(request))
        made = request_early_destruction(subject, reason=cleaned["reason"], actor=signed_in(request))
        return _t("已提出申请 #%(number)s，须由另一人复核") % {"number": made.pk}

    @verb(
        label=_("同意销毁"),
        permission="production.decide_destruction",
        when=lambda row: row.status == RequestStatus.REQUESTED,
        second_after="requested_by",
        icon="delete_forever",
        variant=ActionVariant.DANGER,
        help_text=_("同意后立即销毁，不能恢复。申请人不能复核自己的申请。"),
    )
    def approve(self, request: HttpRequest, row: DestructionRequest, cleaned: dict[str, Any]) -> str:
        """Destroy as the second person."""
        decided = decide_early_destruction(row, approve=True, actor=signed_in(request))
        return _t("已销毁 %(count)s 条记录，证明随后签署") % {"count": grouped(decided.record_count)}

    @verb(
        label=_("拒绝"),
        permission="production.decide_destruction",
        when=lambda row: row.status == RequestStatus.REQUESTED,
        second_after="requested_by",
        icon="close",
    )
    def refuse(self, request: HttpRequest, row: DestructionRequest, cleaned: dict[str, Any]) -> str:
        """Refuse as the second person."""
        decide_early_destruction(row, approve=False, actor=signed_in(request))
        return _t("已拒绝")


@register(DestructionAlarm)
class DestructionAlarmAdmin(ScopedAdmin[DestructionAlarm]):
    """What is overdue for destruction, and what was."""

    list_display = ("subject", "state", "count", "due_at", "raised_at", "standing")
    list_filter = (("kind", ChoicesDropdownFilter), ("cleared_at", EmptyFieldListFilter))
    fields = ("subject", "state", "count", "batch_link", "package_link", "due_at", "raised_at", "cleared_at")
    list_select_related = ("batch", "package")
    state = status_column(ALARMS, field="kind", description=_("类别"))
    batch_link = reference_column("batch", _("批次"))
    package_link = reference_column("package", _("数据包"))

    @display(description=_("状态"))
    def standing(self, row: DestructionAlarm) -> SafeString:
        """Show whether it is still so."""
        return badge(_t("已解除"), "success") if row.cleared_at else badge(_t("逾期"), "danger")
