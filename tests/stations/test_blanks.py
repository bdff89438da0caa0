"""Blanks of a station: asked for by one, handed out by another, returned, counted blind (R-21)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from portal.choices import Role
from portal.core.clock import today
from portal.core.errors import PermissionRefusedError, SamePersonError, TransitionRefusedError
from portal.models import AuditEntry, User
from production.models import StockMovement
from production.selectors.stock import balance
from production.services.stock import StockRefusedError, StockShortError
from stations.models import BlankRequest, Station, StationBlank, StationDay
from stations.services.blanks import (
    BlankMissingError,
    DayClosedError,
    DayCountError,
    close_day,
    day_figures,
    decide_blanks,
    request_blanks,
    return_blank,
    spend_blank,
)
from stations.services.issuance import confirm_look
from tests.refusals import refused
from tests.stations.counter import Counter, make_counter
from tests.stations.counter_desk import made

pytestmark = pytest.mark.django_db
HELD = 6


@pytest.fixture
def counter() -> Counter:
    return make_counter(blanks=HELD)


class TestHandingOut:
    def test_two_people_move_serials_and_ledger_together(self, counter: Counter) -> None:
        lot = StationBlank.objects.earliest("pk").lot
        before = balance(lot, "warehouse"), balance(lot, "counter")
        request = request_blanks(counter.station, lot, 3, actor=counter.supervisor)
        assert StationBlank.objects.count() == HELD
        decide_blanks(request, approve=True, actor=counter.world.keeper)
        assert (balance(lot, "warehouse"), balance(lot, "counter")) == (before[0] - 3, before[1] + 3)
        assert StationBlank.objects.filter(status="available").count() == HELD + 3 == balance(lot, "counter")

    def test_one_person_alone_is_refused(self, counter: Counter) -> None:
        lot = StationBlank.objects.earliest("pk").lot
        person = User.objects.create(
            username="both", organisation=counter.world.keeper.organisation,
            roles=[Role.WAREHOUSE_KEEPER, Role.COUNTER_SUPERVISOR],
        )  # fmt: skip
        Station.objects.update(operator=person.organisation)
        counter.station.refresh_from_db()
        request = request_blanks(counter.station, lot, 3, actor=person)
        for approve in (True, False):
            with refused(SamePersonError, audited=["second_person.refused"]):
                decide_blanks(request, approve=approve, actor=person)
        with pytest.raises(IntegrityError, match="blank_request_two_people"), transaction.atomic():
            BlankRequest.objects.filter(pk=request.pk).update(decided_by=person)

    @pytest.mark.parametrize("quantity", [0, -1, 2001, 10**9])
    def test_a_quantity_out_of_range_is_refused(self, counter: Counter, quantity: int) -> None:
        lot = StationBlank.objects.earliest("pk").lot
        with refused(StockRefusedError):
            request_blanks(counter.station, lot, quantity, actor=counter.supervisor)

    def test_more_than_the_warehouse_has_is_refused_whole(self, counter: Counter) -> None:
        lot = StationBlank.objects.earliest("pk").lot
        request = request_blanks(counter.station, lot, 200, actor=counter.supervisor)
        with refused(StockShortError):
            decide_blanks(request, approve=True, actor=counter.world.keeper)

    def test_a_request_is_decided_once(self, counter: Counter) -> None:
        request = BlankRequest.objects.get()
        with refused(TransitionRefusedError):
            decide_blanks(request, approve=False, actor=counter.world.keeper_two)

    def test_lots_of_suppliers_that_the_bank_did_not_choose_are_not_told(self, counter: Counter) -> None:
        """D12: a supplier's station draws on its own lots, a bank's on those of its chosen supplier."""
        lot = StationBlank.objects.earliest("pk").lot
        other = counter.world.other_planner.organisation
        station = Station.objects.create(code="c-9", name="九号", place="佛山", operator=other)
        asking = User.objects.create(username="asking", organisation=other, roles=[Role.COUNTER_SUPERVISOR])
        with refused(StockRefusedError) as caught:
            request_blanks(station, lot, 1, actor=asking)
        assert str(caught.value) == "没有这个白卡批"

    def test_people_without_the_role_and_of_other_houses_are_refused(self, counter: Counter) -> None:
        lot = StationBlank.objects.earliest("pk").lot
        other = User.objects.create(
            username="elsewhere", organisation=counter.world.other_planner.organisation,
            roles=[Role.COUNTER_SUPERVISOR],
        )  # fmt: skip
        for actor in (counter.operator, counter.world.clerk, other):
            with refused(PermissionRefusedError):
                request_blanks(counter.station, lot, 1, actor=actor)


class TestReturning:
    def test_a_returned_blank_leaves_the_drawer_and_is_never_used_again(self, counter: Counter) -> None:
        blank = StationBlank.objects.earliest("pk")
        return_blank(blank, reason="卡体划伤", actor=counter.supervisor)
        assert balance(blank.lot, "counter") == HELD - 1
        assert StockMovement.objects.latest("pk").note == f"{blank.serial} 卡体划伤"
        for again in (
            lambda: return_blank(blank, reason="再退", actor=counter.supervisor),
            lambda: counter.start(serial=blank.serial),
        ):
            with pytest.raises(BlankMissingError):
                again()

    def test_without_a_reason_it_stays(self, counter: Counter) -> None:
        with refused(StockRefusedError):
            return_blank(StationBlank.objects.earliest("pk"), reason="  ", actor=counter.supervisor)

    @pytest.mark.parametrize("serial", ["", "X" * 500, "' OR 1=1 --", "CT26A%", "ＣＴ26A"])
    def test_serials_that_are_none_are_refused(self, counter: Counter, serial: str) -> None:
        with transaction.atomic(), pytest.raises(BlankMissingError):
            spend_blank(counter.station, serial, actor=counter.operator)

    def test_another_stations_blank_is_not_there(self, counter: Counter) -> None:
        second = Station.objects.create(code="c-2", name="二号", place="佛山", operator=counter.world.bank)
        with transaction.atomic(), pytest.raises(BlankMissingError):
            spend_blank(second, counter.blank(), actor=counter.operator)


class TestDay:
    def test_a_day_with_good_rejected_and_returned_blanks_balances(self, counter: Counter) -> None:
        """R-21: closing = opening + received − returned − good − rejected − unknown."""
        confirm_look(made(counter, counter.start()), good=True, actor=counter.operator)
        spoiled = made(counter, counter.start())
        confirm_look(spoiled, good=False, reason="print_fault", actor=counter.operator)
        return_blank(
            StationBlank.objects.filter(status="available").earliest("pk"),
            reason="多领", actor=counter.supervisor,
        )  # fmt: skip
        figures = day_figures(counter.station, today())
        assert asdict(figures) == {
            "opening": 0, "received": 6, "returned": 1, "good": 1, "rejected": 1, "unknown": 0,
        }  # fmt: skip
        day = close_day(counter.station, counted=3, actor=counter.supervisor)
        assert day.closing == 3 == StationBlank.objects.filter(status="available").count()
        entry = AuditEntry.objects.get(action="stationday.closed")
        assert entry.details["counts"]["closing"] == 3

    def test_yesterdays_closing_is_todays_opening(self, counter: Counter) -> None:
        StationBlank.objects.update(received_at=timezone.now() - timedelta(days=1))
        assert day_figures(counter.station, today()).opening == HELD
        assert day_figures(counter.station, today() - timedelta(days=1)).closing == HELD

    @pytest.mark.parametrize("counted", [0, HELD - 1, HELD + 1, 10**6])
    def test_a_wrong_count_is_refused_without_naming_the_figure(self, counter: Counter, counted: int) -> None:
        """Blind: neither message nor audit says what the ledger holds."""
        with refused(DayCountError, audited=["station.day_count_differs"]) as caught:
            close_day(counter.station, counted=counted, actor=counter.supervisor)
        assert str(HELD) not in str(caught.value).replace(str(counted), "")
        assert AuditEntry.objects.latest("position").details == {"counted": counted}

    def test_a_day_is_counted_once_and_not_while_a_card_is_made(self, counter: Counter) -> None:
        issuance = counter.start()
        with refused(DayClosedError):
            close_day(counter.station, counted=HELD - 1, actor=counter.supervisor)
        confirm_look(made(counter, issuance), good=True, actor=counter.operator)
        close_day(counter.station, counted=HELD - 1, actor=counter.supervisor)
        with refused(DayClosedError):
            close_day(counter.station, counted=HELD - 1, actor=counter.supervisor)

    def test_the_operator_who_spends_blanks_does_not_count_them(self, counter: Counter) -> None:
        with refused(PermissionRefusedError):
            close_day(counter.station, counted=HELD, actor=counter.operator)

    def test_the_database_holds_the_balance(self, counter: Counter) -> None:
        with pytest.raises(IntegrityError, match="station_day_balances"), transaction.atomic():
            StationDay.objects.create(
                station=counter.station, on=today(), counted_by=counter.supervisor, opening=1, received=0,
                returned=0, good=0, rejected=0, unknown=0, closing=2,
            )  # fmt: skip
