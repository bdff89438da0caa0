"""Making, settling and remaking cards: good, rejected or unknown, and nothing in between (D8, R-20, R-21)."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from portal.core.errors import (
    ConflictError,
    InputRefusedError,
    PermissionRefusedError,
    SamePersonError,
    TransitionRefusedError,
)
from portal.models import AuditEntry, Task
from production.choices import BatchStatus, ItemStatus, Outcome, RequestStatus, RunStatus
from production.jobs import advance_all, make_run
from production.line.made import LINE_FAULTS, LOST_TRACK, NOT_REPORTED, LineOutcome, MadeCard
from production.models import Batch, BatchItem, Card, MachineFile, StockMovement, UnknownDecision
from production.selectors.batches import (
    item_counts,
    line_report,
    machine_cards,
    outcome_counts,
    reason_counts,
    run_progress,
)
from production.selectors.cards import cards_to_inspect, reason_label, unknown_cards
from production.services import cards, preparation, running
from tests.production.world import World, audit_count, build_world, work_off
from tests.refusals import refused


@pytest.fixture
def world(db: None, settings: Any) -> World:
    rates(settings)
    return build_world()


def rates(settings: Any, wrong: float = 0, bad: float = 0, unknown: float = 0) -> None:
    settings.LINE_WRONG_RATE, settings.LINE_BAD_RATE, settings.LINE_UNKNOWN_RATE = wrong, bad, unknown


def state() -> tuple[Any, ...]:
    return (
        audit_count(),
        list(Batch.objects.order_by("id").values_list()),
        list(Card.objects.order_by("id").values_list()),
        list(BatchItem.objects.order_by("id").values_list()),
        list(UnknownDecision.objects.order_by("id").values_list()),
        Task.objects.count(),
    )


def settle(batch: Batch, world: World, outcome: str = Outcome.GOOD, reason: str = "") -> None:
    made = Card.objects.filter(batch=batch, outcome=Outcome.MADE).values_list("id", flat=True)
    cards.settle_cards(batch, dict.fromkeys(made, (outcome, reason)), actor=world.quality)


class TestRunning:
    def test_the_line_makes_every_card(self, world: World) -> None:
        """R-16: the report names machine, operator and time of each card, and what was read back."""
        batch = world.made(5)
        assert batch.status == BatchStatus.INSPECTING
        run = MachineFile.objects.get(batch=batch)
        assert run.status == RunStatus.MADE
        found = list(cards_to_inspect(run))
        assert {(card.outcome, card.operator) for card in found} == {(Outcome.MADE, "甲一")}
        report = list(line_report(run))
        assert [card.serial for card in report] == [card.serial for card in found]
        assert [card.readback for card in report] == [card.chip for card in machine_cards(run)]
        assert [card.made_at for card in found] == [card.finished_at for card in report]
        assert outcome_counts(batch) == {
            "pending": 0, "made": 5, "good": 0, "rejected": 0, "unknown": 0, "unused": 0,
        }  # fmt: skip

    def test_bad_and_lost_cards(self, world: World, settings: Any) -> None:
        """R-20, R-21: every bad card is registered with what the line saw; a lost one is neither (D8)."""
        rates(settings, bad=0.4, unknown=0.3)
        batch = world.made(40)
        counts = outcome_counts(batch)
        assert counts["pending"] == 0
        assert min(counts["made"], counts["rejected"], counts["unknown"]) > 3
        assert set(reason_counts(batch)) <= set(LINE_FAULTS)
        assert {card.reason for card in unknown_cards(batch)} == {LOST_TRACK}
        items = item_counts(batch)
        assert (items.prepared, items.pending, items.unknown) == (
            counts["made"], counts["rejected"], counts["unknown"],
        )  # fmt: skip

    def test_a_second_click_is_refused(self, world: World) -> None:
        batch = world.prepared(2)
        running.run_batch(batch, actor=world.operator)
        before = state()
        with pytest.raises(TransitionRefusedError):
            running.run_batch(batch, actor=world.operator)
        assert state() == before

    def test_quality_does_not_run_the_line(self, world: World) -> None:
        batch = world.prepared(2)
        before = state()
        with pytest.raises(PermissionRefusedError):
            running.run_batch(batch, actor=world.quality)
        assert state() == before

    def test_a_made_run_is_not_made_again(self, world: World) -> None:
        batch = world.made(3)
        before = state()
        make_run(Task.objects.get(handler=running.MAKE_RUN))
        assert advance_all() == 0
        assert state() == before
        assert run_progress(batch) == (1, 1)

    def test_what_the_line_does_not_report_is_unknown(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """D8: silence about a card proves nothing."""
        batch = world.prepared(4)
        real = running._made
        monkeypatch.setattr(running, "_made", lambda run: list(real(run))[:3])
        work_off(running.run_batch(batch, actor=world.operator))
        assert [card.reason for card in unknown_cards(batch)] == [NOT_REPORTED]
        assert outcome_counts(batch)["made"] == 3

    def test_a_card_of_another_run_or_reported_twice_stops_the_run(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-21: a report that does not fit the run changes nothing."""
        batch = world.prepared(2)
        batch = running.run_batch(batch, actor=world.operator)
        run, real = MachineFile.objects.get(batch=batch), running._made
        before = state()
        for report in (lambda run: [*real(run), *real(run)], lambda run: map(foreign, real(run))):
            monkeypatch.setattr(running, "_made", report)
            with pytest.raises(running.ForeignCardError):
                running.play_run(run, actor=world.operator)
        assert state() == before

    def test_reasons_are_shown_in_words(self) -> None:
        assert (reason_label("chip_mute"), reason_label("decided")) == ("芯片无应答", "decided")


def foreign(made: MadeCard) -> MadeCard:
    from dataclasses import replace

    return replace(made, serial="ZZ0000000001", outcome=LineOutcome.MADE)


class TestSettling:
    def test_good_cards_finish_the_inspection(self, world: World) -> None:
        batch = world.made(3)
        settle(batch, world)
        assert item_counts(batch).is_complete
        assert cards.finish_inspection(batch, actor=world.quality).status == BatchStatus.INSPECTED
        assert AuditEntry.objects.get(action="batch.cards_settled").details["counts"] == {"good": 3}

    def test_an_inspection_with_open_positions_stays_open(self, world: World) -> None:
        batch = world.made(3)
        card = Card.objects.filter(batch=batch).first()
        assert card is not None
        cards.settle_cards(batch, {card.pk: (Outcome.GOOD, "")}, actor=world.quality)
        before = state()
        with pytest.raises(cards.CardsOpenError) as refused:
            cards.finish_inspection(batch, actor=world.quality)
        assert (refused.value.expected, refused.value.got) == ("3", "1")
        assert state() == before

    def test_all_or_none(self, world: World) -> None:
        """A run inspected twice, or a card of another batch, changes nothing."""
        batch, other = world.made(3), world.made(2)
        first = dict.fromkeys(
            Card.objects.filter(batch=batch).values_list("id", flat=True), (Outcome.GOOD, "")
        )
        foreign_id = Card.objects.filter(batch=other).values_list("id", flat=True)[0]
        before = state()
        with pytest.raises(ConflictError):
            cards.settle_cards(batch, {**first, foreign_id: (Outcome.GOOD, "")}, actor=world.quality)
        assert state() == before
        cards.settle_cards(batch, first, actor=world.quality)
        before = state()
        with pytest.raises(ConflictError):
            cards.settle_cards(batch, first, actor=world.quality)
        assert state() == before

    @pytest.mark.parametrize("outcome", ["made", "pending", "unused", "lost"])
    def test_only_good_rejected_or_unknown(self, world: World, outcome: str) -> None:
        batch = world.made(1)
        before = state()
        with pytest.raises(InputRefusedError):
            settle(batch, world, outcome)
        assert state() == before

    def test_operators_do_not_settle(self, world: World) -> None:
        batch = world.made(1)
        before = state()
        with pytest.raises(PermissionRefusedError):
            cards.settle_cards(batch, {1: (Outcome.GOOD, "")}, actor=world.operator)
        with pytest.raises(PermissionRefusedError):
            cards.finish_inspection(batch, actor=world.operator)
        assert state() == before

    def test_one_good_card_a_position_is_held_by_the_database(self, world: World) -> None:
        """Nobody gets two cards: a position with a good card takes no other."""
        batch = world.made(1)
        settle(batch, world)
        card = Card.objects.get(batch=batch)
        card.pk, card.serial, card.attempt = None, "A0000000001", 2
        with pytest.raises(IntegrityError, match="card_one_live_per_item"), transaction.atomic():
            card.save()


class TestRemake:
    def test_rejects_are_made_again_in_the_same_deadline(self, world: World, settings: Any) -> None:
        """R-10, R-11, R-20: the remake is part of the batch; each try uses its own blank."""
        rates(settings, bad=0.5)
        batch = world.made(20, blanks=60)
        due_on = batch.due_on
        rejected = outcome_counts(batch)["rejected"]
        assert rejected > 3
        settle(batch, world)
        rates(settings)
        batch = work_off(cards.start_remake(batch, actor=world.operator))
        assert (batch.status, batch.pass_number, batch.due_on) == (BatchStatus.PREPARED, 2, due_on)
        again = Card.objects.filter(batch=batch, attempt=2)
        assert again.count() == rejected
        assert Card.objects.values("serial").distinct().count() == 20 + rejected
        batch = work_off(running.run_batch(batch, actor=world.operator))
        settle(batch, world)
        assert cards.finish_inspection(batch, actor=world.quality).status == BatchStatus.INSPECTED
        assert outcome_counts(batch) | {"rejected": 0} == {
            "pending": 0, "made": 0, "good": 20, "rejected": 0, "unknown": 0, "unused": 0,
        }  # fmt: skip

    def test_missing_blanks_are_counted(self, world: World) -> None:
        """R-11: the refusal says how many blanks to withdraw; with them the remake starts."""
        batch = world.made(5, blanks=6)
        settle(batch, world, Outcome.REJECTED, "wrong_card")
        before = state()
        with pytest.raises(preparation.BlanksMissingError) as refused:
            cards.start_remake(batch, actor=world.operator)
        assert refused.value.code == "blanks_missing"
        assert (refused.value.expected, refused.value.got) == ("5", "1")
        assert "还缺 4 张" in str(refused.value)
        assert state() == before
        lot = StockMovement.objects.filter(batch=batch)[0].lot
        world.withdraw(batch, world.lot(4, first=lot.first_serial + lot.quantity), 4)
        assert cards.start_remake(batch, actor=world.operator).pass_number == 2

    def test_nothing_to_remake(self, world: World) -> None:
        batch = world.made(2)
        settle(batch, world)
        before = state()
        with pytest.raises(preparation.NothingToMakeError):
            cards.start_remake(batch, actor=world.operator)
        assert state() == before

    def test_unknown_positions_are_not_made_again(self, world: World, settings: Any) -> None:
        """D8: an unknown card locks its position; a double print is the classic failure."""
        rates(settings, unknown=1)
        batch = world.made(3)
        before = state()
        with pytest.raises(preparation.NothingToMakeError):
            cards.start_remake(batch, actor=world.operator)
        assert state() == before


class TestUnknown:
    def test_reading_again_finds_the_good_ones(self, world: World, settings: Any) -> None:
        """R-18, D8: a readable chip is compared with the record; a mute one stays unknown."""
        rates(settings, unknown=1)
        batch = world.made(20)
        for card in list(unknown_cards(batch)):
            cards.read_unknown(card, actor=world.operator)
        counts = outcome_counts(batch)
        assert counts["good"] > 5
        assert counts["good"] + counts["unknown"] == 20
        assert item_counts(batch).good == counts["good"]
        assert AuditEntry.objects.filter(action="card.read_again").count() == 20

    @pytest.mark.parametrize("content", ["another", "garbage"])
    def test_another_persons_chip_is_rejected(
        self, world: World, settings: Any, monkeypatch: pytest.MonkeyPatch, content: str
    ) -> None:
        """R-18: the card is made for the person on its face, or it is waste."""
        rates(settings, unknown=1)
        batch = world.made(2)
        written = list(machine_cards(MachineFile.objects.get(batch=batch)))
        chip = written[1].chip if content == "another" else written[0].chip[:-1]
        monkeypatch.setattr(cards, "_read_again", lambda run, serial: chip)
        first = unknown_cards(batch)[0]
        settled = cards.read_unknown(first, actor=world.operator)
        assert (settled.outcome, settled.reason) == (Outcome.REJECTED, "wrong_card")
        assert BatchItem.objects.get(pk=first.item_id).status == ItemStatus.PENDING

    def test_two_people_decide_about_a_mute_card(self, world: World, settings: Any) -> None:
        rates(settings, unknown=1)
        batch = world.made(2)
        first, second = unknown_cards(batch)
        decision = cards.request_unknown_decision(
            first, outcome="rejected", evidence="已找到并销毁", actor=world.operator
        )
        decided = cards.decide_unknown(decision, approve=True, actor=world.quality)
        first.refresh_from_db()
        assert (decided.status, first.outcome, first.reason) == (
            RequestStatus.APPROVED,
            "rejected",
            "decided",
        )
        assert BatchItem.objects.get(pk=first.item_id).status == ItemStatus.PENDING
        decision = cards.request_unknown_decision(
            second, outcome="good", evidence="人工读卡", actor=world.quality
        )
        cards.decide_unknown(decision, approve=False, actor=world.operator)
        second.refresh_from_db()
        assert second.outcome == Outcome.UNKNOWN
        assert cards.request_unknown_decision(
            second, outcome="good", evidence="再次读卡", actor=world.quality
        ).pk

    def test_one_person_is_not_two(self, world: World, settings: Any) -> None:
        rates(settings, unknown=1)
        card = unknown_cards(world.made(1))[0]
        decision = cards.request_unknown_decision(
            card, outcome="good", evidence="人工读卡", actor=world.operator
        )
        with refused(SamePersonError, audited=["second_person.refused"]):
            cards.decide_unknown(decision, approve=True, actor=world.operator)
        with pytest.raises(IntegrityError, match="unknown_decision_two_people"), transaction.atomic():
            UnknownDecision.objects.update(decided_by=world.operator)
        with pytest.raises(IntegrityError, match="unknown_decision_decided"), transaction.atomic():
            UnknownDecision.objects.update(status="approved")

    def test_a_decision_is_made_once(self, world: World, settings: Any) -> None:
        rates(settings, unknown=1)
        card = unknown_cards(world.made(1))[0]
        decision = cards.request_unknown_decision(card, outcome="good", evidence="x", actor=world.operator)
        before = state()
        with pytest.raises(ConflictError):
            cards.request_unknown_decision(card, outcome="good", evidence="x", actor=world.quality)
        assert state() == before
        cards.decide_unknown(decision, approve=True, actor=world.quality)
        before = state()
        with pytest.raises(TransitionRefusedError):
            cards.decide_unknown(decision, approve=True, actor=world.quality)
        assert state() == before

    def test_a_card_read_good_meanwhile_is_not_decided_over(self, world: World, settings: Any) -> None:
        rates(settings, unknown=1)
        card = unknown_cards(world.made(1))[0]
        decision = cards.request_unknown_decision(
            card, outcome="rejected", evidence="x", actor=world.operator
        )
        Card.objects.filter(pk=card.pk).update(outcome=Outcome.GOOD)
        before = state()
        with pytest.raises(cards.UnknownCardError):
            cards.decide_unknown(decision, approve=True, actor=world.quality)
        assert state() == before

    @pytest.mark.parametrize(("outcome", "evidence"), [("made", "x"), ("unknown", "x"), ("good", "  ")])
    def test_hostile_proposals(self, world: World, settings: Any, outcome: str, evidence: str) -> None:
        rates(settings, unknown=1)
        card = unknown_cards(world.made(1))[0]
        before = state()
        with pytest.raises(cards.UnknownCardError):
            cards.request_unknown_decision(card, outcome=outcome, evidence=evidence, actor=world.operator)
        assert state() == before

    def test_a_known_card_is_left_alone(self, world: World) -> None:
        card = Card.objects.get(batch=world.made(1))
        before = state()
        for attempt in (
            lambda: cards.read_unknown(card, actor=world.operator),
            lambda: cards.request_unknown_decision(card, outcome="good", evidence="x", actor=world.operator),
        ):
            with pytest.raises(cards.UnknownCardError):
                attempt()
        assert state() == before


class TestHold:
    def test_a_batch_is_held_and_released(self, world: World) -> None:
        """R-26: who holds and who releases are different roles."""
        batch = world.made(1)
        assert cards.hold_batch(batch, "缺陷率超标", actor=world.quality).held_reason == "缺陷率超标"
        before = state()
        with pytest.raises(PermissionRefusedError):
            cards.release_batch_hold(batch, actor=world.quality)
        with pytest.raises(InputRefusedError):
            cards.hold_batch(batch, " ", actor=world.quality)
        assert state() == before
        assert cards.release_batch_hold(batch, actor=world.approver).held_reason == ""
