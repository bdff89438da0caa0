"""Destroying rejected cards: asked for by one person, witnessed by another, booked in the ledger (R-21)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from django.db.models import QuerySet
from django.utils import timezone

from orders.models import Contract
from portal.audit import unit_of_work
from portal.core.clock import today
from portal.core.errors import ConflictError, InputRefusedError
from portal.core.sheets import Column, write_list
from portal.models import User
from portal.roles import require, require_second_person
from portal.texts import in_chinese
from portal.workflow import locked, move
from production.choices import DestructionMethod, LocationKind, MovementKind, RequestStatus
from production.line.made import REASON_LABELS
from production.models import Card, CardDestruction, StockLot
from production.selectors.waste import requested_serials, spoiled_cards
from production.services.cards import DECIDED
from production.services.stock import post

MOST_CARDS = 5000
SHOWN = 5
REASONS = {**REASON_LABELS, DECIDED: "双人认定"}
COLUMNS = (
    Column("序号", 8),
    Column("芯片序列号", 22),
    Column("白卡批", 24),
    Column("批次", 34),
    Column("卡种", 12),
    Column("废品原因", 16),
)


class DestructionRefusedError(InputRefusedError):
    """Cards that are not rejected ones in the spoiled store, or a request without place or method."""

    code = "card_destruction_refused"


def request_card_destruction(
    contract: Contract,
    *,
    serials: Sequence[str] | None = None,
    method: str,
    place: str,
    note: str = "",
    actor: User,
) -> CardDestruction:
    """Ask to destroy rejected cards of the spoiled store by serial; without serials all that wait there.

    Raises DestructionRefusedError for a serial that does not wait there, also when it is another supplier's.
    """
    require(actor, "production.request_carddestruction", contract)
    if method not in DestructionMethod.values or not place.strip():
        raise DestructionRefusedError("须写明销毁方式和地点", got=f"{method[:20]} {place[:20]}")
    with unit_of_work(actor) as work:
        fresh = locked(contract)
        chosen = _chosen(fresh, serials)
        destruction = CardDestruction.objects.create(
            number=_number(fresh),
            contract=fresh,
            method=method,
            place=place.strip()[:100],
            serials=chosen,
            card_count=len(chosen),
            note=note.strip()[:200],
            requested_by=actor,
        )
        work.record("carddestruction.requested", destruction, cards=len(chosen), method=method)
    return destruction


def decide_card_destruction(
    destruction: CardDestruction, *, approve: bool, witnesses: str = "", actor: User
) -> CardDestruction:
    """Confirm as the witness that the cards are destroyed, or refuse; a confirmation books them out.

    Raises ConflictError when one of the cards no longer waits in the spoiled store; the request stays open.
    """
    require(actor, "production.decide_carddestruction", destruction)
    require_second_person(destruction.requested_by, actor, destruction)
    target = RequestStatus.APPROVED if approve else RequestStatus.REFUSED
    with unit_of_work(actor):
        decided = move(
            destruction,
            target,
            actor=actor,
            details={"cards": destruction.card_count},
            decided_by=actor,
            decided_at=timezone.now(),
            destroyed_on=today() if approve else None,
            witnesses=witnesses.strip()[:200],
        )
        if approve:
            _book_out(decided, actor)
    return decided


def destruction_record(destruction: CardDestruction, target: Path | BinaryIO, *, actor: User) -> None:
    """Write the record that both people sign, card by card, as Excel; the export is audited."""
    require(actor, "production.view_carddestruction", destruction)
    with in_chinese(), unit_of_work(actor) as work:
        work.record("carddestruction.exported", destruction, cards=destruction.card_count)
        write_list(
            target,
            title=f"废卡销毁记录 {destruction.number}（{destruction.get_status_display()}）",
            columns=COLUMNS,
            rows=_rows(destruction),
            header_lines=_heading(destruction, actor),
        )


def _chosen(contract: Contract, serials: Sequence[str] | None) -> list[str]:
    waiting = spoiled_cards(contract.pk)
    if serials is None:
        taken = requested_serials(contract.pk)
        found = [serial for serial in _in_order(waiting) if serial not in taken]
    else:
        wanted = {serial.strip().upper() for serial in serials if serial.strip()}
        found = _in_order(waiting.filter(serial__in=wanted))
        _refuse_strange(contract, wanted, found)
    if not 1 <= len(found) <= MOST_CARDS:
        raise DestructionRefusedError(
            "没有可销毁的废卡，或一次过多", expected=f"1 至 {MOST_CARDS} 张", got=str(len(found))
        )
    return found


def _in_order(cards: QuerySet[Card]) -> list[str]:
    return list(cards.order_by("serial").values_list("serial", flat=True))


def _refuse_strange(contract: Contract, wanted: set[str], found: list[str]) -> None:
    strange = sorted(wanted - set(found))
    if strange:
        raise DestructionRefusedError(
            "不是废卡库中待销毁的卡", where="、".join(strange[:SHOWN]), got=str(len(strange))
        )
    doubled = sorted(requested_serials(contract.pk, found) & wanted)
    if doubled:
        raise DestructionRefusedError("已在另一张待复核的销毁单中", where="、".join(doubled[:SHOWN]))


def _number(contract: Contract) -> str:
    """Return the contract's next number of the day; the caller holds the contract's lock."""
    stem = f"{contract.number}-XH{today():%Y%m%d}"
    return f"{stem}-{CardDestruction.objects.filter(number__startswith=stem).count() + 1:03d}"


def _book_out(destruction: CardDestruction, actor: User) -> None:
    waiting = spoiled_cards(destruction.contract_id).filter(serial__in=destruction.serials)
    cards = list(waiting.select_for_update(of=("self",)).order_by("id").values_list("id", "lot_id"))
    if len(cards) != destruction.card_count:
        raise ConflictError(
            "有卡片已不在废卡库中",
            where=destruction.number,
            expected=str(destruction.card_count),
            got=str(len(cards)),
        )
    Card.objects.filter(pk__in=[pk for pk, _ in cards]).update(destruction=destruction)
    for lot_id, quantity in sorted(Counter(lot for _, lot in cards).items()):
        post(
            StockLot.objects.select_related("contract").get(pk=lot_id),
            MovementKind.DESTRUCTION,
            quantity,
            source=LocationKind.SPOILED,
            target=LocationKind.DESTROYED,
            requested_by=destruction.requested_by,
            approved_by=actor,
            note=destruction.number,
        )


def _heading(destruction: CardDestruction, actor: User) -> list[str]:
    contract = destruction.contract
    witness = destruction.decided_by or "（待复核）"
    others = f"　其他在场：{destruction.witnesses}" if destruction.witnesses else ""
    return [
        f"合同：{contract.number}　中标人：{contract.supplier.name}",
        f"方式：{destruction.get_method_display()}　地点：{destruction.place}",
        f"张数：{destruction.card_count:,}　说明：{destruction.note or '—'}",
        f"申请：{destruction.requested_by}　监销：{witness}{others}",
        f"销毁日期：{destruction.destroyed_on or '—'}",
        f"制表：{actor}　{timezone.localtime():%Y-%m-%d %H:%M}",
    ]


def _rows(destruction: CardDestruction) -> Iterator[list[str]]:
    cards = Card.objects.filter(serial__in=destruction.serials).select_related("lot", "batch")
    for number, card in enumerate(cards.order_by("serial").iterator(chunk_size=1000), start=1):
        yield [
            str(number),
            card.serial,
            card.lot.number,
            card.batch.number,
            str(card.get_card_kind_display()),
            REASONS.get(card.reason, card.reason),
        ]
