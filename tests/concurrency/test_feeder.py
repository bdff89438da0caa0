"""Several hands on one batch at stations with a feeder: one makes it, each blank is given out once (D8)."""

from __future__ import annotations

from collections import Counter

import pytest

from portal.audit import verify_chain
from production.choices import BatchStatus
from production.models import Card
from production.services.running import run_batch
from stations.models import FeederRun, Issuance
from stations.services.feeding import continue_feeder, next_card, start_feeder, stop_feeder
from stations.services.sweeping import sweep_feeders
from tests.concurrency.rivals import at_once
from tests.stations.plant import Plant, hopper, make_plant, outcomes

pytestmark = pytest.mark.django_db(transaction=True)
HANDS = 8


@pytest.fixture
def plant(transactional_db: None) -> Plant:
    return make_plant()


def test_two_operators_start_one_batch_at_two_stations_and_a_third_on_the_line(plant: Plant) -> None:
    """Issue 4: one of them makes it, the others are told so and leave nothing behind."""
    batch, second = plant.batch(1), plant.another("p-2")
    world = plant.world
    found = at_once(
        [
            lambda: start_feeder(batch, station=plant.station, actor=world.operator),
            lambda: start_feeder(batch, station=second, actor=world.operator_two),
            lambda: run_batch(batch, actor=world.operator),
        ]
    )
    assert found == Counter({"True": 1, "transition_refused": 2})
    batch.refresh_from_db()
    assert batch.status == BatchStatus.RUNNING
    assert FeederRun.objects.count() <= 1
    assert verify_chain()[1] is None


def test_two_batches_are_started_at_one_station(plant: Plant) -> None:
    """A feeder makes one batch at a time; the other batch stays as it was."""
    one, other = plant.batch(1), plant.batch(1)
    found = at_once([lambda batch=batch: plant.start(batch) for batch in (one, other)])  # type: ignore[misc]
    assert found == Counter({"True": 1, "station_busy": 1})
    one.refresh_from_db()
    other.refresh_from_db()
    assert {one.status, other.status} == {BatchStatus.RUNNING, BatchStatus.PREPARED}


def test_one_blank_is_asked_for_by_many_agents_at_once(plant: Plant) -> None:
    """A station's credential on two machines: still one try a blank."""
    run = plant.start(plant.batch(1))
    atr = bytes.fromhex(Card.objects.get().atr)
    found = at_once([lambda: next_card(run, atr=atr)["issuance"]] * HANDS)
    assert found == Counter({"True": HANDS})
    assert Issuance.objects.count() == 1


def test_stop_sweep_and_continue_at_once_leave_one_state(plant: Plant) -> None:
    """Whatever the order, the run can go on and is finished once."""
    batch = plant.batch(1)
    run = plant.start(batch)
    operator = plant.world.operator
    at_once(
        [
            lambda: stop_feeder(run, actor=operator), lambda: stop_feeder(run, actor=plant.world.quality),
            sweep_feeders, lambda: next_card(run), lambda: continue_feeder(run, actor=operator),
        ]
    )  # fmt: skip
    run.refresh_from_db()
    run = plant.feed(run, hopper(batch)) if run.status == "running" else plant.again(run, hopper(batch))
    assert (run.status, outcomes(batch)) == ("ended", ["made"])
    assert verify_chain()[1] is None
