"""Defects: what is wrong with a card, and who answers for it (R-20, R-26)."""

from __future__ import annotations

from django.db import IntegrityError

from portal.audit import unit_of_work
from portal.core.errors import ConflictError
from portal.models import User
from portal.roles import require
from portal.workflow import locked
from production.choices import BatchStatus
from production.line.made import CHIP_UNREADABLE, LINE_FAULTS, SOURCE_REASONS
from production.models import Card
from production.services.cards import reject_good
from quality.choices import DefectKind, FoundAt, Liability
from quality.models import Defect, DefectCode
from quality.services.holds import hold_if_exceeded

CHIP_DIFFERS = "chip_differs"
OTHER = "other"
SHIPPED = (BatchStatus.DISPATCHED, BatchStatus.SIGNED, BatchStatus.DESTROYED, BatchStatus.CANCELLED)
LOOK_FAULTS = {
    "face_wrong": ("卡面内容与记录不符", DefectKind.WRONG_CARD),
    "print_missing": ("漏印或印刷错位", DefectKind.BAD_CARD),
    "scratch": ("划痕超限", DefectKind.BAD_CARD),
    "speck": ("黑点、杂物或色斑超限", DefectKind.BAD_CARD),
    "bent": ("弯曲或翘曲", DefectKind.BAD_CARD),
}


def standard_codes() -> list[DefectCode]:
    """Return the codes every installation starts with: the line's, the read-back's and the eye's."""
    supplier, source = Liability.SUPPLIER, Liability.SOURCE
    rows = [
        (CHIP_DIFFERS, "芯片内容与记录不符", DefectKind.WRONG_CARD, supplier),
        (CHIP_UNREADABLE, "芯片内容无法解读", DefectKind.BAD_CARD, supplier),
        *((code, name, DefectKind.BAD_CARD, supplier) for code, name in LINE_FAULTS.items()),
        *((code, name, DefectKind.WRONG_CARD, source) for code, name in SOURCE_REASONS.items()),
        *((code, name, kind, supplier) for code, (name, kind) in LOOK_FAULTS.items()),
        ("decided", "双人认定为废品", DefectKind.BAD_CARD, supplier),
        (OTHER, "其他缺陷", DefectKind.BAD_CARD, supplier),
    ]
    return [DefectCode(code=code, name=name, kind=kind, liability=who) for code, name, kind, who in rows]


def ensure_codes() -> None:
    """Add the standard codes that are missing; changed names stay as people set them."""
    DefectCode.objects.bulk_create(standard_codes(), ignore_conflicts=True)


def record_defect(
    card: Card, code: DefectCode, *, found_at: str = FoundAt.BODY, note: str = "", actor: User
) -> Defect:
    """Register a defect that a person found.

    While the batch is inspected a good card is rejected with it, and made again; a batch that has not
    shipped is held when its rate now lies above 0.1 % (R-26).
    """
    require(actor, "quality.record_defect", card)
    try:
        with unit_of_work(actor) as work:
            batch = locked(card.batch)
            defect = Defect.objects.create(
                card=card,
                code=code,
                kind=code.kind,
                liability=code.liability,
                found_at=found_at,
                note=note.strip()[:200],
                found_by=actor,
            )
            work.record("defect.recorded", defect, code=code.code)
            if batch.status == BatchStatus.INSPECTING:
                reject_good(card, reason=code.code, actor=actor)
            if batch.status not in SHIPPED:
                hold_if_exceeded(batch)
    except IntegrityError as exc:
        raise ConflictError("该卡已登记缺陷", where=card.serial) from exc
    return defect
