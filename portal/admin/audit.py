"""The audit's pages: what happened, who did it, when; verify and export."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, cast

from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import RangeDateTimeFilter

from portal.adminkit import ScopedAdmin, badge, exact_filter, register, result_page, verb
from portal.models import AuditEntry, User
from portal.services.audit import export_audit, verify_audit


class _Line:
    """A file for csv.writer whose `write` returns the line."""

    def write(self, text: str) -> str:
        return text


@register(AuditEntry)
class AuditEntryAdmin(ScopedAdmin[AuditEntry]):
    """What happened, who did it, when; nobody can change it."""

    list_display = (
        "position",
        "at",
        "actor_name",
        "organisation_code",
        "action",
        "object_label",
        "outcome",
        "address",
    )
    list_filter = (
        ("at", RangeDateTimeFilter),
        exact_filter("actor_name", gettext_lazy("用户名")),
        exact_filter("action", gettext_lazy("动作")),
        exact_filter("object_type", gettext_lazy("对象类别")),
        exact_filter("object_id", gettext_lazy("对象编号")),
    )
    actions_list = ("verify", "export")
    fields = (
        "position", "at", "actor_name", "organisation_code", "address", "action", "object_type", "object_id",
        "object_label", "content", "outcome", "digests",
    )  # fmt: skip

    @display(description=gettext_lazy("结果"))
    def outcome(self, row: AuditEntry) -> Any:
        """Colour what was refused or failed."""
        labels = {
            "done": (_("成功"), "success"),
            "refused": (_("已拒绝"), "warning"),
            "failed": (_("失败"), "danger"),
        }
        text, colour = labels.get(row.result, (row.result, ""))
        return badge(text, cast("Any", colour))

    @display(description=gettext_lazy("内容"))
    def content(self, row: AuditEntry) -> Any:
        """Show the details as they are chained."""
        text = json.dumps(row.details, ensure_ascii=False, indent=2, sort_keys=True)
        return format_html('<pre class="pk-pre">{}</pre>', text)

    @display(description=gettext_lazy("SM3 摘要"))
    def digests(self, row: AuditEntry) -> Any:
        """Show this entry's digest and its predecessor's."""
        return format_html(
            '<span class="pk-mono">{}</span><br><span class="pk-mono">← {}</span>',
            bytes(row.digest).hex(),
            bytes(row.previous_digest).hex(),
        )

    @verb(
        label=gettext_lazy("校验审计链"),
        permission="portal.view_auditentry",
        icon="verified",
        help_text=gettext_lazy("从第一条起逐条重新计算 SM3 摘要，核对是否有记录被修改、删除或调换。"),
    )
    def verify(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Verify the chain and say where it breaks, if it does."""
        checked, fault = verify_audit(actor=cast("User", request.user))
        if fault is None:
            body = format_html(
                "{} {}",
                badge(_("完整"), "success", "verified"),
                _("共核对 %(count)s 条记录，审计链完整") % {"count": checked},
            )
        else:
            reasons = {"missing": _("缺失"), "reordered": _("前后不连接"), "changed": _("内容被修改")}
            where = _("第 %(position)s 条：%(reason)s；其前 %(count)s 条完整") % {
                "position": fault.position,
                "reason": reasons[fault.reason],
                "count": checked,
            }
            body = format_html("{} {}", badge(_("已破坏"), "danger", "gpp_bad"), where)
        return result_page(self, request, None, title=_("审计链校验结果"), body=body)

    @verb(label=gettext_lazy("导出"), permission="portal.view_auditentry", icon="download", download=True)
    def export(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponseBase:
        """Stream the audit as CSV, oldest first."""
        rows = export_audit(actor=cast("User", request.user))
        response = StreamingHttpResponse(_csv(rows), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="audit-{timezone.now():%Y%m%d}.csv"'
        response["Cache-Control"] = "no-store, private"
        return response


def _csv(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield "\ufeff"  # Excel reads UTF-8 only with its mark
    writer = csv.writer(cast("io.TextIOBase", _Line()))
    for row in rows:
        yield cast("str", writer.writerow(row))
