"""What auditors do with the audit."""

from __future__ import annotations

import json
from collections.abc import Iterator

from portal.audit import unit_of_work, verify_chain
from portal.core.audit_findings import ChainFault
from portal.core.clock import format_moment
from portal.models import AuditEntry, User
from portal.roles import require
from portal.texts import told


def verify_audit(*, actor: User) -> tuple[int, ChainFault | None]:
    """Walk the whole audit chain; return how many entries hold and the first fault, and audit the walk."""
    require(actor, "portal.view_auditentry")
    checked, fault = verify_chain()
    with unit_of_work(actor) as work:
        result = "done" if fault is None else "failed"
        work.record("audit.verified", None, result=result, checked=checked, fault=fault and fault.position)
    return checked, fault


AUDIT_COLUMNS = (
    "序号", "时间", "用户", "单位", "来源地址", "动作",
    "对象类别", "对象编号", "对象", "内容", "结果", "SM3 摘要",
)  # fmt: skip


def export_audit(*, actor: User) -> Iterator[tuple[str, ...]]:
    """Return the audit's heading and rows as text, oldest first; the export is an event itself.

    Text that a spreadsheet would run as a formula starts with an apostrophe.
    """
    require(actor, "portal.view_auditentry")
    last = AuditEntry.objects.order_by("-position").values_list("position", flat=True).first() or 0
    with unit_of_work(actor) as work:
        work.record("audit.exported", None, last=last)
    return _audit_rows(last)


def _audit_rows(last: int) -> Iterator[tuple[str, ...]]:
    yield tuple(map(told, AUDIT_COLUMNS))
    for entry in AuditEntry.objects.filter(position__lte=last).order_by("position").iterator(chunk_size=2000):
        yield tuple(
            _harmless(text)
            for text in (
                str(entry.position),
                format_moment(entry.at),
                entry.actor_name,
                entry.organisation_code,
                entry.address,
                entry.action,
                entry.object_type,
                entry.object_id,
                entry.object_label,
                json.dumps(entry.details, ensure_ascii=False, sort_keys=True),
                entry.result,
                bytes(entry.digest).hex(),
            )
        )


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text
