"""A written card is printed again only while it is certain that no printer marked it (D8)."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any, ClassVar

import pytest
from django.core.cache import caches
from django.utils import timezone

from portal.choices import Role
from portal.core.errors import PermissionRefusedError
from portal.models import Organisation, User
from stations.choices import IssuanceStatus, PrintState, StepStatus
from stations.models import Issuance, IssuanceStep, Station
from stations.printing.virtual import VirtualPrinter
from stations.queues import PRINT_AGAIN
from stations.services.card_jobs import face_of, front_of
from stations.services.desk import StationNotReadyError
from stations.services.issuance import LookRefusedError, confirm_look
from stations.services.printing import PrintedAlreadyError, may_print_again, print_again
from stations.services.sweeping import PRINTING_FOR, sweep_issuances
from tests.api import ROOT, client_of, code_of
from tests.portal.desk import sign_in
from tests.refusals import actions, everything, refused
from tests.stations.counter import Agent, Counter, make_counter
from tests.stations.counter_desk import ADDRESS, PRINTER, READER, browser_of, made, report
from tests.stations.plant import hopper, make_plant
from tests.stations.plant import report as plant_report

pytestmark = pytest.mark.django_db
CLAIM, OTHER_CLAIM = "a1" * 16, "b2" * 16
ENDS = ("completed", "aborted", "canceled", "lost")


@pytest.fixture
def counter() -> Counter:
    caches["limits"].clear()
    return make_counter(blanks=3)


@pytest.fixture
def unprinted(counter: Counter) -> Issuance:
    """Return a written card that no printer took."""
    return made(counter, counter.start(), "not-submitted")


def order(agent: Agent, issuance: Issuance, claim: str = CLAIM) -> Any:
    return agent.post(issuance, "print-order", {"claim": claim})


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return the jobs that stations are woken with."""
    jobs: list[tuple[str, int]] = []
    monkeypatch.setattr(
        "stations.services.printing.wake_station",
        lambda _station, function, number: jobs.append((function, number)),
    )
    return jobs


def test_the_same_card_is_printed_and_becomes_good(
    counter: Counter, unprinted: Issuance, woken: list[tuple[str, int]]
) -> None:
    """No second chip, no second blank: one card, printed at the second try, looked at, handed over."""
    assert may_print_again(unprinted)
    before = unprinted.total_milliseconds
    again = print_again(unprinted, actor=counter.operator)
    assert (again.status, again.print_state, again.print_job) == (IssuanceStatus.PRINTING, "", None)
    assert woken == [(PRINT_AGAIN, again.pk)]
    assert actions()[-1] == "issuance.print_again_asked"
    agent = counter.agent()
    assert order(agent, again).json() == {"sides": ["front", "back"], "copies": 1}
    assert agent.faces(again) == {"front": front_of(again), "back": face_of(again)}
    agent.print(again, "submitted", "completed")
    again.refresh_from_db()
    assert (again.status, again.print_state) == (IssuanceStatus.AWAITING_LOOK, PrintState.COMPLETED)
    assert again.total_milliseconds == before
    assert not may_print_again(again)
    assert confirm_look(again, good=True, actor=counter.operator).card.outcome == "good"
    kinds = list(IssuanceStep.objects.order_by("id").values_list("kind", "status", "code"))
    assert kinds[3:7] == [
        ("print", StepStatus.FAILED, "print_not-submitted"),
        ("look", StepStatus.FAILED, "print_again"),
        ("print", StepStatus.DONE, ""),
        ("look", StepStatus.DONE, ""),
    ]


@pytest.mark.parametrize("state", ENDS)
def test_a_card_that_a_printer_may_have_marked_is_never_printed_again(counter: Counter, state: str) -> None:
    issuance = made(counter, counter.start(), "submitted", state)
    with refused(PrintedAlreadyError) as caught:
        print_again(issuance, actor=counter.operator)
    assert caught.value.code == "print_again_refused"


@pytest.mark.parametrize("states", [("submitted",), ("processing",), ("stopped",), ()])
def test_a_card_that_is_being_printed_is_not_printed_beside_it(
    counter: Counter, states: tuple[str, ...]
) -> None:
    issuance = counter.start()
    agent = counter.agent()
    agent.insert(issuance.card.serial)
    agent.make(issuance)
    agent.print(issuance, *states)
    issuance.refresh_from_db()
    with refused(PrintedAlreadyError):
        print_again(issuance, actor=counter.operator)


@pytest.mark.parametrize("state", ["submitted", "processing", "stopped"])
def test_a_job_that_was_at_the_printer_is_not_unsent_afterwards(counter: Counter, state: str) -> None:
    """A late or wrong word of the agent does not make a marked card a clean one."""
    issuance = made(counter, counter.start(), state, "not-submitted")
    assert (issuance.status, issuance.print_state) == (IssuanceStatus.AWAITING_LOOK, PrintState.LOST)
    with refused(PrintedAlreadyError):
        print_again(issuance, actor=counter.operator)


def test_the_second_who_presses_is_told_so(counter: Counter, unprinted: Issuance) -> None:
    """By the row as it was read before the first one pressed."""
    print_again(unprinted, actor=counter.operator)
    with refused(PrintedAlreadyError):
        print_again(unprinted, actor=counter.operator)


def test_only_who_makes_cards_has_one_printed(counter: Counter, unprinted: Issuance) -> None:
    with refused(PermissionRefusedError):
        print_again(unprinted, actor=counter.supervisor)


def test_a_card_without_a_face_is_not_good(counter: Counter, unprinted: Issuance) -> None:
    """Nothing was printed: nobody hands it over; it may be given up."""
    with refused(LookRefusedError):
        confirm_look(unprinted, good=True, actor=counter.operator)
    done = confirm_look(unprinted, good=False, reason="print_fault", actor=counter.operator)
    assert (done.status, done.card.outcome) == (IssuanceStatus.REJECTED, "rejected")


class TestClaim:
    """What is to be printed is told to one worker: a job that is delivered twice prints once."""

    def test_the_same_claim_is_answered_again_another_is_refused(
        self, counter: Counter, unprinted: Issuance
    ) -> None:
        again, agent = print_again(unprinted, actor=counter.operator), counter.agent()
        first = order(agent, again).json()
        assert order(agent, again).json() == first
        assert code_of(order(agent, again, OTHER_CLAIM), 409) == "print_claimed"

    def test_nothing_is_told_while_nothing_is_to_be_printed(
        self, counter: Counter, unprinted: Issuance
    ) -> None:
        agent = counter.agent()
        assert code_of(order(agent, unprinted), 409) == "print_claimed"
        again = print_again(unprinted, actor=counter.operator)
        order(agent, again)
        agent.print(again, "submitted")
        assert code_of(order(agent, again), 409) == "print_claimed", "it is at the printer"
        agent.print(again, "completed")
        assert code_of(order(agent, again), 409) == "print_claimed"

    def test_the_first_print_is_not_for_a_second_worker(self, counter: Counter) -> None:
        """The exchange of the chip told its own worker already."""
        issuance, agent = counter.start(), counter.agent()
        agent.insert(issuance.card.serial)
        agent.make(issuance)
        assert code_of(order(agent, issuance), 409) == "print_claimed"

    @pytest.mark.parametrize("claim", ["", "a1" * 15, "a1" * 33, "zz" * 16, 7, None])
    def test_a_claim_is_long_enough_to_be_ones_own(
        self, counter: Counter, unprinted: Issuance, claim: Any
    ) -> None:
        again, agent = print_again(unprinted, actor=counter.operator), counter.agent()
        assert order(agent, again, claim).status_code == HTTPStatus.BAD_REQUEST
        again.refresh_from_db()
        assert again.asked_digest is None

    def test_another_station_is_told_nothing(self, counter: Counter, unprinted: Issuance) -> None:
        again, agent = print_again(unprinted, actor=counter.operator), counter.agent()
        Issuance.objects.update(station=Station.objects.create(code="c-2", operator=counter.world.bank))
        assert order(agent, again).status_code == HTTPStatus.NOT_FOUND


class TestSilence:
    def silent(self, issuance: Issuance) -> Issuance:
        past = timezone.now() - PRINTING_FOR - timedelta(seconds=1)
        Issuance.objects.filter(pk=issuance.pk).update(heard_at=past)
        assert sweep_issuances() == 1
        issuance.refresh_from_db()
        return issuance

    def test_a_print_that_no_agent_began_may_be_asked_for_again(
        self, counter: Counter, unprinted: Issuance
    ) -> None:
        found = self.silent(print_again(unprinted, actor=counter.operator))
        assert (found.status, found.print_state) == (IssuanceStatus.AWAITING_LOOK, PrintState.NOT_SUBMITTED)
        assert may_print_again(found)

    def test_a_print_that_an_agent_began_may_have_left_a_mark(
        self, counter: Counter, unprinted: Issuance
    ) -> None:
        again = print_again(unprinted, actor=counter.operator)
        order(counter.agent(), again)
        assert self.silent(again).print_state == PrintState.LOST

    def test_so_may_the_first_one(self, counter: Counter) -> None:
        issuance, agent = counter.start(), counter.agent()
        agent.insert(issuance.card.serial)
        agent.make(issuance)
        issuance.refresh_from_db()
        assert self.silent(issuance).print_state == PrintState.LOST


class TestPage:
    def test_the_button_is_there_for_such_a_card_only(self, counter: Counter, unprinted: Issuance) -> None:
        browser = browser_of(counter)
        live, press = (f"{ADDRESS}issuances/{unprinted.pk}/{part}/" for part in ("live", "print-again"))
        shown = browser.get(live).content.decode()
        assert ("用这张卡再次打印" in shown, "良品，交给本人" in shown) == (True, False)
        assert browser.get(press).status_code == HTTPStatus.METHOD_NOT_ALLOWED
        assert browser.post(press)["Location"] == f"{ADDRESS}issuances/{unprinted.pk}/"
        assert Issuance.objects.get().status == IssuanceStatus.PRINTING
        rows = everything()
        answer = browser.post(press, follow=True).content.decode()
        assert "不能再次打印：只有确定没有提交给打印机的卡可以" in answer
        assert everything() == rows
        counter.agent().print(unprinted, "submitted", "completed")
        shown = browser.get(live).content.decode()
        assert ("用这张卡再次打印" in shown, "良品，交给本人" in shown) == (False, True)

    def test_others_do_not_press_it(self, counter: Counter, unprinted: Issuance) -> None:
        press = f"{ADDRESS}issuances/{unprinted.pk}/print-again/"
        supervisor = browser_of(counter, user=counter.supervisor)
        shown = supervisor.get(f"{ADDRESS}issuances/{unprinted.pk}/live/").content.decode()
        assert "用这张卡再次打印" not in shown
        stranger = sign_in(stranger_of(counter))
        rows = everything()
        assert supervisor.post(press).status_code == HTTPStatus.FORBIDDEN
        assert stranger.post(press).status_code == HTTPStatus.NOT_FOUND
        assert everything() == rows

    def test_both_sides_are_shown_or_the_back_alone(self, counter: Counter) -> None:
        """The look compares what was to be printed; the front is nobody's and no entry of the audit."""
        browser = browser_of(counter)
        issuance = made(counter, counter.start())
        place = f"{ADDRESS}issuances/{issuance.pk}/"
        shown = browser.get(f"{place}live/").content.decode()
        assert (f"{place}front/" in shown, f"{place}face/" in shown) == (True, True)
        entries = actions()
        front = browser.get(f"{place}front/")
        assert (front.content, front["Cache-Control"]) == (front_of(issuance), "no-store, private")
        assert actions() == entries
        browser.post(f"{place}look/", {"good": "yes"})
        assert browser.get(f"{place}front/").status_code == HTTPStatus.NOT_FOUND
        Station.objects.update(front_is_preprinted=True)
        issuance = made(counter, counter.start())
        place = f"{ADDRESS}issuances/{issuance.pk}/"
        shown = browser.get(f"{place}live/").content.decode()
        assert (f"{place}front/" in shown, "正面已预印，只打印背面" in shown) == (False, True)
        assert browser.get(f"{place}front/").status_code == HTTPStatus.NOT_FOUND


class TestPreprintedFronts:
    def test_the_agent_prints_the_back_alone(self, counter: Counter) -> None:
        """The station's setting at the card's start holds for this card, whatever is set meanwhile."""
        Station.objects.update(front_is_preprinted=True)
        issuance, agent = counter.start(), counter.agent()
        Station.objects.update(front_is_preprinted=False)
        agent.insert(issuance.card.serial)
        assert agent.make(issuance)["print"] == {"sides": ["back"], "copies": 1}
        assert agent.faces(issuance) == {"back": face_of(issuance)}
        agent.print(issuance, "not-submitted")
        issuance.refresh_from_db()
        assert order(agent, print_again(issuance, actor=counter.operator)).json()["sides"] == ["back"]

    @pytest.mark.parametrize(("preprinted", "sides"), [(False, ["front", "back"]), (True, ["back"])])
    def test_a_heartbeat_is_told_what_the_station_prints(
        self, counter: Counter, preprinted: bool, sides: list[str]
    ) -> None:
        Station.objects.update(front_is_preprinted=preprinted)
        beat = {"reader_state": "", "printer_state": "", "agent_version": "1.0"}
        answer = counter.agent().client.post(f"{ROOT}/station/heartbeat", beat, format="json")
        assert answer.json()["sides"] == sides

    @pytest.mark.parametrize(
        ("turns", "preprinted", "stops"),
        [(False, False, True), (False, True, False), (True, False, False), (None, False, False)],
    )
    def test_a_printer_that_cannot_turn_cards_stops_what_needs_it(
        self, counter: Counter, turns: bool | None, preprinted: bool, stops: bool
    ) -> None:
        """Before a blank is spent; an older agent that says nothing of it is not held up."""
        browser = browser_of(counter)
        Station.objects.update(front_is_preprinted=preprinted)
        printer = {"name": "card", "state": "idle", "reasons": [], "supplies": [], "turns_over": turns}
        report(counter.station, printer=printer)
        shown = browser.get(ADDRESS).content.decode()
        assert ("打印机不能两面打印" in shown) is stops
        page = sign_in(counter.supervisor).get(f"/admin/stations/station/{counter.station.pk}/change/")
        words = {True: "支持", False: "不支持", None: "打印机未报告"}[turns]
        row = page.content.decode().partition("两面打印")[2].partition("</tr>")[0]
        assert words in row
        assert ("pk-danger" in row) is stops


class TestPlant:
    """A station with a feeder prints the same sides as a counter."""

    READY: ClassVar[dict[str, Any]] = {"readers": [READER], "printer": {**PRINTER, "turns_over": True}}

    @pytest.mark.parametrize("preprinted", [False, True])
    def test_its_cards_are_printed_on_both_sides_or_on_the_back(self, preprinted: bool) -> None:
        plant = make_plant()
        Station.objects.update(front_is_preprinted=preprinted)
        plant.station.refresh_from_db()
        plant_report(plant.station, self.READY)
        batch = plant.batch(2)
        run = plant.feed(plant.start(batch), hopper(batch), VirtualPrinter())
        assert (run.status, run.prints) == ("ended", True)
        assert set(Issuance.objects.values_list("prints_front", "print_state")) == {
            (not preprinted, "completed")
        }

    def test_a_printer_that_cannot_turn_cards_is_refused_before_any_card(self) -> None:
        plant = make_plant()
        plant_report(plant.station, self.READY | {"printer": {**PRINTER, "turns_over": False}})
        batch = plant.batch(2)
        with refused(StationNotReadyError) as caught:
            plant.start(batch)
        assert "打印机不能两面打印" in caught.value.message


def stranger_of(counter: Counter) -> User:
    """Return a counter operator of another bank."""
    other = Organisation.objects.create(kind="bank", code="102", name="农业银行")
    return User.objects.create(username="stranger", organisation=other, roles=[Role.COUNTER_OPERATOR])


class TestApi:
    def test_it_is_listed_and_printed_again_once(self, counter: Counter, unprinted: Issuance) -> None:
        client = client_of(counter.operator)
        (row,) = client.get(f"{ROOT}/issuances").json()["results"]
        assert (row["serial"], row["print_state"], row["may_print_again"]) == (
            unprinted.card.serial, "not-submitted", True,
        )  # fmt: skip
        address = f"{ROOT}/issuances/{unprinted.pk}/print-again"
        answer = client.post(address, HTTP_IDEMPOTENCY_KEY="k-1")
        assert (answer.status_code, answer.json()["status"]) == (200, "printing")
        assert client.post(address, HTTP_IDEMPOTENCY_KEY="k-1").json() == answer.json(), "a lost answer"
        assert code_of(client.post(address), 409) == "print_again_refused"
        assert actions().count("issuance.print_again_asked") == 1

    def test_others_cannot(self, counter: Counter, unprinted: Issuance) -> None:
        address = f"{ROOT}/issuances/{unprinted.pk}/print-again"
        assert client_of(stranger_of(counter)).post(address).status_code == HTTPStatus.NOT_FOUND
        assert client_of(counter.supervisor).post(address).status_code == HTTPStatus.FORBIDDEN
        assert Issuance.objects.get().status == IssuanceStatus.AWAITING_LOOK
