"""Return files for the province and destruction certificates (R-22)."""

from __future__ import annotations

import io
from typing import Any

from django.contrib.admin import display
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant

from portal.adminkit import ScopedAdmin, attachment, badge, exact_filter, register, table, verb
from portal.adminkit.downloads import streamed
from portal.texts import told
from production.admin.references import acting, reference_column
from production.models import DestructionCertificate, ReturnFile
from production.services.papers import (
    certificate_json,
    certificate_pdf,
    download_return_file,
    verify_certificate,
)

FACTS = (
    ("number", _("证明编号")), ("batch", _("批次")), ("order", _("订单")), ("bank", _("银行")),
    ("supplier", _("中标人")), ("signed_by", _("签收人")), ("destroyed_by", _("销毁经办")),
    ("destroyed_at", _("销毁时间")), ("method", _("销毁方式")), ("key_fingerprint", _("签名公钥指纹")),
)  # fmt: skip


def _signed(row: DestructionCertificate) -> bool:
    return bool(row.signature)


@register(ReturnFile)
class ReturnFileAdmin(ScopedAdmin[ReturnFile]):
    """Sealed return files."""

    list_display = ("title", "batch_link", "card_count", "failed_count", "created_at")
    list_display_links = ("title",)
    list_select_related = ("batch",)
    list_filter = (exact_filter("batch", _("批次号"), "batch__number"),)
    fields = ("batch_link", "card_count", "failed_count", "digest_text", "created_at")
    actions_detail = ("download",)
    batch_link = reference_column("batch", _("批次"))

    @display(description=_("文件"))
    def title(self, row: ReturnFile) -> str:
        """Name the file as it is downloaded."""
        return row.stored_name.rpartition("/")[2]

    @display(description=_("SM3 摘要"))
    def digest_text(self, row: ReturnFile) -> str:
        """Show the digest in hex."""
        return bytes(row.digest).hex()

    @verb(
        label=_("下载回盘文件"),
        permission="production.view_returnfile",
        icon="download",
        variant=ActionVariant.PRIMARY,
        download=True,
    )
    def download(self, request: HttpRequest, row: ReturnFile, cleaned: dict[str, Any]) -> HttpResponseBase:
        """Send the sealed file."""
        name, blocks = download_return_file(row, actor=acting(request))
        return streamed(blocks, name, "application/octet-stream")


@register(DestructionCertificate)
class DestructionCertificateAdmin(ScopedAdmin[DestructionCertificate]):
    """Proofs of destruction."""

    list_display = ("number", "batch_link", "records", "state", "issued_at")
    list_select_related = ("batch",)
    list_filter = (exact_filter("number", _("证明编号")), exact_filter("batch", _("批次号"), "batch__number"))
    fields = ("number", "batch_link", "state", "issued_at", "facts", "destroyed")
    actions_detail = ("pdf", "json", "verify")
    batch_link = reference_column("batch", _("批次"))

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
        return table(["", ""], [(label, told(row.content.get(key, "-"))) for key, label in FACTS])

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
        content = io.BytesIO(certificate_pdf(row, actor=acting(request)))
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
        content = io.BytesIO(certificate_json(row, actor=acting(request)))
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
        fingerprint = verify_certificate(row, actor=acting(request))
        return _t("签名有效，公钥指纹 %(fingerprint)s") % {"fingerprint": fingerprint}
