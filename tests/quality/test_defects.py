"""Defects that people find, and the codes they name (R-20, R-21, R-26)."""

from __future__ import annotations

import pytest

from portal.core.errors import ConflictError, PermissionRefusedError
from production.choices import BatchStatus, ItemStatus, Outcome
from production.line.made import LINE_FAULTS, SOURCE_REASONS
from production.models import Batch, Card
from quality.choices import DefectKind, FoundAt, HoldStatus, Liability
from quality.models import Defect, DefectCode, Hold, Inspection
from quality.services.defects import ensure_codes, record_defect
from quality.services.holds import release_hold
from quality.services.inspection import conclude_pass
from tests.production.light import light_batch, light_closed, light_dispatched
from tests.production.world import World, build_world
from tests.refusals import actions, refused


@pytest.fixture
def world(db: None) -> World:
    ensure_codes()
    return build_world()


def scratch() -> DefectCode:
    return DefectCode.objects.get(code="scratch")


class TestCodes:
    def test_every_reason_of_the_line_has_its_code(self, world: World) -> None:
        """R-20: what the line names, and what data spoils, with who answers for it."""
        found = dict(DefectCode.objects.values_list("code", "liability"))
        assert {found[code] for code in LINE_FAULTS} == {Liability.SUPPLIER}
        assert {found[code] for code in SOURCE_REASONS} == {Liability.SOURCE}
        assert {"chip_differs", "chip_unreadable", "decided", "other", "face_wrong"} <= found.keys()

    def test_codes_stay_as_people_set_them(self, world: World) -> None:
        DefectCode.objects.filter(code="scratch").update(name="划伤")
        count = DefectCode.objects.count()
        ensure_codes()
        assert (DefectCode.objects.get(code="scratch").name, DefectCode.objects.count()) == ("划伤", count)


class TestFoundByPeople:
    def test_a_good_card_in_inspection_is_rejected_held_and_made_again(self, world: World) -> None:
        """R-11, R-26: a scratch that the eye finds spoils the card as a wrong chip does."""
        batch = light_batch(world, 4)
        card = Card.objects.filter(batch=batch).earliest("pk")
        defect = record_defect(card, scratch(), note=" 划痕 6 mm ", actor=world.quality)
        card.refresh_from_db()
        batch.refresh_from_db()
        assert (defect.kind, defect.liability, defect.found_at) == (
            DefectKind.BAD_CARD, Liability.SUPPLIER, FoundAt.BODY,
        )  # fmt: skip
        assert (defect.note, defect.found_by) == ("划痕 6 mm", world.quality)
        assert (card.outcome, card.reason) == (Outcome.REJECTED, "scratch")
        assert card.item.status == ItemStatus.PENDING
        assert batch.held_reason == "错卡、坏卡率 25.000 %，超过 0.1 %（1/4）"
        conclude_pass(batch.pk)
        batch.refresh_from_db()
        assert (batch.status, batch.pass_number) == (BatchStatus.PREPARING, 2)
        found = Inspection.objects.get()
        assert (found.good_count, found.bad_count, found.read_count, found.result) == (3, 1, 4, "held")
        assert Hold.objects.count() == 1

    def test_one_in_a_thousand_holds_nothing(self, world: World) -> None:
        """R-26: exactly 0.1 %."""
        batch = light_batch(world, 1000)
        record_defect(Card.objects.filter(batch=batch).earliest("pk"), scratch(), actor=world.quality)
        batch.refresh_from_db()
        assert batch.held_reason == ""

    def test_after_the_inspection_it_is_registered_and_the_batch_held(self, world: World) -> None:
        """R-26: nothing is remade then, but nothing ships either until somebody has dealt with it."""
        batch = light_closed(world, 4)
        card = Card.objects.filter(batch=batch).earliest("pk")
        record_defect(card, scratch(), actor=world.quality)
        card.refresh_from_db()
        assert card.outcome == Outcome.GOOD
        assert Hold.objects.get().status == HoldStatus.ACTIVE

    def test_after_a_release_a_new_defect_holds_again(self, world: World) -> None:
        batch = light_batch(world, 4)
        first, second = Card.objects.filter(batch=batch).order_by("pk")[:2]
        record_defect(first, scratch(), actor=world.quality)
        release_hold(Hold.objects.get(), measure="已更换滚轮", actor=world.approver)
        record_defect(second, scratch(), actor=world.quality)
        assert list(Hold.objects.order_by("pk").values_list("status", flat=True)) == ["released", "active"]

    def test_what_the_bank_finds_holds_nothing_any_more(self, world: World) -> None:
        """R-35: a shipped card is a matter of warranty."""
        batch = light_dispatched(world, 4)
        card = Card.objects.filter(batch=batch).earliest("pk")
        record_defect(card, scratch(), found_at=FoundAt.BANK, actor=world.quality)
        assert (Batch.objects.get().held_reason, Hold.objects.count()) == ("", 0)

    def test_a_card_has_one_defect(self, world: World) -> None:
        batch = light_batch(world, 4)
        card = Card.objects.filter(batch=batch).earliest("pk")
        record_defect(card, scratch(), actor=world.quality)
        with refused(ConflictError):
            record_defect(card, scratch(), actor=world.quality)
        assert (Defect.objects.count(), actions().count("defect.recorded")) == (1, 1)

    @pytest.mark.parametrize("name", ["operator", "clerk", "keeper", "other_planner"])
    def test_quality_records(self, world: World, name: str) -> None:
        card = Card.objects.filter(batch=light_batch(world, 2)).earliest("pk")
        with refused(PermissionRefusedError):
            record_defect(card, scratch(), actor=getattr(world, name))
