"""Closing a batch by blind counts, lot by lot, and keeping samples (R-13, R-20, R-21)."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orders.choices import OrderStatus
from portal.core.errors import PermissionRefusedError, TransitionRefusedError
from portal.models import AuditEntry
from production.choices import BatchStatus, ItemStatus, LocationKind, MovementKind, Outcome
from production.models import Batch, Card, StockLot, StockMovement
from production.selectors.stock import balance, batch_blanks
from production.services import planning, preparation
from production.services.closing import (
    Counts,
    CountsDifferError,
    close_batch,
    ledger_counts,
    take_samples,
    totals,
)
from production.services.returns import NoRecipientKeyError, send_return_file
from production.services.stock import StockRefusedError, StockShortError
from tests.production.light import light_inspected
from tests.production.world import World, build_world
from tests.refusals import actions, refused


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def two_lots(world: World, quantity: int, first: int, second: int) -> Batch:
    """Return a released batch with blanks of two lots."""
    batch = planning.plan_batches(world.order(quantity), batch_size=quantity, actor=world.planner)[0]
    world.approve(batch)
    number = next(world.numbers)
    for prefix, taken in (("FS26A", first), ("FS26B", second)):
        world.withdraw(batch, world.lot(taken + 5, prefix=prefix, first=1 + 100_000 * number), taken)
    batch.refresh_from_db()
    return batch


def posted(lot: StockLot) -> dict[str, int]:
    found = StockMovement.objects.filter(lot=lot).values_list("kind").annotate(sum=Sum("quantity"))
    return dict(found.order_by())


# Where blanks of a plant's batch can be; counters and destroyed cards have their own tests.
PLACES = tuple(LocationKind)[:5]


class TestCounts:
    def test_equal_counts_close_the_batch_and_post_every_blank(self, world: World) -> None:
        """R-20, R-21: 10 positions, 3 spoiled, 2 samples, 23 withdrawn: 10 good + 3 + 2 + 8 returned."""
        batch = light_inspected(world, 10, rejected=3)
        lot = StockLot.objects.get()
        take_samples(batch, lot, 2, actor=world.operator)
        closed = close_batch(batch, good=10, rejected=3, samples=2, returned=8, actor=world.operator)
        assert (closed.status, closed.closed_at is not None) == (BatchStatus.CLOSED, True)
        assert posted(lot) == {
            "receipt": 23, "withdrawal": 23, "sample": 2, "good": 10, "spoilage": 3, "return": 8,
        }  # fmt: skip
        assert [balance(lot, place) for place in PLACES] == [8, 0, 3, 2, 10]
        entry = AuditEntry.objects.get(action="batch.closed")
        assert entry.details["counts"] == {"good": 10, "rejected": 3, "samples": 2, "returned": 8}

    def test_a_batch_without_a_good_card_passes_the_bank_by(self, world: World) -> None:
        """R-20, R-22: every record was refused; nothing is delivered, its data is still to be destroyed."""
        batch = light_inspected(world, 3)
        batch.items.update(status=ItemStatus.CANCELLED)
        batch.cards.update(outcome=Outcome.REJECTED, reason="glyph_missing")
        closed = close_batch(batch, good=0, rejected=3, samples=0, returned=10, actor=world.operator)
        assert (closed.status, closed.deliveries.count()) == (BatchStatus.SIGNED, 0)
        closed.order.refresh_from_db()
        assert closed.order.status == OrderStatus.COMPLETED
        assert actions()[-3:] == ["batch.closed", "batch.signed", "order.completed"]
        with pytest.raises(NoRecipientKeyError):  # the state allows it; this world's province has no key
            send_return_file(closed, actor=world.clerk)

    def test_each_lot_gets_its_own_postings(self, world: World) -> None:
        """R-21: cards take the first lot's blanks first; what is left goes back lot by lot."""
        batch = light_inspected(world, 6, rejected=2, batch=two_lots(world, 6, 7, 4))
        first, second = StockLot.objects.order_by("pk")
        assert ledger_counts(batch) == {first.pk: Counts(5, 2, 0, 0), second.pk: Counts(1, 0, 0, 3)}
        close_batch(batch, good=6, rejected=2, samples=0, returned=3, actor=world.operator)
        assert posted(first) == {"receipt": 12, "withdrawal": 7, "good": 5, "spoilage": 2}
        assert posted(second) == {"receipt": 9, "withdrawal": 4, "good": 1, "return": 3}
        assert [balance(first, place) for place in PLACES] == [5, 0, 2, 0, 5]
        assert [balance(second, place) for place in PLACES] == [8, 0, 0, 0, 1]

    @pytest.mark.parametrize(
        ("entered", "names"),
        [
            ({"good": 71}, "良品"),
            ({"rejected": 12}, "废品"),
            ({"samples": 1}, "留样"),
            ({"returned": 9}, "退库"),
            ({"good": 71, "rejected": 12}, "良品、废品"),
            ({"good": -1, "rejected": 0, "samples": 99, "returned": 0}, "良品、废品、留样、退库"),
        ],
    )
    def test_a_difference_names_the_counts_and_never_the_ledgers_figures(
        self, world: World, entered: dict[str, int], names: str
    ) -> None:
        """R-21: blind means that neither answer nor audit tells what would have been right."""
        batch = light_inspected(world, 73, rejected=13)
        right = {"good": 73, "rejected": 13, "samples": 0, "returned": 10}
        with refused(CountsDifferError, audited=["batch.counts_differ"]) as caught:
            close_batch(batch, **{**right, **entered}, actor=world.operator)
        assert (caught.value.code, caught.value.where) == ("counts_differ", names)
        assert (caught.value.expected, caught.value.got) == ("", "")
        assert str(caught.value) == f"清点数与系统账不符，请重新清点；位置：{names}"
        entry = AuditEntry.objects.latest("position")
        assert entry.details == {"fields": names, "entered": {**right, **entered}}
        assert (entry.result, entry.object_id) == ("refused", str(batch.pk))

    def test_right_counts_after_wrong_ones_close(self, world: World) -> None:
        batch = light_inspected(world, 2)
        with refused(CountsDifferError, audited=["batch.counts_differ"]):
            close_batch(batch, good=2, rejected=0, samples=0, returned=9, actor=world.operator)
        assert close_batch(
            batch, good=2, rejected=0, samples=0, returned=10, actor=world.operator
        ).status == BatchStatus.CLOSED  # fmt: skip

    def test_a_batch_is_closed_once(self, world: World) -> None:
        batch = light_inspected(world, 2)
        counts = {"good": 2, "rejected": 0, "samples": 0, "returned": 10}
        close_batch(batch, **counts, actor=world.operator)
        with refused(TransitionRefusedError):
            close_batch(batch, **counts, actor=world.operator)

    def test_an_uninspected_batch_is_not_closed(self, world: World) -> None:
        batch = world.released(2)
        with refused(TransitionRefusedError):
            close_batch(batch, good=0, rejected=0, samples=0, returned=12, actor=world.operator)

    @pytest.mark.parametrize("name", ["keeper", "quality", "clerk", "other_planner"])
    def test_others_do_not_close(self, world: World, name: str) -> None:
        batch = light_inspected(world, 2)
        with refused(PermissionRefusedError):
            close_batch(batch, good=2, rejected=0, samples=0, returned=10, actor=getattr(world, name))

    @given(
        quantity=st.integers(1, 9), rejected=st.integers(0, 12), samples=st.integers(0, 3),
        spare=st.integers(0, 4), split=st.integers(0, 100),
    )  # fmt: skip
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_withdrawn_is_good_and_rejected_and_samples_and_returned(
        self, world: World, quantity: int, rejected: int, samples: int, spare: int, split: int
    ) -> None:
        """R-21, whatever was spoiled, sampled and left over, and from however many lots."""
        blanks = quantity + rejected + samples + spare
        first = max(1, min(blanks - 1, blanks * split // 100)) if blanks > 1 else 1
        batch = two_lots(world, quantity, first, max(1, blanks - first))
        batch = light_inspected(world, quantity, rejected=rejected, batch=batch)
        for held in ledger_counts(batch):
            lot = StockLot.objects.get(pk=held)
            taken = min(samples, ledger_counts(batch)[held].returned)
            if taken:
                take_samples(batch, lot, taken, actor=world.operator)
        counts = totals(ledger_counts(batch))
        withdrawn = batch_blanks(batch).withdrawn
        assert (counts.good, counts.rejected, counts.total) == (quantity, rejected, withdrawn)
        close_batch(
            batch, good=quantity, rejected=rejected, samples=counts.samples,
            returned=withdrawn - quantity - rejected - counts.samples, actor=world.operator,
        )  # fmt: skip
        moved = StockMovement.objects.filter(batch=batch).values_list("kind").annotate(sum=Sum("quantity"))
        sums: dict[str, int] = dict(moved.order_by())
        assert sums.pop("withdrawal") == sum(sums.values())
        for lot_id in StockMovement.objects.filter(batch=batch).values_list("lot", flat=True).distinct():
            assert balance(StockLot.objects.get(pk=lot_id), LocationKind.FLOOR) == 0
        # After the closing the ledger still tells the same of the batch.
        assert totals(ledger_counts(batch)) == counts


class TestSamples:
    def test_samples_move_from_the_floor_with_their_serials(self, world: World) -> None:
        """R-13: retained blanks are no cards; their serials are never given to one."""
        batch = world.released(3, blanks=8)
        lot = StockLot.objects.get()
        movement = take_samples(batch, lot, 2, actor=world.operator)
        assert (movement.kind, movement.quantity, movement.batch_id) == (MovementKind.SAMPLE, 2, batch.pk)
        assert (movement.source.kind, movement.target.kind) == (LocationKind.FLOOR, LocationKind.SAMPLES)
        assert movement.note == "FS26A0000200001–FS26A0000200002"
        assert [balance(lot, place) for place in PLACES] == [0, 6, 0, 2, 0]
        preparation.prepare_batch(batch, actor=world.operator)
        assert list(Card.objects.order_by("pk").values_list("serial", flat=True)) == [
            f"FS26A00002{number:05d}" for number in (3, 4, 5)
        ]
        assert actions().count("stockmovement.sample") == 1

    def test_no_more_than_are_free(self, world: World) -> None:
        """R-21: blanks that cards use, or that were sampled already, are not free; the figure is not told."""
        batch = light_inspected(world, 3, rejected=1)  # 14 withdrawn
        lot = StockLot.objects.get()
        take_samples(batch, lot, 3, actor=world.operator)
        with refused(StockShortError) as caught:
            take_samples(batch, lot, 8, actor=world.operator)
        assert (caught.value.expected, caught.value.got) == ("", "8")
        take_samples(batch, lot, 7, actor=world.operator)
        with refused(StockShortError):
            take_samples(batch, lot, 1, actor=world.operator)

    def test_blanks_that_another_batch_withdrew_are_not_there(self, world: World) -> None:
        batch, other = world.released(2), world.released(2)
        lot = StockLot.objects.get(movements__batch=other)
        with refused(StockShortError):
            take_samples(batch, lot, 1, actor=world.operator)

    @pytest.mark.parametrize("quantity", [0, -3])
    def test_nothing_is_no_sample(self, world: World, quantity: int) -> None:
        batch = world.released(2)
        with refused(StockRefusedError):
            take_samples(batch, StockLot.objects.get(), quantity, actor=world.operator)

    @pytest.mark.parametrize(
        "status", [s for s in BatchStatus if s not in {
            "released", "preparing", "prepared", "running", "inspecting", "inspected",
        }],
    )  # fmt: skip
    def test_only_while_blanks_are_on_the_floor(self, world: World, status: Any) -> None:
        batch = world.released(2)
        Batch.objects.update(status=status)
        with refused(TransitionRefusedError):
            take_samples(batch, StockLot.objects.get(), 1, actor=world.operator)

    @pytest.mark.parametrize("name", ["keeper", "quality", "clerk", "other_planner"])
    def test_others_take_none(self, world: World, name: str) -> None:
        batch = world.released(2)
        with refused(PermissionRefusedError):
            take_samples(batch, StockLot.objects.get(), 1, actor=getattr(world, name))
