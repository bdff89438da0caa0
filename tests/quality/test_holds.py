"""Holds: placed once, released by somebody else with a measure only (R-26, R-31)."""

from __future__ import annotations

import pytest

from portal.choices import Role
from portal.core.errors import (
    ConflictError,
    InputRefusedError,
    PermissionRefusedError,
    SamePersonError,
    TransitionRefusedError,
)
from portal.models import AuditEntry, User
from production.models import Batch
from production.services.packing import BatchHeldError, pack_batch
from quality.choices import HoldStatus
from quality.models import Hold
from quality.services.holds import MeasureMissingError, place_hold, release_hold
from tests.production.light import light_batch, light_closed
from tests.production.world import World, build_world
from tests.refusals import actions, refused


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def test_a_held_batch_waits_until_the_purchaser_releases_it(world: World) -> None:
    """R-26, R-31: the measure against the cause stands with the release."""
    batch = light_closed(world, 2)
    hold = place_hold(batch, reason="外观抽检发现划痕", actor=world.quality)
    batch.refresh_from_db()
    assert (batch.held_reason, hold.status) == ("外观抽检发现划痕", HoldStatus.ACTIVE)
    with refused(BatchHeldError):
        pack_batch(batch, actor=world.operator)
    released = release_hold(hold, measure="  更换滚轮并全检 ", actor=world.approver)
    assert (released.status, released.measure, released.released_by) == (
        HoldStatus.RELEASED, "更换滚轮并全检", world.approver,
    )  # fmt: skip
    assert released.released_at is not None
    assert actions()[-2:] == ["hold.released", "batch.hold_released"]
    assert pack_batch(batch, actor=world.operator).status == "packed"


def test_one_active_hold_a_batch_but_another_after_its_release(world: World) -> None:
    batch = light_batch(world, 2)
    hold = place_hold(batch, reason="一", actor=world.quality)
    with refused(ConflictError):
        place_hold(batch, reason="二", actor=world.quality)
    release_hold(hold, measure="已处理", actor=world.approver)
    place_hold(batch, reason="三", actor=world.quality)
    assert sorted(Hold.objects.values_list("status", "reason")) == [("active", "三"), ("released", "一")]


@pytest.mark.parametrize("measure", ["", "  ", "\n"])
def test_no_release_without_a_measure(world: World, measure: str) -> None:
    """R-31."""
    hold = place_hold(light_batch(world, 2), reason="划痕", actor=world.quality)
    with refused(MeasureMissingError) as caught:
        release_hold(hold, measure=measure, actor=world.approver)
    assert caught.value.code == "measure_missing"


def test_nobody_releases_what_he_placed(world: World) -> None:
    """§3: the same user twice is refused, whatever roles he has."""
    User.objects.filter(pk=world.quality.pk).update(
        roles=[Role.SUPPLIER_QUALITY, Role.PURCHASER_APPROVER]
    )  # fmt: skip
    both = User.objects.get(pk=world.quality.pk)
    hold = place_hold(light_batch(world, 2), reason="划痕", actor=both)
    with refused(SamePersonError, audited=["second_person.refused"]):
        release_hold(hold, measure="已处理", actor=both)


def test_a_hold_is_released_once(world: World) -> None:
    hold = place_hold(light_batch(world, 2), reason="划痕", actor=world.quality)
    release_hold(hold, measure="已处理", actor=world.approver)
    with refused(TransitionRefusedError):
        release_hold(hold, measure="再处理", actor=world.approver)
    assert AuditEntry.objects.filter(action="hold.released").count() == 1


def test_a_reason_is_needed(world: World) -> None:
    batch = light_batch(world, 2)
    with refused(InputRefusedError):
        place_hold(batch, reason=" ", actor=world.quality)


@pytest.mark.parametrize("name", ["operator", "clerk", "keeper", "other_planner"])
def test_who_places_and_releases(world: World, name: str) -> None:
    """R-26: quality holds, the purchaser's approver releases; nobody else does either."""
    batch = light_batch(world, 2)
    with refused(PermissionRefusedError):
        place_hold(batch, reason="划痕", actor=getattr(world, name))
    hold = place_hold(batch, reason="划痕", actor=world.quality)
    with refused(PermissionRefusedError):
        release_hold(hold, measure="已处理", actor=getattr(world, name))
    assert Batch.objects.get().held_reason == "划痕"
