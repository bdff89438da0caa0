"""Destruction of a signed batch's personal data, and the certificate that proves it (R-22)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from django.utils import timezone

from orders.services.destruction import Destroyed, destroy_records
from orders.services.packages import undone_on_error
from portal.audit import unit_of_work
from portal.core.errors import PortalError
from portal.models import User
from portal.removal import remove_after_commit
from portal.roles import require
from portal.workflow import check_move, locked, move
from production.choices import BatchStatus
from production.models import Batch, BatchItem, Delivery, DestructionCertificate, MachineFile, ReturnFile
from production.services.destruction_certifying import (
    certify_when_gone,
    common_facts,
    destroyed_facts,
    digest_of,
)

METHOD = (
    "数据库记录（含历次版本）与银行账号行已删除；批次密钥以及这些人员在数据包和账号文件中的密钥已覆写并删除，"
    "加密的行、照片、文件及其一切备份因此不可恢复，随后文件本身已删除。"
    "卡片台账仅保留芯片序列号、盲索引与日期，用于质保与结算。"
)


class ReturnFileMissingError(PortalError):
    """The province must have its return file before the data it is made from goes."""

    code = "return_file_missing"


def destroy_batch(batch: Batch, *, actor: User) -> Batch:
    """Destroy the personal data of a signed batch; the certificate follows once everything is gone.

    Rows go in this transaction, keys and files right after its commit. Where the package's own keys still
    open what was delivered, they go as soon as the rest of the package is sealed anew.
    """
    require(actor, "production.destroy_batch", batch)
    with undone_on_error() as undo, unit_of_work(actor) as work:
        fresh = locked(batch)
        check_move(fresh, BatchStatus.DESTROYED)
        if not ReturnFile.objects.filter(batch=fresh).exists():
            raise ReturnFileMissingError("请先生成回盘文件", where=fresh.number)
        facts = _facts(fresh, actor)
        destroyed = _destroy_rows(fresh, actor, undo)
        files = _forget_files(fresh)
        remove_after_commit(keys=[fresh.key_id], files=files)
        destroyed.keys.append(fresh.key_id)
        destroyed.files += files
        facts |= destroyed_facts(facts, destroyed)
        fresh = move(fresh, BatchStatus.DESTROYED, actor=actor, destroyed_at=timezone.now())
        work.record(
            "batch.personal_data_destroyed",
            fresh,
            records=facts["record_count"],
            accounts=facts["account_count"],
            people_digest=facts["people_digest"],
        )
        paper = DestructionCertificate.objects.create(
            number=f"XH-{fresh.number}", batch=fresh, content=facts, signature=b""
        )
        certify_when_gone(paper, destroyed, actor=actor)
    return fresh


def _facts(batch: Batch, actor: User) -> dict[str, Any]:
    signers = Delivery.objects.filter(batch=batch).values_list("signed_by__username", flat=True)
    bank, supplier = batch.order.bank, batch.order.contract.supplier
    # A batch without a good card is closed without a delivery.
    signed_by = "、".join(sorted({name for name in signers if name})) or "无（没有可交付的卡片）"
    return common_facts(actor) | {
        "number": f"XH-{batch.number}",
        "subject": f"批次 {batch.number}",
        "origin": "，".join([f"订单 {batch.order.number}", bank.name, supplier.name]),
        "occasion": "已按合同要求在签收后销毁",
        "batch": batch.number,
        "order": batch.order.number,
        "bank": bank.name,
        "supplier": supplier.name,
        "signed_by": signed_by,
        "signers": [["签收确认", signed_by], ["销毁执行", actor.username]],
        "method": METHOD,
        "people_digest": _people_digest(batch),
    }


def _people_digest(batch: Batch) -> str:
    """Digest the blind indexes of the batch's people: proves whom it covers without naming anyone."""
    indexes = BatchItem.objects.filter(batch=batch, record__isnull=False).order_by("record__number_index")
    return digest_of(indexes.values_list("record__number_index", flat=True))


def _destroy_rows(batch: Batch, actor: User, undo: ExitStack) -> Destroyed:
    items = BatchItem.objects.filter(batch=batch, record__isnull=False)
    ids = list(items.values_list("record_id", flat=True))
    items.update(record=None)
    return destroy_records(ids, actor=actor, undo=undo)


def _forget_files(batch: Batch) -> list[str]:
    """Clear and return the names of the batch's sealed files; the return file stays, sealed for others."""
    machine = MachineFile.objects.filter(batch=batch)
    names = [name for pair in machine.values_list("stored_name", "report_name") for name in pair if name]
    machine.update(stored_name="", report_name="")
    lists = Delivery.objects.filter(batch=batch)
    names += [name for name in lists.values_list("list_name", flat=True) if name]
    lists.update(list_name="")
    return names
