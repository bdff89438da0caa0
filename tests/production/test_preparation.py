"""Data preparation: every position gets one blank, one chip, one face, and bad data stops one card only."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from orders.choices import CardKind, RecordStatus
from orders.models import CardholderRecord
from portal.core.errors import PermissionRefusedError, TransitionRefusedError
from portal.core.keystore import KeyMissingError
from portal.models import AuditEntry, Task
from production.choices import BatchStatus, ItemStatus, Outcome, RunStatus
from production.jobs import advance_all
from production.models import Batch, BatchItem, Card, MachineFile, StockLot
from production.personalization.chip import ChipContent, compare
from production.personalization.keys import card_factor, city_keys, derive_card_keys
from production.personalization.profile import load_profile
from production.personalization.stripe import StripeAccount, build_stripe
from production.selectors.batches import machine_cards
from production.selectors.holders import holder_of
from production.selectors.stock import batch_blanks
from production.services import planning, preparation
from production.services.machine_files import card_masters, renderer
from tests.production.world import World, audit_count, build_world, run_queued, work_off

PROFILE = load_profile("sssc-3.0-sm4")


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def state(batch: Batch) -> tuple[Any, ...]:
    return (
        audit_count(),
        Batch.objects.filter(pk=batch.pk).values_list("status", "pass_number").get(),
        list(Card.objects.order_by("id").values_list()),
        MachineFile.objects.count(),
        Task.objects.count(),
        list(StockLot.objects.values_list("id", "next_offset")),
    )


def cards_of(batch: Batch) -> list[Card]:
    cards = Card.objects.filter(batch=batch).select_related("item__record__package")
    return list(cards.order_by("item__sequence"))


class TestAllocation:
    def test_every_position_gets_one_blank(self, world: World, settings: Any) -> None:
        """R-16: positions in order get consecutive serials of the withdrawn lot."""
        batch = world.released(12, blanks=20)
        moved = preparation.prepare_batch(batch, actor=world.operator)
        assert (moved.status, moved.pass_number) == (BatchStatus.PREPARING, 1)
        cards, lot = cards_of(batch), StockLot.objects.get()
        assert [card.serial for card in cards] == [
            f"FS26A{lot.first_serial + place:010d}" for place in range(12)
        ]
        assert {card.outcome for card in cards} == {Outcome.PENDING}
        assert {card.attempt for card in cards} == {1}
        assert all(card.number_index == card.item.record.number_index for card in cards)
        assert all(card.atr[-16:] == card.card_identifier[-16:] for card in cards)
        assert {card.card_identifier[:16] for card in cards} == {"440600D156000005"}
        assert (lot.next_offset, batch_blanks(batch).free) == (12, 8)

    def test_runs_hold_at_most_250_cards(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preparation, "RUN_SIZE", 5)
        batch = world.released(12)
        preparation.prepare_batch(batch, actor=world.operator)
        runs = MachineFile.objects.filter(batch=batch).order_by("part")
        assert [(run.pass_number, run.part, run.card_count) for run in runs] == [
            (1, 1, 5),
            (1, 2, 5),
            (1, 3, 2),
        ]
        assert [run.cards.count() for run in runs] == [5, 5, 2]
        assert list(Task.objects.order_by("id").values_list("handler", "subject_id", "queue")) == [
            (preparation.PREPARE_RUN, run.pk, "bulk") for run in runs
        ]

    def test_blanks_of_several_lots(self, world: World) -> None:
        batch = planning.plan_batches(world.order(10), actor=world.planner)[0]
        world.approve(batch)
        first, second = world.lot(6), world.lot(6, prefix="FS26B")
        world.withdraw(batch, first, 6)
        world.withdraw(batch, second, 6)
        preparation.prepare_batch(batch, actor=world.operator)
        assert sorted(card.serial[:5] for card in cards_of(batch)) == ["FS26A"] * 6 + ["FS26B"] * 4

    def test_two_batches_never_share_a_serial(self, world: World) -> None:
        """R-25: one blank, one card, also when batches share a lot."""
        batches = planning.plan_batches(world.order(10), batch_size=5, actor=world.planner)
        lot = world.lot(10)
        for batch in batches:
            world.approve(batch)
            world.withdraw(batch, lot, 5)
            preparation.prepare_batch(batch, actor=world.operator)
        serials = Card.objects.values_list("serial", flat=True)
        assert len(set(serials)) == len(serials) == 10

    def test_only_a_released_batch_is_prepared_and_only_once(self, world: World) -> None:
        batch = planning.plan_batches(world.order(5), actor=world.planner)[0]
        for step in range(2):
            before = state(batch)
            with pytest.raises(TransitionRefusedError):
                preparation.prepare_batch(batch, actor=world.operator)
            assert state(batch) == before
            if step == 0:
                world.approve(batch)
        world.withdraw(batch, world.lot(10), 10)
        preparation.prepare_batch(batch, actor=world.operator)
        before = state(batch)
        with pytest.raises(TransitionRefusedError):
            preparation.prepare_batch(batch, actor=world.operator)
        assert state(batch) == before

    def test_planners_prepare_nothing(self, world: World) -> None:
        batch = world.released(5)
        before = state(batch)
        with pytest.raises(PermissionRefusedError):
            preparation.prepare_batch(batch, actor=world.planner)
        assert state(batch) == before

    def test_a_lot_without_serials_is_named(self, world: World) -> None:
        batch = world.released(5)
        StockLot.objects.update(next_offset=14)
        before = state(batch)
        with pytest.raises(preparation.BlanksMissingError) as refused:
            preparation.prepare_batch(batch, actor=world.operator)
        assert (refused.value.expected, refused.value.got) == ("5", "1")
        assert state(batch) == before


class TestMachineFiles:
    def test_chip_stripe_keys_and_face_agree_with_the_record(self, world: World) -> None:
        """R-16, R-18, R-25: what the line gets is the record's, and the keys are those of this chip."""
        batch = world.prepared(6)
        assert batch.status == BatchStatus.PREPARED
        run = MachineFile.objects.get(batch=batch)
        written, cards = list(machine_cards(run)), cards_of(batch)
        assert [card.blank_serial for card in written] == [card.serial for card in cards]
        cities = city_keys(card_masters(PROFILE), PROFILE, "440600")
        keys = derive_card_keys(cities, [card_factor(bytes.fromhex(card.atr)) for card in cards])
        for place, (made, card) in enumerate(zip(written, cards, strict=True)):
            record = card.item.record
            assert record is not None
            holder, content = holder_of(record), ChipContent.from_bytes(made.chip)
            assert compare(
                holder, content.files, PROFILE, card_identifier=bytes.fromhex(card.card_identifier)
            ) == []  # fmt: skip
            assert made.keys == keys.block(place)
        assert run.status == RunStatus.PREPARED
        assert len(bytes(run.digest)) == 32

    def test_the_face_is_300_dpi(self, world: World) -> None:
        """R-17: the photo print is at least 300 DPI; the face carries its density."""
        batch = world.prepared(1)
        made = next(machine_cards(MachineFile.objects.get(batch=batch)))
        with Image.open(io.BytesIO(made.face)) as face:
            assert (face.size, face.info["dpi"]) == ((1011, 638), (300, 300))

    def test_premade_cards_have_no_face(self, world: World) -> None:
        """R-4, R-11: a pre-made card is a finished one without the personalized face."""
        batch = world.prepared(2, card_kind=CardKind.PREMADE)
        made = list(machine_cards(MachineFile.objects.get(batch=batch)))
        assert [card.face for card in made] == [b"", b""]
        assert all(ChipContent.from_bytes(card.chip).files for card in made)

    def test_nothing_personal_is_readable_on_disk(self, world: World, settings: Any) -> None:
        """R-22, R-45: the machine file is sealed under the batch's key."""
        batch = world.prepared(1)
        run = MachineFile.objects.get(batch=batch)
        record = CardholderRecord.objects.get(order=batch.order)
        holder = holder_of(record)
        from django.core.files.storage import default_storage

        with default_storage.open(run.stored_name) as stored:
            raw = stored.read()
        assert holder.number.encode() not in raw
        assert holder.name.encode("gb18030") not in raw
        assert b"JFIF" not in raw

    def test_a_second_run_of_the_task_changes_nothing(self, world: World) -> None:
        from production.jobs import prepare_run

        batch = world.prepared(3)
        run, before = MachineFile.objects.get(batch=batch), state(batch)
        digest = bytes(run.digest)
        prepare_run(Task.objects.get(handler=preparation.PREPARE_RUN))
        run.refresh_from_db()
        assert bytes(run.digest) == digest
        assert state(batch) == before

    def test_the_batch_waits_for_its_last_run(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preparation, "RUN_SIZE", 2)
        batch = world.released(4)
        preparation.prepare_batch(batch, actor=world.operator)
        MachineFile.objects.filter(part=2).update(status=RunStatus.QUEUED)
        from production.services.machine_files import write_run

        write_run(MachineFile.objects.get(part=1), actor=world.operator)
        assert advance_all() == 0
        write_run(MachineFile.objects.get(part=2), actor=world.operator)
        assert (advance_all(), advance_all()) == (1, 0)
        assert Batch.objects.get(pk=batch.pk).status == BatchStatus.PREPARED

    def test_production_never_draws_master_keys(self, world: World, settings: Any) -> None:
        """R-25: in production the purchaser's keys are imported by two people, never made up."""
        settings.PRODUCTION = True
        settings.KEK = "0123456789abcdef0123456789abcde0"
        settings.KEYSTORE_DIR = settings.KEYSTORE_DIR.parent / "empty"
        with pytest.raises(KeyMissingError):
            card_masters(PROFILE)


class TestBadData:
    def test_a_missing_glyph_stops_that_one_card(self, world: World) -> None:
        """R-17, R-20: no box is printed; that blank is scrapped at the source's cost, the rest goes on."""
        batch = world.prepared(4, names={1: "王\U000323af"})
        assert batch.status == BatchStatus.PREPARED
        rejected = Card.objects.get(batch=batch, outcome=Outcome.REJECTED)
        assert (rejected.reason, rejected.item.status) == ("glyph_missing", ItemStatus.CANCELLED)
        record = rejected.item.record
        assert record is not None
        assert (record.status, record.problem_codes) == (RecordStatus.CANCELLED, ["glyph_missing"])
        run = MachineFile.objects.get(batch=batch)
        assert run.card_count == 3
        assert rejected.serial not in [card.blank_serial for card in machine_cards(run)]
        assert BatchItem.objects.filter(batch=batch, status=ItemStatus.PREPARED).count() == 3
        event = AuditEntry.objects.get(action="card.rejected")
        assert event.details == {"reason": "glyph_missing", "position": rejected.item.sequence}

    @pytest.mark.parametrize(
        ("column", "text", "reason"),
        [("account", "62220212345X", "stripe_refused"), ("account", "123", "stripe_refused")],
    )
    def test_an_account_no_stripe_holds(self, world: World, column: str, text: str, reason: str) -> None:
        from orders.personal import seal_column

        batch = world.released(3)
        record = CardholderRecord.objects.select_related("package").filter(order=batch.order).first()
        assert record is not None
        record.account_sealed = seal_column(record, column, text)  # type: ignore[arg-type]
        record.save(update_fields=["account_sealed"])
        work_off(preparation.prepare_batch(batch, actor=world.operator))
        assert Card.objects.get(outcome=Outcome.REJECTED).reason == reason
        assert Card.objects.filter(outcome=Outcome.PENDING).count() == 2

    def test_a_missing_photo_stops_that_one_card(self, world: World) -> None:
        batch = world.released(3)
        first = CardholderRecord.objects.filter(order=batch.order).earliest("id")
        CardholderRecord.objects.filter(pk=first.pk).update(photo_name="")
        work_off(preparation.prepare_batch(batch, actor=world.operator))
        assert Card.objects.get(outcome=Outcome.REJECTED).reason == "photo_missing"
        assert Card.objects.filter(outcome=Outcome.PENDING).count() == 2

    def test_a_batch_of_bad_data_only_does_not_stop(self, world: World) -> None:
        batch = world.prepared(1, names={0: "王\U000323af"})
        assert batch.status == BatchStatus.PREPARED
        assert MachineFile.objects.get(batch=batch).card_count == 0
        assert list(machine_cards(MachineFile.objects.get(batch=batch))) == []

    def test_an_error_of_ours_is_no_fault_of_the_record(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A refusal that is not about the data fails the task and leaves every row alone."""
        from portal.core.errors import InputRefusedError
        from production.services import machine_files

        def fail(*_: object) -> None:
            raise InputRefusedError("模板损坏")

        batch = world.released(2)
        preparation.prepare_batch(batch, actor=world.operator)
        monkeypatch.setattr(machine_files, "_face", fail)
        before = state(batch)[1:]
        with pytest.raises(InputRefusedError):
            machine_files.write_run(MachineFile.objects.get(batch=batch), actor=world.operator)
        assert state(batch)[1:] == before
        monkeypatch.undo()
        assert run_queued() == 1

    def test_the_renderer_is_kept(self) -> None:
        assert renderer("plain") is renderer("plain")


def test_the_stripe_carries_the_matched_account(world: World) -> None:
    """R-9, R-16: the account the bank gave stands on track 2."""
    from orders.personal import open_account

    batch = world.prepared(3)
    for made, card in zip(machine_cards(MachineFile.objects.get(batch=batch)), cards_of(batch), strict=True):
        record = card.item.record
        assert record is not None
        expected = build_stripe(StripeAccount(open_account(record), holder_of(record).expires_on))
        assert made.stripe == expected
