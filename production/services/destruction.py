"""Destruction of a signed batch's personal data, and the certificate that proves it (R-22)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.utils import timezone

from orders.services.destruction import Destroyed, destroy_records
from orders.services.packages import undone_on_error
from portal.audit import unit_of_work
from portal.core.crypto import sm3_hasher
from portal.core.errors import PortalError
from portal.files import keystore, portal_key
from portal.models import PendingRemoval, User
from portal.queue import schedule
from portal.removal import remove_after_commit, remove_pending
from portal.roles import require
from portal.workflow import check_move, locked, move
from production import certificate
from production.choices import BatchStatus
from production.models import Batch, BatchItem, Delivery, DestructionCertificate, MachineFile, ReturnFile

CERTIFY = "production.jobs_destruction.certify"
METHOD = (
    "数据库记录（含历次版本）与银行账号行已删除；批次密钥已覆写并删除，"
    "加密文件因此不可恢复，随后文件本身已删除；"
    "数据包内最后一条在制记录销毁时，数据包密钥与原始密封数据一并销毁。"
    "卡片台账仅保留芯片序列号、盲索引与日期，用于质保与结算。"
)


class ReturnFileMissingError(PortalError):
    """The province must have its return file before the data it is made from goes."""

    code = "return_file_missing"


class NotGoneError(PortalError):
    """Something that the certificate would call destroyed is still there."""

    code = "not_gone"


def destroy_batch(batch: Batch, *, actor: User) -> Batch:
    """Destroy the personal data of a signed batch; the certificate follows as a task of its own.

    Rows go in this transaction, keys and files right after its commit, and only then is it certified.
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
        facts |= _result(facts, destroyed, [fresh.key_id], files)
        fresh = move(fresh, BatchStatus.DESTROYED, actor=actor, destroyed_at=timezone.now())
        work.record(
            "batch.personal_data_destroyed",
            fresh,
            records=facts["record_count"],
            accounts=facts["account_count"],
            people_digest=facts["people_digest"],
        )
        schedule(CERTIFY, fresh, actor=actor)
        DestructionCertificate.objects.create(
            number=f"XH-{fresh.number}", batch=fresh, content=facts, signature=b""
        )
    return fresh


def _facts(batch: Batch, actor: User) -> dict[str, Any]:
    signers = Delivery.objects.filter(batch=batch).values_list("signed_by__username", flat=True)
    return {
        "number": f"XH-{batch.number}",
        "batch": batch.number,
        "order": batch.order.number,
        "bank": batch.order.bank.name,
        "supplier": batch.order.contract.supplier.name,
        "signed_by": "、".join(sorted({name for name in signers if name})),
        "destroyed_by": actor.username,
        "destroyed_at": f"{timezone.localtime():%Y-%m-%d %H:%M:%S}",
        "issuer": settings.PORTAL_CODE,
        "key_fingerprint": portal_key().public.fingerprint(),
        "method": METHOD,
        "people_digest": _people_digest(batch),
    }


def _people_digest(batch: Batch) -> str:
    """Digest the blind indexes of the batch's people: proves whom it covers without naming anyone."""
    hasher = sm3_hasher()
    indexes = BatchItem.objects.filter(batch=batch, record__isnull=False).order_by("record__number_index")
    for index in indexes.values_list("record__number_index", flat=True).iterator(chunk_size=2000):
        hasher.update(bytes(index))
    return hasher.finalize().hex()


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


def _result(
    facts: dict[str, Any], destroyed: Destroyed, batch_keys: list[str], batch_files: list[str]
) -> dict[str, Any]:
    keys, files = sorted([*batch_keys, *destroyed.keys]), sorted({*batch_files, *destroyed.files})
    lines = [
        ["销毁人员摘要（SM3）", facts["people_digest"]],
        ["持卡人记录", f"{destroyed.record_count:,} 条（含历次版本共 {destroyed.version_count:,} 条）"],
        ["银行账号行", f"{destroyed.account_count:,} 条"],
        ["密封文件", f"{len(files):,} 个"],
        ["密钥", f"{len(keys):,} 个"],
    ]
    return {
        "record_count": destroyed.record_count,
        "version_count": destroyed.version_count,
        "account_count": destroyed.account_count,
        "facts": lines,
        "keys": keys,
        "files": files,
        "packages": destroyed.packages,
        "closed_packages": destroyed.closed_packages,
        "account_files": destroyed.account_files,
    }


def certify(batch: Batch, *, actor: User | None) -> DestructionCertificate:
    """Check that everything named is gone and sign the certificate; raise NotGoneError otherwise.

    Signs once: a second call returns what was signed.
    """
    remove_pending()
    with unit_of_work(actor) as work:
        found = locked(batch.destruction_certificate)
        if found.signature:
            return found
        if left := _left(batch, found.content):
            raise NotGoneError("仍有未清除的数据，不能出具证明", where=batch.number, got=f"{left} 项")
        found.signature = certificate.sign(found.content, portal_key())
        found.save(update_fields=["signature"])
        work.record("batch.destruction_certified", found, digest=found.content["people_digest"])
    return found


def _left(batch: Batch, content: dict[str, Any]) -> int:
    """Count what the certificate names and is still there, be it a key whose file waits to be overwritten."""
    keys, files = content["keys"], content["files"]
    there = sum(keystore().exists(key) for key in keys) + sum(map(default_storage.exists, files))
    waiting = PendingRemoval.objects.filter(name__in=[*keys, *files]).count()
    return there + waiting + BatchItem.objects.filter(batch=batch, record__isnull=False).count()
