"""Return files for the province and destruction certificates (R-22)."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import display
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant

from portal.adminkit import ScopedAdmin, exact_filter, register, signed_in, verb
from portal.adminkit.downloads import streamed
from production.admin.references import reference_column
from production.models import ReturnFile
from production.services.papers import (
    download_return_file,
)


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
        name, blocks = download_return_file(row, actor=signed_in(request))
        return streamed(blocks, name, "application/octet-stream")
