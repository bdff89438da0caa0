"""The delivery list: one row a card in carton order, decrypted only while it is written (R-23)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.utils import timezone

from orders.dictionary import CARD_KIND_LABELS, ISSUE_KIND_LABELS, CardKind, IssueKind
from orders.personal import KEY_COLUMNS, PersonalPart, RowKey, unseal
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
_CARD = ("carton__number", "carton_position", "card_kind", "issue_kind", "card_identifier")


class _Sealed(NamedTuple):
    """What a list shows of a record, as it stands in the columns of _SEALED."""

    employer_code: str
    number: bytes
    name: bytes
    personal: bytes
    account: bytes | None


_SEALED = ("employer_code", "number_sealed", "name_sealed", "personal_sealed", "account_sealed")
_RECORD = tuple(f"item__record__{column}" for column in (*KEY_COLUMNS, *_SEALED))


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
    """Yield the list's cells, CHUNK cards at a time.

    Plain columns: instances of card, position, record, package and carton would cost more than the ciphers.
    """
    cards = (
        Card.objects.filter(carton__delivery=delivery)
        .order_by("carton__number", "carton_position")
        .values_list(*_CARD, *_RECORD)
    )
    first, second = len(_CARD), len(_CARD) + len(KEY_COLUMNS)
    for place, columns in enumerate(cards.iterator(chunk_size=CHUNK), start=1):
        yield _row(place, columns[:first], RowKey(*columns[first:second]), _Sealed(*columns[second:]))


def _row(place: int, card: tuple[Any, ...], key: RowKey, record: _Sealed) -> list[str]:
    carton, position, card_kind, issue_kind, card_identifier = card
    assert key.id is not None, "an undelivered card has its record"
    cipher, row = key.cipher(), (key.id, key.version)
    personal = PersonalPart.from_json(unseal(cipher, *row, "personal", record.personal))
    return [
        str(place),
        carton,
        str(position),
        unseal(cipher, *row, "number", record.number),
        unseal(cipher, *row, "name", record.name),
        personal.card_number,
        unseal(cipher, *row, "account", record.account),
        record.employer_code,
        personal.employer_name,
        CARD_KIND_LABELS[CardKind(card_kind)],
        ISSUE_KIND_LABELS[IssueKind(issue_kind)],
        card_identifier,
    ]
