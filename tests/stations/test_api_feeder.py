"""Batches at stations with a feeder through the API: what people and a plant's own system do (R-16, R-18)."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from orders.personal import Column, open_column
from portal.apikit.idempotency import HEADER
from portal.models import AuditEntry, User
from portal.services.tokens import issue_token
from production.models import Batch, Card
from stations.models import FeederRun, Issuance
from tests.api import ROOT, client_of, code_of, ids, problem
from tests.stations.plant import Hopper, Plant, blanks, hopper, outcomes

pytestmark = pytest.mark.django_db
RUNS = f"{ROOT}/feeder-runs"
FIELDS = {
    "id", "batch", "station", "operator", "status", "prints", "reason", "reason_text",
    "done_count", "waiting_count", "started_at", "continued_at", "heard_at", "ended_at",
}  # fmt: skip


@pytest.fixture
def operator(plant: Plant) -> APIClient:
    return client_of(plant.world.operator)


def stopped_after(plant: Plant, batch: Batch, count: int) -> FeederRun:
    """Return a run whose hopper was empty after so many cards."""
    return plant.feed(plant.start(batch), Hopper(blanks(batch)[:count]))


def everything() -> list[Any]:
    """Return what a refusal must leave as it was."""
    return [
        list(FeederRun.objects.values()), list(Batch.objects.values()), list(Card.objects.values()),
        Issuance.objects.count(), AuditEntry.objects.count(),
    ]  # fmt: skip


def refused(client: APIClient, address: str, body: dict[str, Any] | None, status: int) -> str:
    """Expect a refusal that changes nothing; return its code."""
    before = everything()
    code = code_of(client.post(address, body, format="json"), status)
    assert everything() == before
    return code


class TestMaking:
    def test_a_batch_is_started_stopped_continued_and_made(self, plant: Plant, operator: APIClient) -> None:
        """R-16, R-18: the same run from start to end, its cards counted at each step."""
        batch = plant.batch(3)
        made = operator.post(RUNS, {"batch": batch.number, "station": "p-1"}, format="json")
        assert made.status_code == 201, made.content
        run = made.json()
        assert set(run) == FIELDS
        assert (run["batch"], run["station"], run["operator"]) == (batch.number, "p-1", "operator")
        assert (run["status"], run["done_count"], run["waiting_count"]) == ("running", 0, 3)
        stopped = operator.post(f"{RUNS}/{run['id']}/stop").json()
        assert (stopped["status"], stopped["reason"]) == ("stopped", "stopped")
        going = operator.post(f"{RUNS}/{run['id']}/continue", {}, format="json").json()
        assert (going["status"], going["reason"], going["station"]) == ("running", "", "p-1")
        plant.feed(FeederRun.objects.get(), hopper(batch))
        ended = operator.get(f"{RUNS}/{run['id']}").json()
        assert (ended["status"], ended["done_count"], ended["waiting_count"]) == ("ended", 3, 0)
        assert ended["ended_at"] is not None
        assert outcomes(batch) == ["made", "made", "made"]

    def test_the_rest_goes_on_at_another_station(self, plant: Plant, operator: APIClient) -> None:
        run = stopped_after(plant, plant.batch(2), 1)
        plant.another("p-2")
        going = operator.post(f"{RUNS}/{run.pk}/continue", {"station": "p-2"}, format="json").json()
        assert (going["station"], going["status"], going["done_count"]) == ("p-2", "running", 1)

    def test_blanks_that_cannot_be_made_are_spoiled(self, plant: Plant, operator: APIClient) -> None:
        """R-16: the last of them ends the run, their positions wait for the remake."""
        batch = plant.batch(3)
        run = stopped_after(plant, batch, 1)
        serials = [card.serial for card in Card.objects.filter(outcome="pending").order_by("pk")]
        body = {"serials": [*serials, serials[0]], "reason": "blank_missing"}
        answer = operator.post(f"{RUNS}/{run.pk}/spoil", body, format="json").json()
        assert (answer["status"], answer["done_count"], answer["waiting_count"]) == ("ended", 3, 0)
        assert outcomes(batch) == ["made", "rejected", "rejected"]
        assert set(Card.objects.filter(outcome="rejected").values_list("reason", flat=True)) == {
            "blank_missing"
        }

    def test_the_same_start_twice_is_one_run(self, plant: Plant, operator: APIClient) -> None:
        """A plant system that lost the answer asks again with the same key."""
        body = {"batch": plant.batch(1).number, "station": "p-1"}
        answers = [operator.post(RUNS, body, format="json", headers={HEADER: "start-1"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        assert FeederRun.objects.count() == 1


class TestRefusals:
    def test_what_does_not_exist_or_is_not_in_its_state(self, plant: Plant, operator: APIClient) -> None:
        batch = plant.batch(2)
        named = {"batch": batch.number, "station": "p-1"}
        assert refused(operator, RUNS, named | {"batch": "DD-none"}, 422) == "batch_unknown"
        assert refused(operator, RUNS, named | {"station": "p-9"}, 422) == "station_unknown"
        run = plant.start(batch)
        place = f"{RUNS}/{run.pk}"
        assert refused(operator, RUNS, named, 409) == "transition_refused"
        other = {"batch": plant.batch(1).number, "station": "p-1"}
        assert refused(operator, RUNS, other, 409) == "station_busy"
        assert refused(operator, f"{place}/continue", {"station": "p-9"}, 422) == "station_unknown"
        serials = list(Card.objects.filter(batch=batch).values_list("serial", flat=True))
        body = {"serials": serials, "reason": "blank_missing"}
        assert refused(operator, f"{place}/spoil", body, 409) == "feeder_not_stopped"
        operator.post(f"{place}/stop")
        assert refused(operator, f"{place}/stop", None, 409) == "transition_refused"
        body["serials"] = [*serials, "FS26A0000000099"]
        assert refused(operator, f"{place}/spoil", body, 422) == "blank_not_waiting"

    @pytest.mark.parametrize(
        ("path", "body", "field"),
        [
            ("", {"batch": "DD"}, "station"),
            ("", {"station": "p-1"}, "batch"),
            ("", {"batch": ["DD"], "station": "p-1"}, "batch"),
            ("", {"batch": "DD", "station": "../p-1"}, "station"),
            ("/{run}/continue", {"station": 7.5}, "station"),
            ("/{run}/spoil", {"serials": [], "reason": "blank_missing"}, "serials"),
            ("/{run}/spoil", {"serials": "FS26A", "reason": "blank_missing"}, "serials"),
            ("/{run}/spoil", {"serials": ["FS26A"] * 5000, "reason": "blank_missing"}, "serials"),
            ("/{run}/spoil", {"serials": ["FS26A"], "reason": "bored"}, "reason"),
        ],
    )
    def test_a_body_that_says_too_little_or_too_much(
        self, plant: Plant, operator: APIClient, path: str, body: dict[str, Any], field: str
    ) -> None:
        run, before = plant.start(plant.batch(1)), everything()
        found = problem(operator.post(RUNS + path.format(run=run.pk), body, format="json"), 400)
        assert [error["field"].split(".")[0] for error in found["errors"]] == [field]
        assert everything() == before

    def test_another_supplier_finds_nothing(self, plant: Plant) -> None:
        """D12: neither runs, nor batches, nor stations of others."""
        batch, waiting = plant.batch(1), plant.batch(1)
        run = plant.start(batch)
        theirs = User.objects.create(
            username="stranger",
            organisation=plant.world.other_planner.organisation,
            roles=["supplier_operator"],
        )
        client = client_of(theirs)
        assert ids(client.get(RUNS)) == []
        for method, path in (("get", ""), ("post", "/stop"), ("post", "/continue"), ("post", "/spoil")):
            assert code_of(getattr(client, method)(f"{RUNS}/{run.pk}{path}"), 404) == "not_found"
        body = {"batch": waiting.number, "station": "p-1"}
        assert refused(client, RUNS, body, 422) == "batch_unknown"

    def test_a_bank_and_a_token_for_reading_do_not_run_anything(self, plant: Plant) -> None:
        """D12: who may see is not who may act, and a token never does more than its scopes."""
        run, waiting = plant.start(plant.batch(1)), plant.batch(1)
        _, text = issue_token(
            plant.world.operator, name="screen", days=1, scopes=["feeders.read"],
            actor=User.objects.system(),
        )  # fmt: skip
        screen = APIClient()
        screen.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
        assert ids(screen.get(RUNS)) == [run.pk]
        body = {"batch": waiting.number, "station": "p-1"}
        for address, sent in ((RUNS, body), (f"{RUNS}/{run.pk}/stop", None)):
            before = everything()
            assert code_of(screen.post(address, sent, format="json"), 403) == "scope_refused"
            assert everything()[:-1] == before[:-1]
            assert AuditEntry.objects.latest("position").action == "access.refused"
        bank = User.objects.create(
            username="bank", organisation=Batch.objects.first().order.bank, roles=["bank_clerk"]
        )
        assert code_of(client_of(bank).get(RUNS), 403) == "permission_refused"


class TestReading:
    def test_runs_are_listed_by_status_with_a_constant_number_of_queries(
        self, plant: Plant, operator: APIClient, django_assert_max_num_queries: Any
    ) -> None:
        first = stopped_after(plant, plant.batch(2), 1)
        assert ids(operator.get(RUNS, {"status": "stopped"})) == [first.pk]
        assert ids(operator.get(RUNS, {"status": "running"})) == []
        assert code_of(operator.get(RUNS, {"status": "lost"}), 400) == "invalid"
        counts = []
        for _ in range(2):
            with django_assert_max_num_queries(30) as found:
                assert operator.get(RUNS).status_code == 200
            counts.append(len(found))
            plant.feed(plant.start(batch := plant.batch(1)), hopper(batch))
        assert counts[0] == counts[1]
        assert [row["waiting_count"] for row in operator.get(RUNS).json()["results"]] == [0, 0, 1]

    def test_nothing_of_a_person_is_in_it(self, plant: Plant, operator: APIClient) -> None:
        """R-45: serials and counts only."""
        run = stopped_after(plant, plant.batch(1), 1)
        body = operator.get(f"{RUNS}/{run.pk}").content.decode()
        record = run.batch.items.get().record
        assert record is not None
        columns: tuple[Column, ...] = ("number", "name")
        for column in columns:
            assert open_column(record, column) not in body
