"""The audit's pages: what happened, who did it, when; search, verify and export."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.db.models import QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import DropdownFilter, TextFilter

from portal.adminkit import (
    ScopedAdmin,
    VerbForm,
    badge,
    exact_filter,
    register,
    result_page,
    signed_in,
    table,
    verb,
    written,
)
from portal.adminkit.downloads import streamed
from portal.adminkit.filters import PeriodFilter
from portal.adminkit.keyset import BeforeFilter, KeysetPaginator
from portal.audit_labels import DETAILS, RESULTS, action_label
from portal.models import AuditAnchor, AuditEntry
from portal.services.audit import (
    actions_seen,
    export_anchors,
    export_audit,
    person_pseudonym,
    verify_audit,
    write_audit_list,
)
from portal.services.audit_anchors import sign_anchor
from portal.texts import listed, told

COLOURS = {"done": "success", "refused": "warning", "failed": "danger"}


class _Line:
    """A file for csv.writer whose `write` returns the line."""

    def write(self, text: str) -> str:
        return text


class ActionFilter(DropdownFilter):
    """A drop-down of the actions there are, in words."""

    title = gettext_lazy("动作")
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        """List the actions by their words."""
        return sorted(((action, action_label(action)) for action in actions_seen()), key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the action's entries."""
        return queryset.filter(action=self.value()) if self.value() else queryset


class ResultFilter(DropdownFilter):
    """A drop-down of the three results."""

    title = gettext_lazy("结果")
    parameter_name = "result"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, Any]]:
        """List the results."""
        return list(RESULTS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the entries with the result."""
        return queryset.filter(result=self.value()) if self.value() else queryset


class PersonFilter(TextFilter):
    """A text box for a person's pseudonym in the entries; the number itself is asked in a form."""

    title = gettext_lazy("人员假名")
    parameter_name = "person"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the entries about the person, through the index over this very expression."""
        text = (self.value() or "").strip().lower()
        if not text:
            return queryset
        return queryset.alias(person=KeyTextTransform("person", "details")).filter(person=text)


class PersonForm(VerbForm):
    """Whom to look for; sent in the body, so that no number stands in an address or a log."""

    number = forms.CharField(label=gettext_lazy("社会保障号码"), max_length=40)


class PeriodForm(VerbForm):
    """Which entries to take out, and as what."""

    begins_on = forms.DateField(label=gettext_lazy("起始日期"), required=False)
    ends_on = forms.DateField(label=gettext_lazy("截止日期"), required=False)
    form = forms.ChoiceField(
        label=gettext_lazy("格式"),
        choices=[
            ("csv", gettext_lazy("CSV（可脱机校验）")),
            ("xlsx", gettext_lazy("Excel（便于阅读）")),
        ],
    )


@register(AuditEntry)
class AuditEntryAdmin(ScopedAdmin[AuditEntry]):
    """What happened, who did it, when; nobody can change it."""

    paginator = KeysetPaginator
    list_max_show_all = 0
    list_display = (
        "position", "at", "actor_name", "organisation_code", "happened", "object_label", "outcome", "address",
    )  # fmt: skip
    list_filter = (
        ("at", PeriodFilter),
        ActionFilter,
        ResultFilter,
        exact_filter("actor_name", gettext_lazy("用户名")),
        exact_filter("organisation_code", gettext_lazy("单位")),
        exact_filter("address", gettext_lazy("来源地址")),
        exact_filter("object_type", gettext_lazy("对象类别")),
        exact_filter("object_id", gettext_lazy("对象编号")),
        PersonFilter,
        BeforeFilter,
    )
    actions_list = ("verify", "find_person", "export")
    fields = (
        "position", "at", "actor_name", "organisation_code", "address", "happened", "object_type",
        "object_id", "object_label", "outcome", "changes", "content", "digests",
    )  # fmt: skip

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Show no number of results: it is only that of the page, nothing is counted."""
        found = super().get_changelist_instance(request)
        found.full_result_count = found.result_count
        return found

    @display(description=gettext_lazy("动作"))
    def happened(self, row: AuditEntry) -> str:
        """Say the action in words."""
        return action_label(row.action)

    @display(description=gettext_lazy("结果"))
    def outcome(self, row: AuditEntry) -> Any:
        """Colour what was refused or failed."""
        return badge(RESULTS.get(row.result, row.result), cast("Any", COLOURS.get(row.result, "")))

    @display(description=gettext_lazy("变更"))
    def changes(self, row: AuditEntry) -> Any:
        """Show before and after side by side, where the entry has them."""
        return table(
            (_("项目"), _("变更前"), _("变更后")), list(_changes(row.details)), empty=_("没有变更内容")
        )

    @display(description=gettext_lazy("内容"))
    def content(self, row: AuditEntry) -> Any:
        """Show everything else the entry carries."""
        other = [(_named(name), _shown(value)) for name, value in row.details.items() if name not in _PAIR]
        return table((_("项目"), _("值")), other)

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
        help_text=gettext_lazy(
            "从第一条起逐条重新计算 SM3 摘要并核对锚点签名，找出被修改、删除、插入、调换或整段改写的记录。"
        ),
    )
    def verify(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Verify the chain and name what is wrong with it, if anything is."""
        verdict = verify_audit(actor=signed_in(request))
        if verdict.holds:
            words = _("共核对 %(count)s 条记录、%(anchors)s 个锚点，审计链完整") % {
                "count": verdict.report.checked,
                "anchors": verdict.anchors,
            }
            body = format_html("{} {}", badge(_("完整"), "success", "verified"), words)
        else:
            listing = table((_("问题"),), [(told(text),) for text in verdict.found()])
            body = format_html("{}{}", badge(_("已破坏"), "danger", "gpp_bad"), listing)
        return result_page(self, request, None, title=_("审计链校验结果"), body=body)

    @verb(
        label=gettext_lazy("按人员查询"),
        permission="portal.view_auditentry",
        icon="person_search",
        form=PersonForm,
        help_text=gettext_lazy("审计中只有人员的假名。输入号码后按假名查询；这次查询本身也记入审计。"),
    )
    def find_person(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponse:
        """Go to the entries about a person."""
        person = person_pseudonym(cleaned["number"], actor=signed_in(request))
        return redirect(f"{reverse('admin:portal_auditentry_changelist')}?person={person}")

    @verb(
        label=gettext_lazy("导出"),
        permission="portal.view_auditentry",
        icon="download",
        form=PeriodForm,
        help_text=gettext_lazy("不填日期则导出全部。CSV 含每条的摘要，可用 verify_audit.py 脱机校验。"),
    )
    def export(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponseBase:
        """Stream the audit of a period as CSV, or write it as Excel, oldest first."""
        period = {"begins_on": cleaned["begins_on"], "ends_on": cleaned["ends_on"]}
        name = f"audit-{timezone.now():%Y%m%d}"
        actor = signed_in(request)
        if cleaned["form"] == "csv":
            lines = export_audit(**period, actor=actor)
            return streamed(_csv(lines), f"{name}.csv", "text/csv; charset=utf-8")
        return written(f"{name}.xlsx", lambda target: write_audit_list(target, **period, actor=actor))


@register(AuditAnchor)
class AuditAnchorAdmin(ScopedAdmin[AuditAnchor]):
    """What the chain was, and the signature under it."""

    list_display = ("number", "at", "position", "entry_count", "digest_text", "key_id")
    fields = ("number", "at", "position", "entry_count", "digest_text", "key_id", "signature_text")
    actions_list = ("sign", "export")

    @display(description=gettext_lazy("SM3 摘要"))
    def digest_text(self, row: AuditAnchor) -> Any:
        """Show the digest under the signature."""
        return format_html('<span class="pk-mono">{}</span>', bytes(row.digest).hex())

    @display(description=gettext_lazy("签名公钥指纹"))
    def key_id(self, row: AuditAnchor) -> str:
        """Show whose signature it is."""
        return row.anchor().key_id

    @display(description=gettext_lazy("SM2 签名"))
    def signature_text(self, row: AuditAnchor) -> Any:
        """Show the signature; with digest, number and date a printed page is proof enough."""
        return format_html('<span class="pk-mono">{}</span>', bytes(row.signature).hex())

    @verb(
        label=gettext_lazy("签署锚点"),
        permission="portal.sign_anchor",
        icon="anchor",
        help_text=gettext_lazy("核对上次锚点以来的记录并以平台 SM2 密钥签名。平时每小时自动签署一次。"),
    )
    def sign(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> str:
        """Sign what is new."""
        anchor = sign_anchor(actor=signed_in(request))
        if anchor is None:
            return _("没有新的审计记录，未签署锚点")
        return _("已签署锚点 %(number)s，至第 %(position)s 条") % {
            "number": anchor.number,
            "position": anchor.position,
        }

    @verb(
        label=gettext_lazy("导出锚点"),
        permission="portal.view_auditanchor",
        icon="download",
        download=True,
    )
    def export(self, request: HttpRequest, row: None, cleaned: dict[str, Any]) -> HttpResponseBase:
        """Give all anchors as a file to keep elsewhere."""
        text = export_anchors(actor=signed_in(request))
        name = f"audit-anchors-{timezone.now():%Y%m%d}.json"
        return streamed(iter([text.encode()]), name, "application/json")


_PAIR = ("before", "after")


def _changes(details: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Yield name, before and after; an entry has them as one value each or by field."""
    before, after = details.get("before"), details.get("after")
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        old, new = (side if isinstance(side, Mapping) else {} for side in (before, after))
        for name in sorted({*old, *new}):
            yield _named(name), _shown(old.get(name)), _shown(new.get(name))
    elif before is not None or after is not None:
        yield _("值"), _shown(before), _shown(after)


def _named(name: str) -> Any:
    return DETAILS.get(name, name)


def _shown(value: Any) -> Any:
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return listed(value) or "-"
    if isinstance(value, dict | list):
        return format_html('<pre class="pk-pre">{}</pre>', json.dumps(value, ensure_ascii=False, indent=1))
    if isinstance(value, bool):
        return _("是") if value else _("否")
    return "-" if value is None else str(value)


def _csv(rows: Iterator[tuple[str, ...]]) -> Iterator[bytes]:
    yield "\ufeff".encode()  # Excel reads UTF-8 only with its mark
    writer = csv.writer(cast("io.TextIOBase", _Line()))
    for row in rows:
        yield cast("str", writer.writerow(row)).encode()
