"""Who may make which batch where, at once or one after the other; hostile agents; silent ones (D7, D12)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from portal.choices import Role
from portal.core.clock import today
from portal.core.errors import PermissionRefusedError, PortalError, TransitionRefusedError
from portal.models import AuditEntry, Organisation, User
from production.models import Batch, Card
from production.services.running import run_batch
from production.services.station_runs import BatchTooLargeError
from stations.models import FeederRun, Issuance, Station
from stations.services.blanks import day_figures
from stations.services.desk import StationNotReadyError
from stations.services.feeding import (
    BlankNotWaitingError,
    FeederStoppedError,
    continue_feeder,
    next_card,
    spoil_blanks,
    start_feeder,
    stop_feeder,
)
from stations.services.issuance import StationBusyError, require_no_feeding
from stations.services.registry import NotEnrolledError, enrol_station, withdraw_credential
from stations.services.sweeping import sweep_feeders
from tests.stations.plant import Plant, hopper, outcomes

pytestmark = pytest.mark.django_db


def refused(error: type[PortalError], work: Callable[[], Any]) -> PortalError:
    """Expect a refusal that leaves nothing behind: no row, no status, no audit."""
    before = (
        list(FeederRun.objects.values()), list(Batch.objects.values()), list(Card.objects.values()),
        Issuance.objects.count(), AuditEntry.objects.count(),
    )  # fmt: skip
    with pytest.raises(error) as found:
        work()
    after = (
        list(FeederRun.objects.values()), list(Batch.objects.values()), list(Card.objects.values()),
        Issuance.objects.count(), AuditEntry.objects.count(),
    )  # fmt: skip
    assert before == after
    return found.value


class TestStarting:
    """A batch is started once, by its supplier's operator, at its supplier's station."""

    def test_a_station_of_another_supplier_is_refused(self, plant: Plant) -> None:
        """D12: neither seen nor used."""
        other = plant.world.other_planner.organisation
        assert other is not None
        batch, station = plant.batch(1), plant.another("p-x", operator=other)
        refused(
            PermissionRefusedError,
            lambda: start_feeder(batch, station=station, actor=plant.world.operator),
        )

    def test_a_batch_of_another_supplier_is_refused(self, plant: Plant) -> None:
        """D12: another supplier's operator with a station of their own gets no batch of ours."""
        other = plant.world.other_planner.organisation
        assert other is not None
        stranger = _operator("stranger", other)
        batch, station = plant.batch(1), plant.another("p-x", operator=other)
        refused(PermissionRefusedError, lambda: start_feeder(batch, station=station, actor=stranger))

    @pytest.mark.parametrize("who", ["planner", "quality", "keeper", "clerk", "approver"])
    def test_only_operators_start_one(self, plant: Plant, who: str) -> None:
        """R-15: roles."""
        batch, actor = plant.batch(1), getattr(plant.world, who)
        refused(PermissionRefusedError, lambda: start_feeder(batch, station=plant.station, actor=actor))

    def test_a_large_batch_is_for_the_line(self, plant: Plant, settings: Any) -> None:
        """Issue 4: small batches."""
        settings.FEEDER_MOST_CARDS = 2
        batch = plant.batch(3)
        refused(BatchTooLargeError, lambda: plant.start(batch))
        settings.FEEDER_MOST_CARDS = 3
        assert plant.start(batch).status == "running"

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"has_feeder": False}, StationNotReadyError),
            ({"last_seen_at": None}, StationNotReadyError),
            ({"report": {}}, StationNotReadyError),
            ({"is_active": False}, NotEnrolledError),
        ],
    )
    def test_a_station_that_is_not_ready_is_refused(
        self, plant: Plant, change: dict[str, Any], error: type[PortalError]
    ) -> None:
        batch = plant.batch(1)
        Station.objects.update(**change)
        refused(error, lambda: plant.start(batch))

    def test_neither_twice_nor_beside_the_line(self, plant: Plant) -> None:
        """One batch, one place."""
        batch, second = plant.batch(1), plant.another("p-2")
        plant.start(batch)
        operator = plant.world.operator
        refused(TransitionRefusedError, lambda: start_feeder(batch, station=second, actor=operator))
        refused(TransitionRefusedError, lambda: run_batch(batch, actor=operator))
        line = plant.batch(1)
        run_batch(line, actor=operator)
        refused(TransitionRefusedError, lambda: start_feeder(line, station=second, actor=operator))

    def test_a_station_makes_one_batch_at_a_time(self, plant: Plant) -> None:
        one, other = plant.batch(1), plant.batch(1)
        run = plant.start(one)
        refused(StationBusyError, lambda: plant.start(other))
        with pytest.raises(StationBusyError):
            require_no_feeding(plant.station)
        stop_feeder(run, actor=plant.world.operator)
        plant.start(other)
        refused(StationBusyError, lambda: continue_feeder(run, actor=plant.world.operator))


class TestAgents:
    """What an agent says is not believed further than it must be."""

    def ask(self, plant: Plant, run: int, body: Any, *, station: Station | None = None) -> Any:
        client = APIClient()
        code, credential = plant.station.code, plant.credential
        if station is not None:
            _, credential = enrol_station(station, actor=plant.security)
            code = station.code
        client.credentials(HTTP_AUTHORIZATION=f"Station {code}:{credential}")
        return client.post(f"/api/v1/station/feeder-runs/{run}/next", body, format="json")

    def test_another_station_finds_no_run(self, plant: Plant) -> None:
        """D12: the supplier's own second station neither."""
        run = plant.start(plant.batch(1))
        answer = self.ask(plant, run.pk, {"atr": ""}, station=plant.another("p-2"))
        assert answer.status_code == 404
        assert not Issuance.objects.exists()

    @pytest.mark.parametrize(
        "body",
        [
            {}, {"atr": "zz"}, {"atr": 5}, {"atr": "00" * 40}, {"atr": None}, [],
            {"atr": "", "stopped": {"code": "A B", "text": ""}},
            {"atr": "", "stopped": {"code": "a", "text": "长" * 300}},
        ],
    )  # fmt: skip
    def test_what_is_no_message_is_refused(self, plant: Plant, body: Any) -> None:
        run = plant.start(plant.batch(1))
        assert self.ask(plant, run.pk, body).status_code == 400
        run.refresh_from_db()
        assert (run.status, Issuance.objects.count()) == ("running", 0)

    def test_a_blank_is_given_out_once_however_often_it_is_asked_for(self, plant: Plant) -> None:
        """D8: the same card again is a lost answer; another while one is open stops the run."""
        batch = plant.batch(2)
        run = plant.start(batch)
        first, second = Card.objects.filter(batch=batch).order_by("item__sequence")
        answers = [self.ask(plant, run.pk, {"atr": first.atr}).json() for _ in range(3)]
        assert {(answer["action"], answer["issuance"]) for answer in answers} == {
            ("card", Issuance.objects.get().pk)
        }
        stopped = self.ask(plant, run.pk, {"atr": second.atr}).json()
        assert (stopped["action"], stopped["code"]) == ("stop", "card_open")
        refused(StationBusyError, lambda: continue_feeder(run, actor=plant.world.operator))

    def test_a_stopped_run_gives_nothing_out(self, plant: Plant) -> None:
        batch = plant.batch(1)
        run = plant.start(batch)
        stop_feeder(run, actor=plant.world.planner)
        answer = self.ask(plant, run.pk, {"atr": Card.objects.get().atr}).json()
        assert (answer["action"], answer["code"], answer["serial"]) == ("stop", "stopped", "")
        assert not Issuance.objects.exists()

    def test_a_station_without_its_credential_is_out_at_once(self, plant: Plant) -> None:
        run = plant.start(plant.batch(1))
        withdraw_credential(plant.station, actor=plant.security)
        assert self.ask(plant, run.pk, {"atr": ""}).status_code == 401


class TestSilence:
    """A run whose agent vanished is stopped, not forgotten (D7)."""

    def silent(self, run: FeederRun) -> None:
        FeederRun.objects.filter(pk=run.pk).update(heard_at=timezone.now() - dt.timedelta(minutes=3))

    def test_it_is_stopped_with_its_reason_and_goes_on(self, plant: Plant) -> None:
        batch = plant.batch(1)
        run = plant.start(batch)
        assert sweep_feeders() == 0
        self.silent(run)
        assert (sweep_feeders(), sweep_feeders()) == (1, 0)
        run.refresh_from_db()
        assert (run.status, run.reason) == ("stopped", "station_silent")
        assert plant.again(run, hopper(batch)).status == "ended"
        assert outcomes(batch) == ["made"]

    def test_not_while_a_card_is_at_work(self, plant: Plant) -> None:
        batch = plant.batch(1)
        run = plant.start(batch)
        next_card(run, atr=bytes.fromhex(Card.objects.get().atr))
        self.silent(run)
        assert sweep_feeders() == 0


class TestBlanks:
    """Blanks that cannot be made are rejected by people, only while nothing moves."""

    def test_only_while_it_is_stopped(self, plant: Plant) -> None:
        run = plant.start(plant.batch(1))
        serial = Card.objects.get().serial
        operator = plant.world.operator
        refused(FeederStoppedError, lambda: spoil_blanks(run, [serial], reason="chip_mute", actor=operator))

    @pytest.mark.parametrize(
        ("serials", "reason"), [(["X"], "chip_mute"), ([], "chip_mute"), (None, "because")]
    )
    def test_only_waiting_blanks_for_a_known_reason(
        self, plant: Plant, serials: list[str] | None, reason: str
    ) -> None:
        run = stop_feeder(plant.start(plant.batch(1)), actor=plant.world.operator)
        named = [Card.objects.get().serial] if serials is None else serials
        operator = plant.world.operator
        refused(BlankNotWaitingError, lambda: spoil_blanks(run, named, reason=reason, actor=operator))

    def test_they_are_not_in_the_drawer_of_the_station(self, plant: Plant) -> None:
        """R-21: a batch's blanks belong to the batch's ledger; the station's day counts its own only."""
        batch = plant.batch(2)
        plant.feed(plant.start(batch), hopper(batch, {0: "pulled@120"}))
        figures = day_figures(plant.station, today())
        assert (figures.good, figures.rejected, figures.unknown, figures.closing) == (0, 0, 0, 0)


def _operator(name: str, organisation: Organisation) -> User:
    return User.objects.create(username=name, organisation=organisation, roles=[Role.SUPPLIER_OPERATOR])
