"""One card on demand, from the operator's start to the person's hand (R-14, R-18, R-24, R-25)."""

from __future__ import annotations

import pytest

from orders.models import CardholderRecord
from production.choices import BatchStatus, Outcome
from production.models import Batch, Card
from stations.choices import BlankStatus, IssuanceStatus, PrintState
from stations.models import Issuance, StationBlank
from stations.services.blanks import BlankMissingError
from stations.services.card_jobs import face_of, front_of
from stations.services.issuance import StationBusyError, confirm_look
from tests.stations.counter import Counter, make_counter

pytestmark = pytest.mark.django_db


@pytest.fixture
def counter() -> Counter:
    return make_counter()


def test_a_card_is_written_read_back_printed_looked_at_and_handed_over(counter: Counter) -> None:
    """R-14, R-18: one blank, one record, one good card; accepted today, balanced, its batch signed."""
    serial = counter.blank()
    issuance = counter.start(serial=serial)
    agent = counter.agent()
    agent.insert(serial)
    answer = agent.make(issuance)
    assert (answer["result"], answer["print"]) == ("printing", {"sides": ["front", "back"], "copies": 1})
    assert agent.faces(issuance) == {"front": front_of(issuance), "back": face_of(issuance)}
    agent.print(issuance, "submitted", "processing", "completed")
    issuance.refresh_from_db()
    assert (issuance.status, issuance.print_state) == (IssuanceStatus.AWAITING_LOOK, PrintState.COMPLETED)
    done = confirm_look(issuance, good=True, actor=counter.operator)
    card, batch = Card.objects.get(), Batch.objects.get()
    assert (done.status, card.outcome, card.serial) == (IssuanceStatus.GOOD, Outcome.GOOD, serial)
    assert (batch.status, batch.quantity, card.accepted_on is not None) == (BatchStatus.SIGNED, 1, True)
    assert StationBlank.objects.get(serial=serial).status == BlankStatus.USED
    assert (done.exchange_sealed, done.answer_sealed) == (None, None)


def test_a_blank_that_was_used_makes_no_second_card(counter: Counter) -> None:
    """A blank's serial is used at most once; the refused start leaves nothing behind."""
    serial = counter.blank()
    counter.start(serial=serial)
    record = counter.record()
    with pytest.raises(BlankMissingError):
        counter.start(record, serial)
    assert (Issuance.objects.count(), Card.objects.count(), Batch.objects.count()) == (1, 1, 1)
    assert CardholderRecord.objects.get(pk=record.pk).status == "matched"


def test_a_station_makes_one_card_at_a_time(counter: Counter) -> None:
    counter.start()
    with pytest.raises(StationBusyError):
        counter.start()
    assert (Issuance.objects.count(), StationBlank.objects.filter(status="used").count()) == (1, 1)
