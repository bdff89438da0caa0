"""The pages of a batch at a station with a feeder: who is offered what, progress, stop, go on."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from portal.models import AuditEntry
from portal.roles import PERMISSIONS
from production.choices import BatchStatus
from production.models import Batch, Card
from stations.models import FeederRun, Issuance
from tests.portal.desk import page, sign_in, text
from tests.stations.plant import Hopper, Plant, blanks, hopper, outcomes

pytestmark = pytest.mark.django_db
BATCH, RUN = "production.batch", "stations.feederrun"


def shown(plant: Plant, who: str, model: str, row: Any) -> str:
    """Return a row's page as somebody sees it."""
    answer = sign_in(getattr(plant.world, who)).get(page(model, "change", row.pk))
    assert answer.status_code == 200
    return text(answer)


def test_a_batch_is_started_at_a_station_from_its_page(plant: Plant) -> None:
    """Issue 4: the operator chooses the station; the page of the batch leads to the run with its cards."""
    batch = plant.batch(2)
    desk, address = sign_in(plant.world.operator), page(BATCH, "run_at_feeder", batch.pk)
    assert address in shown(plant, "operator", BATCH, batch)
    assert address not in shown(plant, "quality", BATCH, batch), "who may not run it sees no button"
    assert "一号工位" in text(desk.get(address))
    answer = desk.post(address, {"station": plant.station.pk}, follow=True)
    assert "已在一号工位开始制作" in text(answer)
    run = FeederRun.objects.get()
    assert (run.batch, run.operator) == (batch, plant.world.operator)
    plant.feed(run, hopper(batch, {1: "status@2=6F00"}))
    told = shown(plant, "clerk", RUN, run)
    for serial in Card.objects.values_list("serial", flat=True):
        assert serial in told
    assert "2 / 2" in told
    assert "平均" in told
    assert "送卡制作" in shown(plant, "operator", "stations.issuance", Issuance.objects.latest("pk"))


def test_the_pages_follow_a_running_batch_by_themselves(plant: Plant) -> None:
    """Progress card by card without a reload; the page is drawn anew when the run stands."""
    batch = plant.batch(3)
    run = plant.start(batch)
    desk = sign_in(plant.world.planner)
    addresses = [page(BATCH, "progress", batch.pk), page(RUN, "progress", run.pk)]
    for address in addresses:
        assert "0 / 3" in text(desk.get(address))
    run = plant.feed(run, Hopper(blanks(batch)[:1]))
    for address in addresses:
        assert desk.get(address, {"running": "1"}).headers["HX-Refresh"] == "true"
    told = shown(plant, "operator", RUN, run)
    assert "卡仓空" in told
    assert "只写芯片" in told


def test_the_list_counts_the_cards_of_all_runs_at_once(plant: Plant) -> None:
    """Issue 2: lists open with a constant number of queries."""
    desk, address = sign_in(plant.world.clerk), page(RUN, "changelist")
    queries = []
    for cards in (2, 1, 3):
        batch = plant.batch(cards)
        plant.feed(plant.start(batch), hopper(batch))
        desk.get(address)  # whatever is asked only once
        with CaptureQueriesContext(connection) as asked:
            told = text(desk.get(address))
        assert f"{cards} / {cards}" in told
        queries.append(len(asked))
    assert "2 / 2" in told
    assert queries[0] == queries[1] == queries[2]


def test_without_a_feeder_there_is_no_button(plant: Plant) -> None:
    """Issue 4: only offered if the supplier has one."""
    type(plant.station).objects.update(has_feeder=False)
    batch = plant.batch(1)
    assert page(BATCH, "run_at_feeder", batch.pk) not in shown(plant, "operator", BATCH, batch)


def test_it_is_stopped_and_goes_on_at_another_station(plant: Plant) -> None:
    batch, other = plant.batch(2), plant.another("p-2")
    run = plant.start(batch)
    answer = sign_in(plant.world.quality).post(page(RUN, "stop", run.pk), follow=True)
    assert "已停止" in text(answer)
    run.refresh_from_db()
    assert run.status == "stopped"
    desk, address = sign_in(plant.world.operator), page(RUN, "go_on", run.pk)
    answer = desk.post(address, {"station": other.pk}, follow=True)
    assert "已在p-2 工位继续制作" in text(answer)
    run.refresh_from_db()
    assert (run.station, run.machine_file.station, run.status) == (other, "p-2", "running")


def test_blanks_that_cannot_be_made_are_rejected_all_or_none(plant: Plant) -> None:
    """R-20, R-21: a blank without a living chip is spoiled; its position waits for the remake."""
    batch = plant.batch(3)
    run = plant.feed(plant.start(batch), Hopper(blanks(batch)[:1]))
    left = list(Card.objects.filter(outcome="pending").values_list("serial", flat=True))
    desk, address = sign_in(plant.world.operator), page(RUN, "spoil", run.pk)
    audited = AuditEntry.objects.count()
    answer = desk.post(address, {"serials": f"{left[0]} X9", "reason": "chip_mute"})
    assert "X9" in text(answer)
    assert (outcomes(batch), AuditEntry.objects.count()) == (["made", "pending", "pending"], audited)
    answer = desk.post(address, {"serials": "\n".join(left), "reason": "chip_mute"}, follow=True)
    assert "已报废 2 张白卡" in text(answer)
    batch = Batch.objects.get(pk=batch.pk)
    assert (outcomes(batch), batch.status) == (["made", "rejected", "rejected"], BatchStatus.INSPECTING)


def test_the_list_of_runs_is_for_purchaser_and_supplier(plant: Plant) -> None:
    """D12: the bank's people find none; neither does another supplier."""
    run = plant.start(plant.batch(1))
    address = reverse("admin:stations_feederrun_changelist")
    for who, status in (("clerk", 200), ("planner", 200), ("other_planner", 200)):
        answer = sign_in(getattr(plant.world, who)).get(address)
        assert answer.status_code == status
        assert (run.batch.number in text(answer)) == (who != "other_planner")
    stranger = sign_in(plant.world.other_planner)
    assert stranger.get(page(RUN, "change", run.pk)).status_code == 404
    assert not {"stations.view_feederrun", "stations.run_feeder"} & PERMISSIONS["counter_operator"]
