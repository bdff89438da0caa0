"""The return file (回盘): what was made of a batch, sealed for the provincial card system (card.md §6)."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO

from django.conf import settings
from django.db.models import Case, Q, Value, When
from django.utils import timezone

from orders.choices import KeyUse
from orders.models import Package, SenderKey
from orders.personal import open_account, open_name, open_number, open_personal
from portal.audit import unit_of_work
from portal.choices import OrganisationKind
from portal.core.crypto import Sm2PublicKey, sm3_hasher
from portal.core.errors import ConflictError, PortalError, TransitionRefusedError
from portal.core.seal import seal_package
from portal.files import portal_key, store
from portal.models import Organisation, Task, User
from portal.queue import schedule
from portal.roles import require
from portal.workflow import locked
from production.choices import BatchStatus, ItemStatus, Outcome
from production.line.made import SOURCE_REASONS
from production.models import Batch, BatchItem, Card, ReturnFile
from production.selectors.cards import reason_label

WRITE_RETURN_FILE = "production.jobs_delivery.write_return_file"
COLUMNS = (
    "序号", "社保卡号", "社会保障号码", "姓名", "发卡日期", "卡有效期", "卡识别码", "卡复位信息",
    "服务银行", "银行卡号", "个人账户", "装箱位置", "失败环节", "失败原因",
)  # fmt: skip
CHUNK = 500
PREPARING, MAKING, DELIVERING = "数据准备", "制卡", "交付"


class NoRecipientKeyError(PortalError):
    """No valid public key of the organisation that the file is for."""

    code = "no_recipient_key"


def send_return_file(batch: Batch, *, actor: User) -> None:
    """Let the return file of a signed batch be written."""
    require(actor, "production.send_return_file", batch)
    with unit_of_work(actor) as work:
        fresh = locked(batch)
        if fresh.status != BatchStatus.SIGNED:
            raise TransitionRefusedError(
                "签收后、销毁前才能生成回盘文件",
                where=fresh.number,
                expected=str(BatchStatus.SIGNED.label),
                got=str(fresh.get_status_display()),
            )
        if _requested(fresh):
            raise ConflictError("该批次的回盘文件已生成或正在生成", where=fresh.number)
        recipient_of(fresh)
        schedule(WRITE_RETURN_FILE, fresh, actor=actor)
        work.record("batch.return_file_requested", fresh)


def _requested(batch: Batch) -> bool:
    """Say whether the file stands or a task is to write it; a failed task is retried, not asked for again."""
    tasks = Task.objects.filter(
        handler=WRITE_RETURN_FILE, subject_type=batch._meta.label_lower, subject_id=batch.pk
    )
    return tasks.exists() or ReturnFile.objects.filter(batch=batch).exists()


def recipient_of(batch: Batch) -> tuple[Organisation, Sm2PublicKey]:
    """Return the provincial system, else a sender of the batch's data, and its newest valid public key.

    One batch may join several packages; among several provincial systems the sender comes first.
    """
    senders = set(
        Package.objects.filter(records__batch_item__batch=batch).values_list("sender_id", flat=True)
    )
    now = timezone.now()
    key = (
        SenderKey.objects.select_related("organisation")
        .filter(valid_from__lte=now, valid_until__gt=now, revoked_at__isnull=True)
        .filter(use__in=(KeyUse.BOTH, KeyUse.ENCRYPTION))
        .filter(organisation__is_active=True)
        .filter(Q(organisation_id__in=senders) | Q(organisation__kind=OrganisationKind.PROVINCE))
        .order_by(
            _first(Q(organisation__kind=OrganisationKind.PROVINCE)),
            _first(Q(organisation_id__in=senders)),
            "-valid_from",
            "-pk",
        )
        .first()
    )
    if key is None:
        raise NoRecipientKeyError("接收方没有有效的公钥，无法加密回盘文件", where=batch.number)
    return key.organisation, Sm2PublicKey.from_pem(key.public_key)


def _first(condition: Q) -> Case:
    return Case(When(condition, then=Value(0)), default=Value(1))


def write_return_file(batch: Batch, *, actor: User | None) -> ReturnFile:
    """Write, seal and register the return file; called by its task, inside its transaction."""
    recipient, public_key = recipient_of(batch)
    name = f"returns/{batch.number}.scp"
    # In memory, not in a temporary file: nothing of it lies on a disk in the clear. About 100 bytes a card.
    spool = io.BytesIO()
    made, failed = _write_inner(spool, batch)
    spool.seek(0)
    with store(name) as target:
        seal_package(
            spool,
            target,
            sender=settings.PORTAL_CODE,
            sender_key=portal_key(),
            recipient=recipient.code,
            recipient_key=public_key,
            package_number=f"HP-{batch.number}",
            created_at=timezone.now(),
        )
        digest = _digest(target)
    with unit_of_work(actor) as work:
        file = ReturnFile.objects.create(
            batch=batch, stored_name=name, card_count=made + failed, failed_count=failed, digest=digest
        )
        work.record("batch.return_file_written", batch, cards=made, failed=failed, recipient=recipient.code)
    return file


def _digest(file: BinaryIO) -> bytes:
    hasher = sm3_hasher()
    file.seek(0)
    while block := file.read(1 << 16):
        hasher.update(block)
    return hasher.finalize()


def _write_inner(spool: IO[bytes], batch: Batch) -> tuple[int, int]:
    """Write the inner ZIP; return how many cards were made and how many failed."""
    failed = 0
    with zipfile.ZipFile(spool, "w", zipfile.ZIP_DEFLATED) as inner:
        with (
            inner.open("results.csv", "w") as raw,
            io.TextIOWrapper(raw, "utf-8-sig", newline="") as text,
        ):
            writer = csv.writer(text)
            writer.writerow(COLUMNS)
            place = 0
            for place, row in enumerate(_rows(batch), start=1):
                failed += bool(row[-1])
                writer.writerow([str(place), *row])
        manifest = {"format": "sscard-return", "version": 1, "batch": batch.number, "record_count": place}
        inner.writestr("manifest.json", json.dumps(manifest, ensure_ascii=False))
    return place - failed, failed


def _rows(batch: Batch) -> Iterator[list[str]]:
    cards = {
        card.item_id: card
        for card in Card.objects.filter(batch=batch, outcome=Outcome.GOOD).select_related("carton")
    }
    items = BatchItem.objects.filter(batch=batch).select_related("record__package", "record__bank")
    for item in items.order_by("sequence").iterator(chunk_size=CHUNK):
        yield _row(item, cards.get(item.pk))


def _row(item: BatchItem, card: Card | None) -> list[str]:
    record = item.record
    assert record is not None, "the return file is written before the data is destroyed"
    assert record.bank is not None
    personal = open_personal(record)
    account = open_account(record)
    stage, reason = _failure(item, card)
    return [
        personal.card_number,
        open_number(record),
        open_name(record),
        f"{personal.issue_on:%Y%m%d}",
        f"{personal.expires_on:%Y%m%d}",
        card.card_identifier if card else "",
        card.atr if card else "",
        record.bank.code,
        account,
        account,
        f"{card.carton.number}/{card.carton_position}" if card and card.carton else "",
        stage,
        reason,
    ]


def _failure(item: BatchItem, card: Card | None) -> tuple[str, str]:
    """Return 失败环节 and 失败原因, both empty for a card that the bank accepted."""
    if card is not None:
        return ("", "") if card.accepted_on else (DELIVERING, "签收时缺少或损坏")
    last = Card.objects.filter(item=item).order_by("-attempt").values_list("reason", flat=True).first()
    if not last:
        return MAKING, str(ItemStatus(item.status).label)
    return PREPARING if last in SOURCE_REASONS else MAKING, reason_label(last)
