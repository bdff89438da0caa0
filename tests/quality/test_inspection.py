"""Reading back every card: wrong, bad, unknown, remade, held above 0.1 % (R-11, R-18, R-20, R-26)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from portal.core.errors import PermissionRefusedError, TransitionRefusedError
from portal.models import AuditEntry
from production.choices import BatchStatus, ItemStatus, Outcome, RunStatus
from production.line.made import LOST_TRACK, LineOutcome, MadeCard
from production.line.virtual import VirtualLine
from production.models import Batch, BatchItem, Card, MachineFile
from production.personalization.chip import ChipContent
from production.personalization.machinefile import MachineCard
from production.services.cards import decide_unknown, request_unknown_decision
from production.services.running import run_batch
from quality.choices import DefectKind, FoundAt, InspectionResult, Liability
from quality.models import Defect, Hold, Inspection
from quality.selectors import DefectRate, defect_rate
from quality.services.defects import ensure_codes
from quality.services.holds import release_hold
from quality.services.inspection import conclude_pass, inspect_batch, inspect_run
from tests.production.light import light_batch
from tests.production.stages import Stages, build_stages
from tests.production.world import work_off
from tests.refusals import actions, everything, refused

Script = Mapping[int, str]


@pytest.fixture
def stages(db: None, settings: Any) -> Stages:
    return build_stages(settings)


def script(monkeypatch: pytest.MonkeyPatch, plan: Script) -> None:
    """Let the line do to each position what the plan says, on the first pass only."""
    seen: set[int] = set()

    def made(self: VirtualLine, card: MachineCard, previous: MachineCard | None) -> MadeCard:
        kind = "good" if card.sequence in seen else plan.get(card.sequence, "good")
        seen.add(card.sequence)
        base = self._report(card, LineOutcome.MADE, readback=card.chip)
        return _OUTCOMES[kind](base, previous)

    monkeypatch.setattr(VirtualLine, "_made", made)


def _altered(chip: bytes, name: str, place: int) -> bytes:
    content = ChipContent.from_bytes(chip)
    changed = bytearray(content.files[name])
    changed[place] ^= 0x01
    return ChipContent(content.profile_code, {**content.files, name: bytes(changed)}).to_bytes()


_OUTCOMES: Mapping[str, Callable[[MadeCard, MachineCard | None], MadeCard]] = {
    "good": lambda made, _: made,
    "number": lambda made, _: replace(made, readback=_altered(made.readback, "SSSE/EF06", 12)),
    "neighbour": lambda made, other: replace(made, readback=other.chip if other else b""),
    "mute": lambda made, _: replace(made, readback=b""),
    "garbage": lambda made, _: replace(made, readback=b"\xff" * 40),
    "bad": lambda made, _: replace(made, outcome=LineOutcome.BAD, reason="print_fault", readback=b""),
    "lost": lambda made, _: replace(made, outcome=LineOutcome.UNKNOWN, reason=LOST_TRACK, readback=b""),
}


def inspected(stages: Stages, count: int) -> Batch:
    """Make a batch, read it back and conclude its pass."""
    batch = stages.world.made(count)
    return read_back(stages, batch)


def read_back(stages: Stages, batch: Batch) -> Batch:
    """Read a made batch back, conclude its pass and prepare its remake."""
    inspect_batch(batch, actor=stages.world.quality)
    return brought_on(stages, batch)


def brought_on(stages: Stages, batch: Batch) -> Batch:
    """Do what the scheduler does."""
    return work_off(stages.worked(batch))


def card_at(batch: Batch, sequence: int, attempt: int = 1) -> Card:
    found: Card = Card.objects.get(batch=batch, item__sequence=sequence, attempt=attempt)
    return found


class TestReadBack:
    def test_good_cards_finish_the_inspection(self, stages: Stages) -> None:
        """R-18: chip and record agree in every value of every card."""
        batch = inspected(stages, 4)
        assert batch.status == BatchStatus.INSPECTED
        assert set(Card.objects.values_list("outcome", "reason")) == {(Outcome.GOOD, "")}
        found = Inspection.objects.get()
        assert (found.read_count, found.good_count, found.wrong_count, found.bad_count) == (4, 4, 0, 0)
        assert (found.pass_number, found.unknown_count, found.result) == (1, 0, InspectionResult.PASSED)
        assert not Defect.objects.exists()
        assert not Hold.objects.exists()

    def test_one_wrong_digit_is_found_and_its_tag_named(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-18: tag 08 is the number; which tag differs may be told, what it holds may not (R-45)."""
        script(monkeypatch, {2: "number"})
        batch = inspected(stages, 3)
        card = card_at(batch, 2)
        assert (card.outcome, card.reason) == (Outcome.REJECTED, "wrong_card")
        defect = Defect.objects.get()
        assert (defect.card_id, defect.kind, defect.liability, defect.found_at) == (
            card.pk, DefectKind.WRONG_CARD, Liability.SUPPLIER, FoundAt.READ_BACK,
        )  # fmt: skip
        assert (defect.code_id, defect.tags) == ("chip_differs", ["SSSE/EF06/08"])

    def test_the_neighbours_chip_differs_in_identity_and_person(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-18: two cards exchanged are two wrong cards; here one carries the other's content."""
        script(monkeypatch, {2: "neighbour"})
        inspected(stages, 3)
        found = {"SSSE/EF05/01", "SSSE/EF05/07", "SSSE/EF06/08", "SSSE/EF06/09"}
        assert found <= set(Defect.objects.get().tags)

    @pytest.mark.parametrize("kind", ["mute", "garbage"])
    def test_a_chip_that_cannot_be_read_is_bad(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        """R-21: read as nothing or as rubbish: a bad card, not a wrong one."""
        script(monkeypatch, {1: kind})
        batch = inspected(stages, 2)
        assert (card_at(batch, 1).outcome, card_at(batch, 1).reason) == (Outcome.REJECTED, "chip_unreadable")
        defect = Defect.objects.get()
        assert (defect.code_id, defect.kind, defect.tags) == ("chip_unreadable", DefectKind.BAD_CARD, [])

    def test_what_the_line_threw_out_is_a_bad_card(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-20, R-21."""
        script(monkeypatch, {1: "bad"})
        inspected(stages, 2)
        defect = Defect.objects.get()
        assert (defect.code_id, defect.kind, defect.liability, defect.found_at) == (
            "print_fault", DefectKind.BAD_CARD, Liability.SUPPLIER, FoundAt.LINE,
        )  # fmt: skip
        found = Inspection.objects.get()
        assert (found.read_count, found.good_count, found.bad_count) == (1, 1, 1)

    def test_source_data_is_not_the_suppliers_fault(self, stages: Stages) -> None:
        """R-20: a name no font can print spoils a blank, not the supplier's rate."""
        batch = stages.world.made(3, names={1: "王\U0002ffff"})
        batch = read_back(stages, batch)
        defect = Defect.objects.get()
        assert (defect.liability, defect.code_id) == (Liability.SOURCE, defect.card.reason)
        assert (batch.status, batch.held_reason) == (BatchStatus.INSPECTED, "")
        assert defect_rate(batch) == DefectRate(made=2, wrong=0, bad=0)
        assert BatchItem.objects.filter(status=ItemStatus.CANCELLED).count() == 1


class TestRemake:
    def test_rejected_cards_are_made_again_and_nothing_is_late(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-11: the batch's rejects are remade inside the same due date."""
        script(monkeypatch, {1: "number", 3: "bad"})
        batch = inspected(stages, 4)
        due = batch.due_on
        assert (batch.status, batch.pass_number) == (BatchStatus.PREPARED, 2)
        again = Card.objects.filter(machine_file__pass_number=2)
        assert set(again.values_list("item__sequence", "attempt")) == {(1, 2), (3, 2)}
        run_batch(batch, actor=stages.world.operator)
        batch = read_back(stages, work_off(batch))
        assert (batch.status, batch.due_on) == (BatchStatus.INSPECTED, due)
        assert set(BatchItem.objects.values_list("status", flat=True)) == {ItemStatus.GOOD}
        assert list(Inspection.objects.order_by("pass_number").values_list("good_count", "result")) == [
            (2, InspectionResult.HELD), (2, InspectionResult.HELD),
        ]  # fmt: skip
        assert Hold.objects.count() == 1

    def test_without_blanks_it_waits_and_goes_on_with_them(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-21: no blank is taken that nobody withdrew."""
        script(monkeypatch, {1: "bad"})
        batch = stages.world.made(2, blanks=2)
        batch = read_back(stages, batch)
        assert (batch.status, batch.pass_number) == (BatchStatus.INSPECTING, 1)
        stages.world.withdraw(batch, stages.world.lot(5, prefix="FS26Z"), 1)
        batch = brought_on(stages, batch)
        assert (batch.status, batch.pass_number) == (BatchStatus.PREPARED, 2)


class TestUnknown:
    def test_an_unknown_card_blocks_finishing_until_two_people_decide(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """D8: nothing is made again for a position whose card may lie somewhere."""
        script(monkeypatch, {2: "lost"})
        batch = inspected(stages, 3)
        assert (batch.status, batch.pass_number) == (BatchStatus.INSPECTING, 1)
        assert Inspection.objects.get().unknown_count == 1
        decision = request_unknown_decision(
            card_at(batch, 2), outcome="good", evidence="找到", actor=stages.world.operator
        )
        decide_unknown(decision, approve=True, actor=stages.world.quality)
        assert stages.worked(batch).status == BatchStatus.INSPECTED
        found = Inspection.objects.get()
        assert (found.good_count, found.unknown_count, found.result) == (3, 0, InspectionResult.PASSED)

    def test_a_late_defect_is_registered_held_and_remade(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-26: a card rejected after its pass was concluded counts as well."""
        script(monkeypatch, {2: "lost"})
        batch = inspected(stages, 3)
        assert (Defect.objects.count(), batch.held_reason) == (0, "")
        decision = request_unknown_decision(
            card_at(batch, 2), outcome="rejected", evidence="已剪角", actor=stages.world.operator
        )
        decide_unknown(decision, approve=True, actor=stages.world.quality)
        batch = brought_on(stages, batch)
        defect = Defect.objects.get()
        assert (defect.code_id, defect.kind) == ("decided", DefectKind.BAD_CARD)
        assert batch.held_reason == "错卡、坏卡率 33.333 %，超过 0.1 %（1/3）"
        assert (batch.status, batch.pass_number) == (BatchStatus.PREPARED, 2)
        assert Inspection.objects.get().result == InspectionResult.HELD

    def test_a_late_defect_of_an_earlier_pass_holds_too(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-26: the rate is the batch's, whichever pass the card was of."""
        world = stages.world
        batch = light_batch(world, 4)
        card = card_at(batch, 1)
        Card.objects.filter(pk=card.pk).update(outcome=Outcome.UNKNOWN)
        BatchItem.objects.filter(pk=card.item_id).update(status=ItemStatus.UNKNOWN)
        ensure_codes()
        conclude_pass(batch.pk)
        Batch.objects.update(pass_number=2)
        MachineFile.objects.create(
            batch=batch, pass_number=2, part=1, card_count=0, status=RunStatus.INSPECTED
        )  # fmt: skip
        conclude_pass(batch.pk)
        Card.objects.filter(pk=card.pk).update(outcome=Outcome.REJECTED, reason="decided")
        conclude_pass(batch.pk)
        batch.refresh_from_db()
        assert batch.held_reason == "错卡、坏卡率 25.000 %，超过 0.1 %（1/4）"


class TestRate:
    @pytest.mark.parametrize(
        ("made", "spoiled", "exceeded"),
        [(1000, 1, False), (999, 1, True), (2000, 2, False), (1999, 2, True), (0, 0, False)],
    )
    def test_strictly_above_one_in_a_thousand(self, made: int, spoiled: int, exceeded: bool) -> None:
        """R-26: exactly 0.1 % passes."""
        assert DefectRate(made=made, wrong=spoiled, bad=0).exceeded is exceeded
        assert DefectRate(made=made, wrong=0, bad=spoiled).exceeded is exceeded

    @pytest.mark.parametrize(("quantity", "held"), [(999, False), (998, True)])
    def test_a_batch_is_held_above_the_limit_only(self, stages: Stages, quantity: int, held: bool) -> None:
        """R-26: 999 good and 1 spoiled are 0.1 % exactly; 998 and 1 are more."""
        ensure_codes()
        batch = light_batch(stages.world, quantity, rejected=1)
        conclude_pass(batch.pk)
        batch.refresh_from_db()
        assert (bool(batch.held_reason), Hold.objects.count()) == (held, int(held))
        assert batch.status == BatchStatus.INSPECTED
        assert defect_rate(batch) == DefectRate(made=quantity + 1, wrong=0, bad=1)

    def test_a_reason_nobody_knows_is_still_a_defect(self, stages: Stages) -> None:
        """R-21: a real line may report what our table does not name."""
        ensure_codes()
        batch = light_batch(stages.world, 2, rejected=1, reason="laser_tired")
        conclude_pass(batch.pk)
        assert Defect.objects.get().code_id == "other"


class TestOnce:
    def test_concluding_again_changes_nothing(self, stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
        script(monkeypatch, {2: "lost", 1: "number"})
        batch = stages.world.made(3, blanks=3)
        inspect_batch(batch, actor=stages.world.quality)
        stages.worked(batch)
        before, audited = everything(), actions()
        for _ in range(3):
            conclude_pass(batch.pk)
        assert (everything(), actions()) == (before, audited)

    def test_reading_a_run_again_changes_nothing(self, stages: Stages) -> None:
        batch = inspected(stages, 2)
        before, audited = everything(), actions()
        for run in MachineFile.objects.filter(batch=batch):
            inspect_run(run, actor=stages.world.quality)
        assert (everything(), actions()) == (before, audited)

    def test_a_released_hold_does_not_come_back_by_itself(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script(monkeypatch, {1: "bad"})
        batch = inspected(stages, 2)
        release_hold(Hold.objects.get(), measure="已校准", actor=stages.world.approver)
        run_batch(batch, actor=stages.world.operator)
        batch = read_back(stages, work_off(batch))
        assert (batch.status, batch.held_reason) == (BatchStatus.INSPECTED, "")
        assert list(Inspection.objects.order_by("pass_number").values_list("result", flat=True)) == [
            InspectionResult.HELD, InspectionResult.PASSED,
        ]  # fmt: skip


class TestRefusals:
    def test_only_what_is_made_is_inspected(self, stages: Stages) -> None:
        batch = stages.world.prepared(2)
        with refused(TransitionRefusedError):
            inspect_batch(batch, actor=stages.world.quality)

    @pytest.mark.parametrize("name", ["operator", "clerk", "keeper", "other_planner"])
    def test_quality_inspects(self, stages: Stages, name: str) -> None:
        batch = stages.world.made(2)
        with refused(PermissionRefusedError):
            inspect_batch(batch, actor=getattr(stages.world, name))

    def test_no_exception_and_no_audit_tells_what_a_chip_holds(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-45."""
        script(monkeypatch, {1: "number"})
        inspected(stages, 2)
        entry = AuditEntry.objects.get(action="machinefile.inspected")
        assert {name: entry.details[name] for name in ("read", "wrong")} == {"read": 2, "wrong": 1}
        assert set(entry.details) <= {"read", "wrong", "before", "after"}
