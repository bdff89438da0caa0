"""Twenty hands on one blank, on one person, on one station: one card, and the ledger right (D8, R-21)."""

from __future__ import annotations

import pytest
from django.core.cache import caches

from orders.models import CardholderRecord
from portal.audit import verify_chain
from portal.core.clock import today
from production.models import Batch, Card, StockMovement
from production.selectors.stock import balance
from stations.models import EmergencyCase, Issuance, IssuanceStep, Station, StationBlank, StationDay
from stations.services.blanks import close_day, day_figures
from stations.services.cases import decide_case, open_case
from stations.services.issuance import confirm_look, start_issuance
from stations.services.printing import claim_print, print_again
from stations.services.registry import enrol_station
from tests.concurrency.rivals import at_once
from tests.stations.counter import Counter, make_counter
from tests.stations.counter_desk import entered, made

pytestmark = pytest.mark.django_db(transaction=True)
HANDS = 20


@pytest.fixture
def counter(transactional_db: None) -> Counter:
    return make_counter(blanks=HANDS)


def stations(counter: Counter) -> list[Station]:
    """Return as many enrolled stations of the bank as there are hands, the first with all the blanks."""
    made_here = [
        Station.objects.create(code=f"c-{n}", name=f"{n} 号", place="佛山", operator=counter.world.bank)
        for n in range(2, HANDS + 1)
    ]
    return [counter.station, *(enrol_station(one, actor=counter.security)[0] for one in made_here)]


def records(counter: Counter) -> list[CardholderRecord]:
    """Return as many matched people as there are hands."""
    counter.record(HANDS)
    return list(CardholderRecord.objects.select_related("package").order_by("pk"))


def one_card_was_begun(counter: Counter, serial: str) -> None:
    lot = StationBlank.objects.select_related("lot").get(serial=serial).lot
    assert (Issuance.objects.count(), Card.objects.count(), Batch.objects.count()) == (1, 1, 1)
    assert Card.objects.get().serial == serial
    assert list(StationBlank.objects.filter(status="used").values_list("serial", flat=True)) == [serial]
    assert StockMovement.objects.filter(kind="counter").count() == 1
    assert (balance(lot, "counter"), balance(lot, "floor")) == (HANDS - 1, 1)
    figures = day_figures(counter.station, today())
    assert (figures.closing, figures.unknown) == (HANDS - 1, 1)  # not reported yet
    assert verify_chain()[1] is None


def test_twenty_people_at_one_blank_get_one_card(counter: Counter) -> None:
    """D8: a blank's serial is used at most once; nineteen are told so and leave nothing behind."""
    serial, people = counter.blank(), records(counter)
    found = at_once(
        [
            lambda record=record: start_issuance(
                record, station=counter.station, serial=serial, actor=counter.operator
            )
            for record in people
        ]
    )
    assert found == {"True": 1, "blank_missing": HANDS - 1}
    one_card_was_begun(counter, serial)
    assert CardholderRecord.objects.filter(status="matched").count() == HANDS - 1


def test_twenty_clicks_for_one_person_make_one_card(counter: Counter) -> None:
    """Each click takes another blank of one station; one of them is the card, no blank is lost."""
    record = counter.record()
    found = at_once(
        [
            lambda serial=serial: start_issuance(
                CardholderRecord.objects.select_related("package").get(pk=record.pk),
                station=counter.station,
                serial=serial,
                actor=counter.operator,
            )
            for serial in counter.blanks
        ]
    )
    assert found["True"] == 1
    assert sum(found.values()) == HANDS
    one_card_was_begun(counter, Card.objects.get().serial)


def test_twenty_stations_for_one_person_make_one_card(counter: Counter) -> None:
    """Several counters at once: the person's record, not the station's lock, lets one through."""
    record, places = counter.record(), stations(counter)
    for station, serial in zip(places, counter.blanks, strict=True):
        StationBlank.objects.filter(serial=serial).update(station=station)
    found = at_once(
        [
            lambda station=station, serial=serial: start_issuance(
                CardholderRecord.objects.select_related("package").get(pk=record.pk),
                station=station,
                serial=serial,
                actor=counter.operator,
            )
            for station, serial in zip(places, counter.blanks, strict=True)
        ]
    )
    assert found["True"] == 1
    assert sum(found.values()) == HANDS
    assert (Issuance.objects.count(), Card.objects.count()) == (1, 1)
    assert StationBlank.objects.filter(status="used").count() == 1


def test_several_counters_make_cards_at_the_same_moment(counter: Counter) -> None:
    places, people = stations(counter)[:4], records(counter)
    for station, serial in zip(places, counter.blanks, strict=False):
        StationBlank.objects.filter(serial=serial).update(station=station)
    found = at_once(
        [
            lambda station=station, record=record, serial=serial: start_issuance(
                record, station=station, serial=serial, actor=counter.operator
            )
            for station, record, serial in zip(places, people, counter.blanks, strict=False)
        ]
    )
    assert found == {"True": 4}
    assert Card.objects.values("serial").distinct().count() == 4


def test_two_words_on_one_card_are_one_outcome(counter: Counter) -> None:
    """The operator and a colleague press good and reject at once: one of them is told that it is decided."""
    caches["limits"].clear()
    issuance = made(counter, counter.start())
    found = at_once(
        [
            *[lambda: confirm_look(issuance, good=True, actor=counter.operator)] * 4,
            *[lambda: confirm_look(issuance, good=False, reason="print_fault", actor=counter.operator)] * 4,
        ]
    )
    assert found == {"True": 1, "transition_refused": 7}
    issuance.refresh_from_db()
    assert issuance.status == Card.objects.get().outcome
    assert issuance.status in {"good", "rejected"}


def test_two_people_who_print_again_at_once_print_once(counter: Counter) -> None:
    """D8: eight hands on the button, one print; then eight workers with its job, one of them is told."""
    caches["limits"].clear()
    issuance = made(counter, counter.start(), "not-submitted")
    found = at_once([lambda: print_again(issuance, actor=counter.operator)] * 8)
    assert found == {"True": 1, "print_again_refused": 7}
    assert list(IssuanceStep.objects.filter(kind="print").values_list("status", flat=True)) == [
        "failed", "running",
    ]  # fmt: skip
    claims = [bytes([number]) * 16 for number in range(8)]
    found = at_once([lambda claim=claim: claim_print(issuance, claim) for claim in claims])
    assert found == {"True": 1, "print_claimed": 7}


def test_one_case_is_opened_and_decided_once(counter: Counter) -> None:
    person = entered()
    ask = lambda: open_case(person, station=counter.station, reason="急", actor=counter.operator)  # noqa: E731
    assert at_once([ask] * 6) == {"True": 1, "case_open": 5}
    case = EmergencyCase.objects.get()
    decide = lambda: decide_case(case, approve=True, actor=counter.supervisor)  # noqa: E731
    assert at_once([decide] * 6) == {"True": 1, "transition_refused": 5}
    assert CardholderRecord.objects.count() == 1


def test_a_day_is_closed_once(counter: Counter) -> None:
    close = lambda: close_day(counter.station, counted=HANDS, actor=counter.supervisor)  # noqa: E731
    assert at_once([close] * 6) == {"True": 1, "day_not_countable": 5}
    assert StationDay.objects.get().closing == HANDS
