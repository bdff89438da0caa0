"""Early destruction by two people: a package that is not to be made, or a person who withdraws (R-22)."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, Package
from orders.services.destruction import Destroyed, destroy_records
from orders.services.locking import lock_banks
from orders.services.packages import undone_on_error
from orders.services.refusals import ReasonMissingError
from portal.audit import unit_of_work
from portal.core.errors import ConflictError, InputRefusedError, PortalError, TransitionRefusedError
from portal.models import User
from portal.roles import require, require_second_person
from portal.workflow import check_move, locked, move
from production.choices import RequestStatus
from production.models import Batch, DestructionCertificate, DestructionRequest
from production.services.destruction_certifying import (
    certify_when_gone,
    common_facts,
    destroyed_facts,
    digest_of,
)

METHOD: Final = (
    "经申请人与复核人两人批准，数据库记录（含历次版本）与银行账号行已删除；这些人员在数据包和账号文件中的密钥"
    "已覆写并删除，加密的行、照片及其一切备份因此不可恢复。这些记录未制卡。"
)
_NUMBER_LIKE: Final = re.compile(r"\d{8}")
_SHOWN: Final = 5


class InProductionError(PortalError):
    """Records that a batch or an order has taken up: their data goes when the cards are signed for."""

    code = "records_in_production"


class NothingToDestroyError(PortalError):
    """No open record is left of what was named."""

    code = "nothing_to_destroy"


class DestructionRequestedError(ConflictError):
    """A request for the same package or person waits already."""

    code = "destruction_requested"


class ReasonNumberError(InputRefusedError):
    """A reason that quotes a number would outlive the person's data."""

    code = "reason_has_number"


def request_early_destruction(
    subject: Package | CardholderRecord, *, reason: str, actor: User
) -> DestructionRequest:
    """Ask to destroy a package's open records, or one person's; a second person decides.

    Raises InProductionError naming batches and orders when any of the records is taken up already.
    """
    require(actor, "production.request_destruction", subject)
    reason = _checked_reason(reason)
    package, row_number = _parts(subject)
    with unit_of_work(actor) as work:
        held = locked(package)
        _destroyable(held, row_number)
        request = _created(held, row_number, reason, actor)
        work.record(
            "destructionrequest.requested", request, package=held.number, row=row_number, reason=reason
        )
    return request


def decide_early_destruction(
    request: DestructionRequest, *, approve: bool, actor: User
) -> DestructionRequest:
    """Approve or refuse as the second person; an approval destroys at once, the certificate follows."""
    require(actor, "production.decide_destruction", request)
    require_second_person(request.requested_by, actor, request)
    decided: dict[str, Any] = {"decided_by": actor, "decided_at": timezone.now()}
    if not approve:
        return move(request, RequestStatus.REFUSED, actor=actor, **decided)
    with undone_on_error() as undo, unit_of_work(actor):
        fresh = locked(request)
        check_move(fresh, RequestStatus.APPROVED)
        destroyed, facts = _destroy(fresh, actor, undo)
        count = destroyed.record_count
        fresh = move(
            fresh,
            RequestStatus.APPROVED,
            actor=actor,
            details={"records": count},
            record_count=count,
            **decided,
        )
        paper = DestructionCertificate.objects.create(
            number=facts["number"], request=fresh, content=facts, signature=b""
        )
        certify_when_gone(paper, destroyed, actor=actor)
    return fresh


def find_subject(package_number: str, row_number: int | None, *, actor: User) -> Package | CardholderRecord:
    """Return the package, or the newest version of a row of it; raise NothingToDestroyError."""
    found = Package.objects.visible_to(actor).filter(number=package_number)
    package: Package | None = found.exclude(status=PackageStatus.REFUSED).first()
    if package is None:
        raise NothingToDestroyError("没有这个数据包", got=package_number[:64])
    if row_number is None:
        return package
    rows = package.records.filter(row_number=row_number).select_related("package").order_by("-version")
    record: CardholderRecord | None = rows.first()
    if record is None:
        raise NothingToDestroyError("数据包内没有这一行的记录", where=f"{package}#{row_number}")
    return record


def _parts(subject: Package | CardholderRecord) -> tuple[Package, int | None]:
    if isinstance(subject, Package):
        return subject, None
    return subject.package, subject.row_number


def _checked_reason(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise ReasonMissingError("请填写理由")
    if _NUMBER_LIKE.search(reason):
        raise ReasonNumberError("事由会长期保存，不得写入证件号码、卡号或账号", where="reason")
    return reason[:200]


def _created(package: Package, row_number: int | None, reason: str, actor: User) -> DestructionRequest:
    try:
        with transaction.atomic():
            request: DestructionRequest = DestructionRequest.objects.create(
                package=package, row_number=row_number, reason=reason, requested_by=actor
            )
    except IntegrityError as exc:
        if "destruction_request_one_open" not in str(exc):
            raise
        raise DestructionRequestedError("已有待复核的提前销毁申请", where=str(package)) from exc
    return request


def _destroyable(package: Package, row_number: int | None) -> QuerySet[CardholderRecord]:
    """Return the open records meant, the newest version of each row; refuse what is in production."""
    if package.status != PackageStatus.VALIDATED:
        raise TransitionRefusedError(
            "只有已校验的数据包可以提前销毁",
            expected=str(PackageStatus.VALIDATED.label),
            got=str(package.get_status_display()),
        )
    found = package.records.exclude(status=RecordStatus.SUPERSEDED)
    if row_number is not None:
        found = found.filter(row_number=row_number)
    if taken := _taken_up(found):
        raise InProductionError(
            "这些记录已投入生产，数据在卡片签收后销毁",
            where="、".join(taken),
            expected="未下单、未分批的记录",
        )
    if not found.exists():
        raise NothingToDestroyError("没有可销毁的记录", where=str(package))
    return found


def _taken_up(records: QuerySet[CardholderRecord]) -> list[str]:
    """Name the batches that hold any of the records, and the orders of those not yet in a batch."""
    batches = Batch.objects.filter(items__record__in=records).order_by("number").distinct()
    names = [f"批次 {batch.number}" for batch in batches[: _SHOWN + 1]]
    waiting = records.filter(status=RecordStatus.ORDERED, batch_item__isnull=True).order_by("order__number")
    orders = waiting.values_list("order__number", flat=True).distinct()
    names += [f"订单 {number}" for number in orders[: _SHOWN + 1]]
    return [*names[:_SHOWN], "……"] if len(names) > _SHOWN else names


def _destroy(request: DestructionRequest, actor: User, undo: ExitStack) -> tuple[Destroyed, dict[str, Any]]:
    # Banks first, as matching and ordering lock: neither takes a record up that is about to go.
    records = request.package.records
    lock_banks(pk for pk in records.values_list("bank_id", flat=True).order_by().distinct() if pk)
    package = locked(request.package)
    chosen = _destroyable(package, request.row_number)
    facts = _facts(request, package, actor) | {
        "people_digest": digest_of(chosen.order_by("number_index").values_list("number_index", flat=True))
    }
    ids = list(chosen.values_list("pk", flat=True))
    destroyed = destroy_records(ids, actor=actor, undo=undo)
    return destroyed, facts | destroyed_facts(facts, destroyed)


def _facts(request: DestructionRequest, package: Package, actor: User) -> dict[str, Any]:
    row = "" if request.row_number is None else f" 第 {request.row_number} 行"
    sender = f"发送方 {package.sender}，" if package.sender else ""
    return common_facts(actor) | {
        "number": f"XH-{package.number}-T{request.pk}",
        "subject": f"数据包 {package.number}{row}",
        "origin": f"{sender}申请 {request.pk} 号",
        "occasion": "经两人批准已在制卡前销毁",
        "signers": [["销毁申请", request.requested_by.username], ["销毁复核", actor.username]],
        "method": METHOD,
    }
