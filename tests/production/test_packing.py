"""Packing in the order the bank wants, and the delivery list as two readers see it (R-19, R-23)."""

from __future__ import annotations

import io
from typing import Any

import pytest
from openpyxl import load_workbook
from python_calamine import CalamineWorkbook

from orders.dictionary import CARD_KIND_LABELS, ISSUE_KIND_LABELS
from orders.models import BankProfile, CardholderRecord, DeliveryPoint
from orders.personal import open_account, open_name, open_number, open_personal
from portal.core.crypto import sm3
from portal.core.errors import PermissionRefusedError, TransitionRefusedError
from portal.files import read_sealed
from portal.models import Task
from production.choices import BatchStatus, DeliveryStatus, Outcome
from production.delivery_list import COLUMNS
from production.models import Batch, Card, Carton, Delivery
from production.services import packing, planning
from production.services.packing import BatchHeldError, NothingToPackError, pack_batch
from tests.production.light import light_closed, light_inspected, light_packed
from tests.production.world import World, build_world, run_queued
from tests.refusals import refused

EMPLOYERS = ("E300", "", "E100", "E300", "E200", "", "E100", "E300", "E050", "")


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def planned(world: World, sort_order: str, *, carton_size: int = 3) -> Batch:
    """Return ten approved positions with blanks, whose records came in no order of number or employer."""
    BankProfile.objects.update(sort_order=sort_order, carton_size=carton_size)
    order = world.order(10)
    records = CardholderRecord.objects.filter(order=order).order_by("row_number")
    for record, employer in zip(records, EMPLOYERS, strict=True):
        CardholderRecord.objects.filter(pk=record.pk).update(employer_code=employer)
    batch = planning.plan_batches(order, batch_size=10, actor=world.planner)[0]
    world.approve(batch)
    world.withdraw(batch, world.lot(20), 20)
    batch.refresh_from_db()
    return batch


def packed_cards(delivery: Delivery) -> list[Card]:
    cards = Card.objects.filter(carton__delivery=delivery).select_related("carton", "item__record__package")
    return list(cards.order_by("carton__number", "carton_position"))


def record_of(card: Card) -> CardholderRecord:
    assert card.item.record is not None
    return card.item.record


def workbook(delivery: Delivery) -> bytes:
    with read_sealed(delivery.list_name, delivery.batch.key_id) as sealed:
        return sealed.readall()


class TestOrder:
    def test_by_employer_then_number_without_employer_last(self, world: World) -> None:
        """R-19: within each delivery point, by unit, in it by number."""
        batch = pack_batch(light_closed(world, 10, batch=planned(world, "employer")), actor=world.operator)
        found = {}
        for delivery in batch.deliveries.select_related("delivery_point"):
            keys = [
                (record.employer_code or "~", open_number(record))
                for record in map(record_of, packed_cards(delivery))
            ]
            assert keys == sorted(keys)
            found[delivery.delivery_point.code] = [employer for employer, _ in keys]
        assert found == {
            "B001": ["E050", "E100", "E100", "E200", "E300"], "B002": ["E300", "E300", "~", "~", "~"],
        }  # fmt: skip

    def test_by_number(self, world: World) -> None:
        """R-19: the numbers stand sealed until packing and are sorted as they read."""
        batch = pack_batch(light_closed(world, 10, batch=planned(world, "number")), actor=world.operator)
        for delivery in batch.deliveries.all():
            numbers = [open_number(record_of(card)) for card in packed_cards(delivery)]
            assert numbers == sorted(numbers)
            assert len(set(numbers)) == 5

    def test_as_received(self, world: World) -> None:
        """R-19: 来件顺序 is the order of rows in the package, not that of numbers."""
        batch = pack_batch(light_closed(world, 10, batch=planned(world, "received")), actor=world.operator)
        rows, numbers = [], []
        for delivery in batch.deliveries.order_by("number"):
            rows.append([record_of(card).row_number - 10_000 for card in packed_cards(delivery)])
            numbers.append([open_number(record_of(card)) for card in packed_cards(delivery)])
        base = min(rows[0])
        assert [[row - base for row in found] for found in rows] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
        assert any(found != sorted(found) for found in numbers)


class TestCartons:
    def test_sizes_numbers_and_positions(self, world: World) -> None:
        """R-19, R-23: five cards a point in cartons of three: 3 and 2, numbered, each card with its place."""
        batch = pack_batch(light_closed(world, 10, batch=planned(world, "number")), actor=world.operator)
        assert batch.status == BatchStatus.PACKED
        number = batch.number
        deliveries = list(batch.deliveries.order_by("number"))
        assert [(d.number, d.card_count, d.status, d.delivery_point.code) for d in deliveries] == [
            (f"{number}-{code}", 5, DeliveryStatus.PACKED, code) for code in ("B001", "B002")
        ]
        cartons = Carton.objects.order_by("number")
        assert [(c.number, c.card_count) for c in cartons] == [
            (f"{number}-{code}-{place:03d}", count)
            for code in ("B001", "B002") for place, count in ((1, 3), (2, 2))
        ]  # fmt: skip
        for carton in cartons:
            places = carton.cards.order_by("carton_position").values_list("carton_position", flat=True)
            assert list(places) == list(range(1, carton.card_count + 1))
        assert Card.objects.filter(batch=batch, outcome=Outcome.GOOD, carton=None).count() == 0

    def test_rejected_cards_are_not_packed(self, world: World) -> None:
        """R-21: what was spoiled stays in the store of spoiled cards."""
        batch = light_inspected(world, 4, rejected=3)
        Batch.objects.filter(pk=batch.pk).update(status=BatchStatus.CLOSED)
        pack_batch(batch, actor=world.operator)
        assert Card.objects.filter(carton__isnull=False).count() == 4
        assert set(Card.objects.filter(carton=None).values_list("outcome", flat=True)) == {"rejected"}

    def test_a_thousand_cartons_still_sort_as_packed(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-19: numbers grow to one width, so that carton 1000 does not come before carton 101."""
        batch = light_closed(world, 4, batch=None)
        monkeypatch.setattr(packing, "_chunks", lambda cards, size: [cards[:1]] + [[]] * 998 + [cards[1:]])
        pack_batch(batch, actor=world.operator)
        numbers = list(Carton.objects.order_by("pk").values_list("number", flat=True))
        assert numbers == sorted(numbers)
        assert numbers[999].endswith("B001-1000")
        assert numbers[0].endswith("B001-0001")

    def test_long_names_of_points_fit(self, world: World) -> None:
        """R-23: a delivery point's code may have 32 characters."""
        DeliveryPoint.objects.filter(code="B001").update(code="B" * 32)
        batch = pack_batch(light_closed(world, 2), actor=world.operator)
        assert set(batch.deliveries.values_list("number", flat=True)) == {
            f"{batch.number}-{'B' * 32}", f"{batch.number}-B002",
        }  # fmt: skip


class TestRefusals:
    def test_a_held_batch_is_not_packed(self, world: World) -> None:
        """R-26."""
        batch = light_closed(world, 2)
        Batch.objects.filter(pk=batch.pk).update(held_reason="坏卡率超限")
        with refused(BatchHeldError) as caught:
            pack_batch(batch, actor=world.operator)
        assert (caught.value.code, caught.value.got) == ("batch_held", "坏卡率超限")

    def test_nothing_to_pack(self, world: World) -> None:
        batch = light_closed(world, 2)
        Card.objects.update(outcome=Outcome.REJECTED)
        with refused(NothingToPackError):
            pack_batch(batch, actor=world.operator)

    def test_twice(self, world: World) -> None:
        batch = light_packed(world, 2)
        with refused(TransitionRefusedError):
            pack_batch(batch, actor=world.operator)

    def test_before_the_counts_balance(self, world: World) -> None:
        """R-21: no closing, no packing."""
        batch = light_inspected(world, 2)
        with refused(TransitionRefusedError):
            pack_batch(batch, actor=world.operator)

    @pytest.mark.parametrize("name", ["keeper", "quality", "clerk", "other_planner"])
    def test_by_others(self, world: World, name: str) -> None:
        batch = light_closed(world, 2)
        with refused(PermissionRefusedError):
            pack_batch(batch, actor=getattr(world, name))


class TestList:
    def test_both_readers_see_every_cell_as_the_records_have_it(self, world: World) -> None:
        """R-23: numbers of 18 and accounts of 19 digits are text and whole; rows stand as packed."""
        batch = light_packed(world, 10, batch=planned(world, "employer"))
        for delivery in batch.deliveries.select_related("batch"):
            content = workbook(delivery)
            assert bytes(delivery.list_digest or b"") == sm3(content)
            expected = [_expected(place, card) for place, card in enumerate(packed_cards(delivery), 1)]
            assert {len(row[3]) for row in expected} <= {15, 18}
            assert {len(row[6]) for row in expected} == {19}
            assert _calamine_rows(content) == expected
            assert _openpyxl_rows(content) == expected

    def test_what_stands_above_the_table(self, world: World) -> None:
        """R-23: whose cards, how many, where to; and that it holds personal data (R-45)."""
        batch = light_packed(world, 3)
        delivery = batch.deliveries.order_by("number").first()
        assert delivery is not None
        sheet = load_workbook(io.BytesIO(workbook(delivery))).active
        assert sheet is not None
        head = [str(sheet.cell(row, 1).value) for row in range(1, 6)]
        assert head[0] == f"社会保障卡交接清单 {delivery.number}"
        assert head[1] == f"交付单号：{delivery.number}　批次：{batch.number}　订单：{batch.order.number}"
        assert head[2] == "银行：工商银行　网点：B001 网点（B001）　地址：佛山"
        assert head[3] == "张数：2　制卡单位：中标人一"
        assert head[4].endswith("含个人信息，仅限签收核对使用")

    def test_writing_it_again_writes_the_same_file(self, world: World) -> None:
        """D7: a second run of the task replaces the first one's file."""
        batch = light_packed(world, 2)
        names = set(Delivery.objects.values_list("list_name", flat=True))
        Delivery.objects.update(list_name="", list_digest=None)
        Task.objects.filter(handler="production.jobs_delivery.write_list").update(status="queued")
        run_queued()
        assert set(Delivery.objects.values_list("list_name", flat=True)) == names
        for delivery in batch.deliveries.select_related("batch"):
            assert bytes(delivery.list_digest or b"") == sm3(workbook(delivery))


def _expected(place: int, card: Card) -> list[str]:
    record = record_of(card)
    part = open_personal(record)
    assert card.carton is not None
    return [
        str(place), card.carton.number, str(card.carton_position), open_number(record), open_name(record),
        part.card_number, open_account(record), record.employer_code, part.employer_name,
        CARD_KIND_LABELS[card.card_kind], ISSUE_KIND_LABELS[card.issue_kind], card.card_identifier,
    ]  # fmt: skip


def _calamine_rows(content: bytes) -> list[list[Any]]:
    rows = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0).to_python()
    heading = [str(cell) for cell in rows[5]]
    assert heading == [column.label for column in COLUMNS]
    return rows[6:]


def _openpyxl_rows(content: bytes) -> list[list[Any]]:
    sheet = load_workbook(io.BytesIO(content), read_only=False).active
    assert sheet is not None
    found = []
    for row in sheet.iter_rows(min_row=7):
        assert {cell.data_type for cell in row if cell.value is not None} == {"s"}
        found.append([cell.value or "" for cell in row])
    return found
