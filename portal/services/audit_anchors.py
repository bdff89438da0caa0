"""Sign what the audit's chain is now, so that nobody can rewrite it as a whole later (issue 3, Audit)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

from django.conf import settings
from django.db import connection

from portal.audit import record_alone, unit_of_work
from portal.audit_check import audit_marks, own_link, walk_after
from portal.core import audit_anchors
from portal.core.audit_anchors import Anchor, next_anchor
from portal.core.audit_findings import ChainFault
from portal.core.audit_forms import GENESIS
from portal.core.audit_marks import Mark
from portal.core.audit_walk import ChainReport
from portal.core.clock import now
from portal.core.errors import InputRefusedError, PortalError
from portal.files import portal_key
from portal.models import AuditAnchor, AuditEntry, User
from portal.roles import require

ANCHOR_LOCK = 0x414E43  # "ANC"
ANCHORED = "audit.anchored"
logger = logging.getLogger(__name__)


class ChainBrokenError(PortalError):
    """A chain that does not hold since the last anchor: it is not signed."""

    code: ClassVar[str] = "audit_chain_broken"


class NothingLostError(PortalError):
    """Marks and chain agree."""

    code: ClassVar[str] = "nothing_lost"


def sign_anchor(*, actor: User) -> AuditAnchor | None:
    """Verify what was written since the last anchor and sign it; None when there is nothing new.

    Raises ChainBrokenError when it does not hold. The chain is not locked while it is walked and signed: who
    writes meanwhile writes behind what the anchor covers, and waits for nothing (P10).
    """
    require(actor, "portal.sign_anchor")
    try:
        with unit_of_work(actor) as work:
            signed = _sign()
            if signed is not None:
                work.record(ANCHORED, signed, position=signed.position, digest=bytes(signed.digest).hex())
    except ChainBrokenError as exc:
        logger.critical("the audit chain is broken: %s", exc.where)
        record_alone(ANCHORED, actor=actor, result="failed", fault=exc.where)
        raise
    if signed is not None:
        _keep_elsewhere(signed.anchor())
        audit_marks().drop(signed.position)
    return signed


def _sign() -> AuditAnchor | None:
    with connection.cursor() as cursor:  # one anchor at a time, in their own order
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ANCHOR_LOCK])
    newest = AuditAnchor.objects.order_by("-number").first()
    before = newest.anchor() if newest else None
    report = _walked(before)  # also when there is nothing new: something may be missing
    since = before.position if before else 0
    if not AuditEntry.objects.filter(position__gt=since).exclude(action=ANCHORED, result="done").exists():
        return None
    row = AuditAnchor.of(
        next_anchor(
            before,
            position=report.last,
            digest=report.digest,
            count=(before.count if before else 0) + report.checked,
            at=now(),
            key=portal_key(),
        )
    )
    row.save(force_insert=True)
    return row


def _walked(before: Anchor | None) -> ChainReport:
    position, digest = (before.position, before.digest) if before else (0, GENESIS)
    marks = audit_marks().read()
    with own_link() as link:
        report = walk_after(link, position=position, digest=digest, most_faults=1, marks=marks)
    if report.faults:
        raise ChainBrokenError("审计链已被破坏，不能签署锚点", where=report.faults[0].text)
    return report


def accept_loss(*, reason: str, actor: User) -> ChainFault:
    """Go on after a restored backup: note which entries are gone, and put the marks that miss them aside.

    Raises NothingLostError while marks and chain agree, ChainBrokenError when the chain itself does not hold.
    """
    require(actor, "portal.sign_anchor")
    if not reason.strip():
        raise InputRefusedError("请填写理由")
    loss = _loss()
    with unit_of_work(actor) as work:
        work.record(
            "audit.loss_accepted",
            None,
            reason=reason.strip()[:200],
            first=loss.position,
            last=loss.last,
            fault=loss.text,
        )
    marks, newest = audit_marks(), AuditEntry.objects.latest("position")
    marks.set_aside()
    marks.add(Mark(newest.position, bytes(newest.digest)))
    return loss


def _loss() -> ChainFault:
    newest = AuditAnchor.objects.order_by("-number").first()
    position, digest = (newest.position, bytes(newest.digest)) if newest else (0, GENESIS)
    marks = audit_marks().read()
    with own_link() as link:
        chain = walk_after(link, position=position, digest=digest, most_faults=1)
        held = walk_after(link, position=position, digest=digest, marks=marks)
    if chain.faults:
        raise ChainBrokenError("审计链已被破坏，不能确认缺失", where=chain.faults[0].text)
    if not held.faults:
        raise NothingLostError("链尾标记与审计链一致，没有缺失")
    return held.faults[0]


def _keep_elsewhere(anchor: Anchor) -> None:
    """Write the anchor into the folder that another machine or a write-once disk holds, if there is one."""
    if not settings.AUDIT_ANCHOR_DIR:
        return
    path = Path(settings.AUDIT_ANCHOR_DIR, f"audit-anchor-{anchor.number:06d}.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(audit_anchors.written([anchor]))
    except OSError as exc:
        logger.critical("anchor %d not kept elsewhere: %s", anchor.number, type(exc).__name__)
