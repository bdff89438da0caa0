"""The delivery list: one row a card in carton order, decrypted only while it is written (R-23)."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils import timezone

from orders.dictionary import CARD_KIND_LABELS, ISSUE_KIND_LABELS, CardKind, IssueKind
from orders.models import CardholderRecord
from orders.personal import open_account, open_name, open_number, open_personal
from portal.core.sheets import Column
from production.models import Card, Delivery

COLUMNS = (
    Column("序号", 8),
    Column("箱号", 34),
    Column("箱内位置", 10),
    Column("社会保障号码", 22),
    Column("姓名", 20),
    Column("社保卡号", 14),
    Column("银行账号", 24),
    Column("单位编号", 22),
    Column("单位名称", 32),
    Column("卡种", 10),
    Column("发卡类型", 10),
    Column("卡识别码", 36),
)
CHUNK = 500


def header_lines(delivery: Delivery) -> list[str]:
    """Return what stands above the table: which cards, for whom, written when."""
    point, batch = delivery.delivery_point, delivery.batch
    return [
        f"交付单号：{delivery.number}　批次：{batch.number}　订单：{batch.order.number}",
        f"银行：{batch.order.bank.name}　网点：{point.name}（{point.code}）　地址：{point.address}",
        f"张数：{delivery.card_count:,}　制卡单位：{batch.order.contract.supplier.name}",
        f"生成时间：{timezone.localtime():%Y-%m-%d %H:%M}　含个人信息，仅限签收核对使用",
    ]


def rows(delivery: Delivery) -> Iterator[list[str]]:
    """Yield the list's cells, CHUNK cards at a time."""
    cards = (
        Card.objects.filter(carton__delivery=delivery)
        .select_related("carton", "item__record__package")
        .order_by("carton__number", "carton_position")
    )
    for place, card in enumerate(cards.iterator(chunk_size=CHUNK), start=1):
        yield _row(place, card)


def _row(place: int, card: Card) -> list[str]:
    record: CardholderRecord | None = card.item.record
    assert record is not None, "an undelivered card has its record"
    personal = open_personal(record)
    return [
        str(place),
        card.carton.number if card.carton else "",
        str(card.carton_position),
        open_number(record),
        open_name(record),
        personal.card_number,
        open_account(record),
        record.employer_code,
        personal.employer_name,
        CARD_KIND_LABELS[CardKind(card.card_kind)],
        ISSUE_KIND_LABELS[IssueKind(card.issue_kind)],
        card.card_identifier,
    ]
