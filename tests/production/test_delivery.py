"""Delivery: sent with its lists, counted carton by carton and signed by its own bank only (R-23, R-34)."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import dataclass

import pytest
from openpyxl import load_workbook

from orders.choices import OrderStatus
from portal.choices import OrganisationKind, Role
from portal.core.errors import ConflictError, PermissionRefusedError, TransitionRefusedError
from portal.models import AuditEntry, Organisation, User
from production.choices import BatchStatus, DeliveryStatus, ReceiptResult
from production.models import Batch, Card, Carton, Delivery, Receipt
from production.services import planning
from production.services.delivery import (
    CartonsOpenError,
    CountRefusedError,
    ListNotReadyError,
    confirm_carton,
    dispatch_batch,
    download_list,
    sign_delivery,
)
from production.services.packing import BatchHeldError, pack_batch
from tests.production.light import light_closed, light_dispatched, light_packed, light_signed, sign
from tests.production.world import World, build_world, run_queued
from tests.refusals import actions, refused


@dataclass
class Counter:
    """The bank that counts, and one that has no business here."""

    world: World
    clerk: User
    stranger: User


@pytest.fixture
def counter(db: None) -> Counter:
    world = build_world()
    other = Organisation.objects.create(
        kind=OrganisationKind.BANK, code="95599", name="农业银行", short_name="农业银行"
    )
    clerk, stranger = (
        User.objects.create(username=name, organisation=bank, roles=[Role.BANK_CLERK])
        for name, bank in (("bank", world.bank), ("stranger", other))
    )
    return Counter(world, clerk, stranger)


def at(monkeypatch: pytest.MonkeyPatch, *moment: int) -> None:
    """Let it be a moment of the city's clock in UTC."""
    monkeypatch.setattr("portal.core.clock.now", lambda: dt.datetime(*moment, tzinfo=dt.UTC))


def first(batch: Batch) -> Delivery:
    found: Delivery = batch.deliveries.order_by("number")[0]
    return found


class TestDispatch:
    def test_dispatch_sends_every_delivery(self, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
        """R-23: 23:30 UTC is the next day in the city."""
        batch = light_packed(counter.world, 4)
        at(monkeypatch, 2026, 11, 23, 23, 30)
        sent = dispatch_batch(batch, actor=counter.world.operator)
        assert sent.status == BatchStatus.DISPATCHED
        assert set(sent.deliveries.values_list("status", flat=True)) == {DeliveryStatus.DISPATCHED}
        assert set(Card.objects.values_list("delivered_on", "accepted_on", "warranty_until")) == {
            (dt.date(2026, 11, 24), None, None)
        }

    def test_lists_come_first(self, counter: Counter) -> None:
        """R-23: nothing leaves without the list its bank is to sign."""
        batch = pack_batch(light_closed(counter.world, 4), actor=counter.world.operator)
        with refused(ListNotReadyError) as caught:
            dispatch_batch(batch, actor=counter.world.operator)
        assert (caught.value.code, caught.value.got) == ("list_not_ready", "还有 2 份")
        with refused(ListNotReadyError):
            download_list(first(batch), actor=counter.clerk)
        run_queued()
        assert dispatch_batch(batch, actor=counter.world.operator).status == BatchStatus.DISPATCHED

    def test_a_held_batch_does_not_leave(self, counter: Counter) -> None:
        """R-26."""
        batch = light_packed(counter.world, 2)
        Batch.objects.filter(pk=batch.pk).update(held_reason="坏卡率超限")
        with refused(BatchHeldError):
            dispatch_batch(batch, actor=counter.world.operator)

    @pytest.mark.parametrize("name", ["keeper", "quality", "clerk", "other_planner"])
    def test_others_do_not_dispatch(self, counter: Counter, name: str) -> None:
        batch = light_packed(counter.world, 2)
        with refused(PermissionRefusedError):
            dispatch_batch(batch, actor=getattr(counter.world, name))

    def test_twice(self, counter: Counter) -> None:
        batch = light_dispatched(counter.world, 2)
        with refused(TransitionRefusedError):
            dispatch_batch(batch, actor=counter.world.operator)


class TestList:
    def test_the_bank_downloads_its_list_and_that_is_an_event(self, counter: Counter) -> None:
        """R-45: who took a list is known."""
        delivery = first(light_dispatched(counter.world, 4))
        name, blocks = download_list(delivery, actor=counter.clerk)
        sheet = load_workbook(io.BytesIO(b"".join(blocks))).active
        assert sheet is not None
        assert name == f"{delivery.number}.xlsx"
        assert [cell.value for cell in sheet["A"]][6:] == ["1", "2"]
        entry = AuditEntry.objects.latest("position")
        assert (entry.action, entry.actor_name, entry.object_id, entry.details) == (
            "delivery.list_downloaded", "bank", str(delivery.pk), {"cards": 2},
        )  # fmt: skip

    @pytest.mark.parametrize("name", ["operator", "clerk", "approver", "keeper"])
    def test_only_the_bank_takes_it(self, counter: Counter, name: str) -> None:
        """R-45: neither supplier nor purchaser needs the bank's list of people."""
        delivery = first(light_dispatched(counter.world, 2))
        with refused(PermissionRefusedError):
            download_list(delivery, actor=getattr(counter.world, name))


class TestOtherBank:
    def test_it_is_refused_everywhere(self, counter: Counter) -> None:
        """R-23: one bank neither sees, counts nor signs what is another's (D12)."""
        delivery = first(light_dispatched(counter.world, 4))
        carton = delivery.cartons.get()
        for model in (Delivery, Carton, Receipt, Card, Batch):
            assert list(model.objects.visible_to(counter.stranger)) == []
        with refused(PermissionRefusedError):
            download_list(delivery, actor=counter.stranger)
        with refused(PermissionRefusedError):
            confirm_carton(carton, counted=2, actor=counter.stranger)
        confirm_carton(carton, counted=2, actor=counter.clerk)
        with refused(PermissionRefusedError):
            sign_delivery(delivery, actor=counter.stranger)


class TestCartons:
    def test_a_count_that_agrees(self, counter: Counter) -> None:
        carton = first(light_dispatched(counter.world, 4)).cartons.get()
        receipt = confirm_carton(carton, counted=2, actor=counter.clerk, note="  收齐 ")
        assert (receipt.result, receipt.counted, receipt.missing_positions, receipt.note) == (
            ReceiptResult.CONFIRMED, 2, [], "收齐",
        )  # fmt: skip
        assert actions()[-1] == "carton.received"

    def test_a_difference_names_the_positions(self, counter: Counter) -> None:
        """R-23: what is missing or damaged is said card by card, and why."""
        carton = first(light_dispatched(counter.world, 8)).cartons.get()
        receipt = confirm_carton(
            carton, counted=2, missing_positions=[4, 2, 4], note="两张弯曲", actor=counter.clerk
        )
        assert (receipt.result, receipt.missing_positions) == (ReceiptResult.DIFFERENT, [2, 4])

    @pytest.mark.parametrize(
        ("counted", "missing", "note", "expected"),
        [
            (3, [], "", "4"),
            (5, [], "", "4"),
            (-1, [], "", "4"),
            (4, [1], "少一张", "3"),
            (3, [0], "少一张", "1–4"),
            (3, [5], "少一张", "1–4"),
            (3, [-1], "少一张", "1–4"),
            (3, [1], "  ", ""),
        ],
    )
    def test_counts_that_do_not_fit(
        self, counter: Counter, counted: int, missing: list[int], note: str, expected: str
    ) -> None:
        carton = first(light_dispatched(counter.world, 8)).cartons.get()
        with refused(CountRefusedError) as caught:
            confirm_carton(carton, counted=counted, missing_positions=missing, note=note, actor=counter.clerk)
        assert (caught.value.code, caught.value.expected) == ("count_refused", expected)

    def test_a_carton_is_counted_once(self, counter: Counter) -> None:
        carton = first(light_dispatched(counter.world, 4)).cartons.get()
        confirm_carton(carton, counted=2, actor=counter.clerk)
        with refused(ConflictError):
            confirm_carton(carton, counted=1, missing_positions=[1], note="少", actor=counter.clerk)

    def test_not_before_it_was_sent(self, counter: Counter) -> None:
        carton = first(light_packed(counter.world, 4)).cartons.get()
        with refused(TransitionRefusedError):
            confirm_carton(carton, counted=2, actor=counter.clerk)

    def test_a_long_note_is_cut(self, counter: Counter) -> None:
        carton = first(light_dispatched(counter.world, 4)).cartons.get()
        receipt = confirm_carton(
            carton, counted=1, missing_positions=[1], note="长" * 999, actor=counter.clerk
        )
        receipt.refresh_from_db()
        assert receipt.note == "长" * 200


class TestSignature:
    def test_every_carton_has_the_banks_word_first(self, counter: Counter) -> None:
        delivery = first(light_dispatched(counter.world, 4))
        with refused(CartonsOpenError) as caught:
            sign_delivery(delivery, actor=counter.clerk)
        assert caught.value.got == "1 箱"

    def test_signed_cards_have_two_years_of_warranty(
        self, counter: Counter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-34: signed on 29 February 2028, warranted to 28 February 2030."""
        batch = light_dispatched(counter.world, 4)
        at(monkeypatch, 2028, 2, 29, 3)
        delivery = sign(first(batch), counter.clerk)
        assert (delivery.status, delivery.signed_by) == (DeliveryStatus.SIGNED, counter.clerk)
        signed = Card.objects.filter(carton__delivery=delivery)
        assert set(signed.values_list("accepted_on", "warranty_until")) == {
            (dt.date(2028, 2, 29), dt.date(2030, 2, 28))
        }
        assert set(Card.objects.exclude(pk__in=signed).values_list("accepted_on", flat=True)) == {None}
        entry = AuditEntry.objects.get(action="delivery.signed")
        assert (entry.details["accepted"], entry.details["listed"]) == (2, 2)

    def test_the_last_delivery_signs_the_batch_and_completes_the_order(self, counter: Counter) -> None:
        """R-23: nothing is complete while one point waits."""
        batch = light_dispatched(counter.world, 4)
        one, other = batch.deliveries.order_by("number")
        sign(one, counter.clerk)
        batch.refresh_from_db()
        assert (batch.status, batch.order.status) == (BatchStatus.DISPATCHED, OrderStatus.IN_PRODUCTION)
        sign(other, counter.clerk)
        batch.refresh_from_db()
        order = type(batch.order).objects.get(pk=batch.order_id)
        assert (batch.status, batch.signed_at is not None) == (BatchStatus.SIGNED, True)
        assert (order.status, order.completed_at is not None) == (OrderStatus.COMPLETED, True)
        assert actions()[-3:] == ["delivery.signed", "batch.signed", "order.completed"]

    def test_an_order_waits_for_its_other_batches(self, counter: Counter) -> None:
        world = counter.world
        one, other = planning.plan_batches(world.order(4), batch_size=2, actor=world.planner)
        lot = world.lot(50)
        for batch in (one, other):
            world.approve(batch)
            world.withdraw(batch, lot, 4)
            batch.refresh_from_db()
        light_signed(world, 2, counter.clerk, batch=one)
        assert type(one.order).objects.get().status == OrderStatus.IN_PRODUCTION
        light_signed(world, 2, counter.clerk, batch=other)
        assert type(one.order).objects.get().status == OrderStatus.COMPLETED

    def test_missing_cards_are_not_accepted(self, counter: Counter) -> None:
        """R-23, R-39: what the bank did not get is neither warranted nor billed."""
        delivery = first(light_dispatched(counter.world, 8))
        carton = delivery.cartons.get()
        confirm_carton(carton, counted=2, missing_positions=[2, 3], note="缺失", actor=counter.clerk)
        sign_delivery(delivery, actor=counter.clerk)
        cards = Card.objects.filter(carton=carton).order_by("carton_position")
        assert [card.accepted_on is not None for card in cards] == [True, False, False, True]
        assert [card.warranty_until is not None for card in cards] == [True, False, False, True]
        assert AuditEntry.objects.get(action="delivery.signed").details["accepted"] == 2

    def test_twice(self, counter: Counter) -> None:
        delivery = sign(first(light_dispatched(counter.world, 4)), counter.clerk)
        with refused(TransitionRefusedError):
            sign_delivery(delivery, actor=counter.clerk)
        with refused(TransitionRefusedError):
            confirm_carton(delivery.cartons.get(), counted=2, actor=counter.clerk)

    @pytest.mark.parametrize("name", ["operator", "clerk", "approver", "planner"])
    def test_nobody_signs_for_the_bank(self, counter: Counter, name: str) -> None:
        """R-23: the bank signs, not who made or ordered the cards."""
        delivery = first(light_dispatched(counter.world, 4))
        confirm_carton(delivery.cartons.get(), counted=2, actor=counter.clerk)
        with refused(PermissionRefusedError):
            sign_delivery(delivery, actor=getattr(counter.world, name))
