"""Whatever stops an issuance, its card ends good, rejected or unknown, and the ledger balances (D8, R-21)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.core.cache import caches
from django.db import transaction

from portal.core.clock import today
from production.choices import BatchStatus, Outcome
from production.models import Card
from production.personalization.blank import chip_serial
from stations.choices import BlankStatus, IssuanceStatus, StepKind, StepStatus
from stations.models import Issuance, IssuanceStep, StationBlank
from stations.services import exchange
from stations.services.blanks import day_figures
from stations.services.card_jobs import card_job
from stations.services.exchange import issuances_of
from stations.services.issuance import ask_to_resolve, confirm_look
from stations.virtual.card import VirtualCard, blank_card
from stations.virtual.faults import parse_fault
from stations.virtual.program import WRONG_CARDS
from tests.stations.counter import Agent, Counter, make_counter

pytestmark = pytest.mark.django_db
BLANKS = 4


@pytest.fixture
def counter() -> Counter:
    return make_counter(blanks=BLANKS)


@pytest.mark.parametrize(
    ("fault", "step", "expected"),
    [
        # A reader may lose its card anywhere; other faults meet every kind of command soon enough.
        ("pulled@{}", 1, {"rejected", "unknown"}),
        ("pulled-after@{}", 13, {"rejected", "unknown"}),
        ("mute@{}", 13, {"rejected", "unknown"}),
        ("memory@{}", 13, {"rejected", "printing"}),
        ("status@{}=6F00", 13, {"rejected"}),
    ],
)
def test_a_card_interrupted_at_any_command_has_its_outcome_and_its_place_in_the_ledger(
    counter: Counter, fault: str, step: int, expected: set[str]
) -> None:
    """D8: nothing written, rejected; something written and nobody answers, unknown; refused, rejected."""
    serial = counter.blank()
    issuance = counter.start(counter.record(), serial)
    agent = counter.agent()
    agent.insert(serial)
    last = _commands(agent, issuance)
    seen = set()
    for at in (*range(1, 12), *range(12, last + 1, step)):
        caches["limits_of_process"].clear()
        caches["limits"].clear()  # a station is not asked this often
        issuance.refresh_from_db()
        with transaction.atomic():
            agent = counter.agent()
            agent.insert(serial, faults=[parse_fault(fault.format(at))])
            answer = agent.make(issuance)
            seen.add(_settled(counter, issuance, answer["result"]))
            transaction.set_rollback(True)
    assert seen == expected


def _settled(counter: Counter, issuance: Issuance, result: str) -> str:
    """Check that issuance, card, steps and ledger tell the same story; return how it ended."""
    issuance.refresh_from_db()
    outcome = Card.objects.values_list("outcome", flat=True).get(pk=issuance.card_id)
    told = {
        IssuanceStatus.REJECTED: Outcome.REJECTED,
        IssuanceStatus.UNKNOWN: Outcome.UNKNOWN,
        IssuanceStatus.PRINTING: Outcome.PENDING,
    }
    assert (issuance.status, outcome) == (result, told[IssuanceStatus(result)])
    figures = day_figures(counter.station, today())
    left = StationBlank.objects.filter(status=BlankStatus.AVAILABLE).count()
    assert (figures.received, figures.closing, left) == (BLANKS, BLANKS - 1, BLANKS - 1)
    if result != IssuanceStatus.PRINTING:
        assert not IssuanceStep.objects.filter(issuance=issuance, status=StepStatus.RUNNING).exists()
    return result


def test_an_unknown_card_that_was_not_finished_is_rejected_when_it_is_read_again(counter: Counter) -> None:
    """D8: read-back decides; then the next try takes another blank and succeeds."""
    record, serial = counter.record(), counter.blank()
    issuance, agent = counter.start(record, serial), counter.agent()
    agent.insert(serial, faults=[parse_fault("pulled@100")])
    assert agent.make(issuance)["result"] == "unknown"
    issuance = ask_to_resolve(Issuance.objects.get(), actor=counter.operator)
    assert agent.make(issuance)["result"] == "rejected"
    issuance.refresh_from_db()
    assert (issuance.status, issuance.card.outcome) == (IssuanceStatus.REJECTED, Outcome.REJECTED)
    _finish(counter, agent, counter.start(record))
    assert sorted(Card.objects.values_list("outcome", flat=True)) == ["good", "rejected"]
    assert Card.objects.get(outcome="good").batch.status == BatchStatus.SIGNED


def test_an_unknown_card_that_was_finished_is_good_when_it_is_read_again(counter: Counter) -> None:
    """D8: the last answer was lost; the chip proves itself, the face is printed, nothing is made twice."""
    serial = counter.blank()
    issuance, agent = counter.start(counter.record(), serial), counter.agent()
    agent.insert(serial)
    commands = _commands(agent, issuance)
    issuance = Issuance.objects.get()
    assert commands > 200
    agent.insert(serial, faults=[parse_fault(f"pulled-after@{commands}")])
    assert agent.make(issuance)["result"] == "unknown"
    issuance = ask_to_resolve(Issuance.objects.get(), actor=counter.operator)
    assert agent.make(issuance)["result"] == "printing"
    agent.print(issuance, "submitted", "completed")
    issuance.refresh_from_db()
    confirm_look(issuance, good=True, actor=counter.operator)
    assert list(Card.objects.values_list("outcome", flat=True)) == ["good"]


def _commands(agent: Agent, issuance: Issuance) -> int:
    """Count what a whole issuance sends, in a try that is rolled back."""
    with transaction.atomic():
        assert agent.make(issuance)["result"] == "printing"
        transaction.set_rollback(True)
    assert agent.card is not None
    return agent.card.faults.count


def _finish(counter: Counter, agent: Agent, issuance: Issuance) -> None:
    agent.insert(issuance.card.serial)
    assert agent.make(issuance)["result"] == "printing"
    agent.print(issuance, "completed")
    issuance.refresh_from_db()
    confirm_look(issuance, good=True, actor=counter.operator)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ("used", "card_other_city"),  # another issuer's keys are on it
        ("other-city", "card_other_city"),
        ("locked-pin", "card_other_city"),
        ("wrong-type", "card_wrong_type"),
        ("test-key", "card_test_key"),
        ("ours", "card_used"),
        ("other-version", "card_wrong_algorithm"),
    ],
)
def test_a_wrong_card_has_its_own_reason_and_nothing_is_written(
    counter: Counter, monkeypatch: pytest.MonkeyPatch, wrong: str, code: str
) -> None:
    """R-21, R-25, D8: found out before a command changes the card; the ledger counts the blank once."""
    serial = counter.blank()
    issuance, agent = counter.start(counter.record(), serial), counter.agent()
    agent.card = _wrong_card(wrong, chip_serial(serial), counter, agent, issuance)
    if wrong == "test-key":  # as in production
        job = card_job(issuances_of(counter.station).get(pk=issuance.pk))
        monkeypatch.setattr(exchange, "card_job", lambda _: replace(job, accept_test_keys=False))
    answer = agent.make(issuance)
    issuance.refresh_from_db()
    assert answer["code"] == code
    if wrong == "wrong-type":  # told by its first bytes: waited out of the reader, nothing is spent
        assert (issuance.status, issuance.reason) == (IssuanceStatus.QUEUED, code)
        return
    assert answer["result"] == "rejected"
    assert (issuance.reason, issuance.card.outcome) == (code, Outcome.REJECTED)
    assert _settled(counter, issuance, "rejected") == "rejected"
    assert not issuance.steps.filter(kind=StepKind.PERSONALIZE).exists()


def _wrong_card(wrong: str, serial: bytes, counter: Counter, agent: Agent, issuance: Issuance) -> VirtualCard:
    if wrong == "ours":  # a card of this programme, personalised in a try that is rolled back
        with transaction.atomic():
            card = agent.insert(issuance.card.serial)
            assert agent.make(issuance)["result"] == "printing"
            transaction.set_rollback(True)
        return card
    if wrong == "other-version":
        return blank_card(serial, profile="sssc-2.0-3des")
    return WRONG_CARDS[wrong](serial)  # type: ignore[return-value]
