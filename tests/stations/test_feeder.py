"""A batch card after card from a feeder: each blank once, stopped with a reason, then as from the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from portal.core.errors import ConflictError
from portal.models import AuditEntry
from production.choices import BatchStatus
from production.line.made import LineOutcome
from production.models import Batch, Card
from production.selectors.batches import line_report
from production.services import cards
from production.services.closing import close_batch, ledger_counts, totals
from quality.jobs import advance_all as conclude
from quality.services.inspection import inspect_batch
from stations.agent.feeding import feed_batch
from stations.agent.issuing import make_card
from stations.agent.journal import Journal
from stations.choices import FeederStatus, IssuanceStatus
from stations.models import FeederRun, Issuance
from stations.printing.printer import JobState, JobStatus, PrinterStatus
from stations.printing.virtual import VirtualPrinter
from stations.services.feeding import stop_feeder
from stations.services.issuance import StationBusyError, ask_to_resolve
from stations.services.sweeping import sweep_issuances
from stations.virtual.card import blank_card
from tests.production.world import run_queued, work_off
from tests.stations.plant import (
    PRINTER,
    READERS,
    Hopper,
    Killed,
    MuteCard,
    Plant,
    blanks,
    hopper,
    outcomes,
    report,
)

pytestmark = pytest.mark.django_db
GOOD, MADE, BAD, UNKNOWN, WAITS = "good", "made", "rejected", "unknown", "pending"


def inspected(plant: Plant, batch: Batch) -> Batch:
    """Have the pass read back as people of quality do."""
    inspect_batch(batch, actor=plant.world.quality)
    run_queued()
    conclude()
    batch.refresh_from_db()
    return batch


def stands(run: FeederRun) -> tuple[str, str]:
    """Return how a run stands and why."""
    return run.status, run.reason


def test_a_batch_is_made_card_after_card_and_goes_on_like_the_lines(plant: Plant) -> None:
    """R-16, R-18, R-21: made, reported, read back against the record, balanced; no person in between."""
    batch = plant.batch(3, blanks=5)
    run = plant.feed(plant.start(batch), hopper(batch))
    batch.refresh_from_db()
    assert (stands(run), batch.status) == ((FeederStatus.ENDED, ""), BatchStatus.INSPECTING)
    assert outcomes(batch) == [MADE] * 3
    assert [(line.sequence, line.outcome, line.machine) for line in line_report(run.machine_file)] == [
        (place, LineOutcome.MADE, "p-1") for place in (1, 2, 3)
    ]
    assert all(line.readback for line in line_report(run.machine_file))
    assert not Issuance.objects.exclude(exchange_sealed=None).exists(), "nothing is kept beyond the report"
    assert all(issuance.total_milliseconds for issuance in Issuance.objects.all()), "each card has its times"

    batch = inspected(plant, batch)
    assert (outcomes(batch), batch.status) == ([GOOD] * 3, BatchStatus.INSPECTED)
    closed = close_batch(batch, good=3, rejected=0, samples=0, returned=2, actor=plant.world.operator)
    assert closed.status == BatchStatus.CLOSED


def test_each_blank_becomes_its_own_card_whatever_the_order_in_the_hopper(plant: Plant) -> None:
    """R-18: blanks upside down in the hopper, a stranger and a mute one among them: no card is made wrong."""
    batch = plant.batch(3)
    stranger: Any = blank_card(bytes(8))
    feeder = Hopper([MuteCard(), *reversed(blanks(batch)), stranger])  # type: ignore[list-item]
    run = plant.feed(plant.start(batch), feeder)
    assert stands(run) == (FeederStatus.ENDED, "")
    assert Issuance.objects.count() == 3, "the stranger and the mute card have no row"
    assert outcomes(inspected(plant, batch)) == [GOOD] * 3


def test_a_spoiled_and_an_unknown_card_do_not_stop_the_batch_and_are_made_again(plant: Plant) -> None:
    """R-11, R-20, D8: one outcome a card; the remake takes new blanks; the ledger balances."""
    batch = plant.batch(4, blanks=6)
    run = plant.feed(plant.start(batch), hopper(batch, {1: "status@2=6F00", 2: "pulled@120"}))
    assert (stands(run), outcomes(batch)) == ((FeederStatus.ENDED, ""), [MADE, BAD, UNKNOWN, MADE])
    batch = work_off(inspected(plant, batch))
    assert (outcomes(batch), batch.status) == ([GOOD, BAD, WAITS, UNKNOWN, GOOD], BatchStatus.PREPARED)
    plant.feed(plant.start(batch), hopper(batch))
    batch = inspected(plant, batch)
    assert (outcomes(batch), batch.status) == ([GOOD, BAD, GOOD, UNKNOWN, GOOD], BatchStatus.INSPECTING)
    assert Card.objects.values("serial").distinct().count() == 5
    counts = totals(ledger_counts(batch))
    assert (counts.good, counts.rejected, counts.returned) == (3, 1, 1)


class TestStops:
    """Every stop has its reason; what is left goes on from there."""

    def test_at_an_empty_hopper(self, plant: Plant) -> None:
        """Issue 4: the hopper holds fewer blanks than the batch wants."""
        batch = plant.batch(3)
        feeder = hopper(batch)
        run = plant.feed(plant.start(batch), Hopper(feeder.cards[:1]))
        assert (stands(run), outcomes(batch)) == (
            (FeederStatus.STOPPED, "hopper_empty"),
            [MADE, WAITS, WAITS],
        )
        run = plant.again(run, Hopper(feeder.cards[1:]))
        assert (stands(run), outcomes(batch)) == ((FeederStatus.ENDED, ""), [MADE] * 3)

    def test_at_too_many_rejects_in_a_row(self, plant: Plant, settings: Any) -> None:
        """Issue 4: a fault of reader or blanks must not eat the hopper; counted anew when people go on."""
        settings.FEEDER_MOST_REJECTS = 2
        batch = plant.batch(5)
        feeder = hopper(batch, dict.fromkeys((1, 2, 3), "status@2=6F00"))
        run = plant.feed(plant.start(batch), feeder)
        assert stands(run) == (FeederStatus.STOPPED, "too_many_rejects")
        assert outcomes(batch) == [MADE, BAD, BAD, WAITS, WAITS]
        run = plant.again(run, Hopper(feeder.cards[3:]))
        assert (stands(run), outcomes(batch)) == ((FeederStatus.ENDED, ""), [MADE, BAD, BAD, BAD, MADE])

    def test_when_the_reader_is_gone(self, plant: Plant) -> None:
        """Issue 4: unplugged between two cards, none of them is lost."""
        batch = plant.batch(2)
        feeder = hopper(batch)
        run = plant.feed(plant.start(batch), Hopper(feeder.cards, gone_at=1))
        assert (stands(run), outcomes(batch)) == ((FeederStatus.STOPPED, "reader_gone"), [MADE, WAITS])
        run = plant.again(run, Hopper(feeder.cards[1:]))
        assert outcomes(batch) == [MADE, MADE]

    def test_at_the_supervisors_word_after_the_card_in_the_reader(self, plant: Plant) -> None:
        """Issue 4: whoever looks after quality may stop it; the card that is being written is finished."""
        batch = plant.batch(3)
        run = plant.start(batch)
        feeder = hopper(batch)
        feeder.on_command = (1, 100, lambda: stop_feeder(run, actor=plant.world.quality))
        run = plant.feed(run, feeder)
        assert (stands(run), outcomes(batch)) == ((FeederStatus.STOPPED, "stopped"), [MADE, WAITS, WAITS])
        assert (
            AuditEntry.objects.filter(action="feederrun.stopped", actor_id=plant.world.quality.pk).count()
            == 1
        )

    def test_while_it_waits_for_a_card(self, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
        """Issue 4: an agent that waits asks now and then, and hears of the stop."""
        monkeypatch.setattr("stations.agent.feeding.ASK_SECONDS", 0.0)
        batch = plant.batch(2)
        run = plant.start(batch)
        feeder = Hopper(blanks(batch)[:1])
        feeder.on_release = lambda: stop_feeder(run, actor=plant.world.planner)
        run = plant.feed(run, feeder)
        assert (stands(run), outcomes(batch)) == ((FeederStatus.STOPPED, "stopped"), [MADE, WAITS])

    def test_at_nothing_but_strangers(self, plant: Plant) -> None:
        """A hopper of another batch's blanks: none of them is touched."""
        batch = plant.batch(2)
        strangers = [blank_card(bytes(7) + bytes((number,))) for number in range(5)]
        run = plant.feed(plant.start(batch), Hopper(strangers))  # type: ignore[arg-type]
        assert (stands(run), outcomes(batch)) == ((FeederStatus.STOPPED, "stray_cards"), [WAITS, WAITS])
        assert not Issuance.objects.exists()

    def test_when_the_agent_is_told_to_end(self, plant: Plant) -> None:
        """SIGTERM between two cards: the run says so and waits for people."""
        batch = plant.batch(2)
        run = plant.start(batch)
        bench = plant.bench(hopper(batch))
        bench.stopping.set()
        feed_batch(bench, run.pk)
        run.refresh_from_db()
        assert (stands(run), outcomes(batch)) == ((FeederStatus.STOPPED, "agent_stopped"), [WAITS, WAITS])


@pytest.mark.parametrize(("command", "outcome"), [(3, BAD), (120, UNKNOWN), (230, UNKNOWN)])
def test_an_agent_that_was_killed_goes_on_without_making_a_card_twice(
    plant: Plant, tmp_path: Path, command: int, outcome: str
) -> None:
    """D8: kill -9 before, while and after the second of four cards is written; exactly once per blank."""
    batch = plant.batch(4)
    run, journal = plant.start(batch), Journal(tmp_path / "journal")
    feeder = hopper(batch)
    dying = Hopper(feeder.cards, kill_at=(2, command))
    with pytest.raises(Killed):
        feed_batch(plant.bench(dying, journal=journal), run.pk)
    bench = plant.bench(Hopper(feeder.cards[1:]), journal=journal)  # the half-made card lies in the reader
    found = bench.client.current_run()
    assert found == run.pk
    feed_batch(bench, run.pk)
    run.refresh_from_db()
    assert (stands(run), outcomes(batch)) == ((FeederStatus.ENDED, ""), [MADE, outcome, MADE, MADE])
    assert Issuance.objects.count() == 4, "one try a blank"
    assert bench.client.current_run() is None


@pytest.mark.parametrize("part", ["next", "begin", "steps/1", "steps/2"])
def test_a_lost_answer_is_asked_for_again_and_no_blank_is_given_out_twice(plant: Plant, part: str) -> None:
    """Issue 4: the network loses the portal's answer to any message."""
    batch = plant.batch(1)
    run = plant.start(batch)
    bench = plant.bench(hopper(batch))
    plant.direct.lost = [part] * (2 if part == "next" else 1)
    feed_batch(bench, run.pk)
    run.refresh_from_db()
    assert (stands(run), Issuance.objects.count()) == ((FeederStatus.ENDED, ""), 1)
    assert outcomes(batch) == [MADE] or part == "steps/2"


class Printer(VirtualPrinter):
    """A printer whose jobs end as they are told to."""

    def __init__(self, *ends: JobState) -> None:
        super().__init__()
        self.ends = list(ends)
        self.state = "idle"

    def status(self) -> PrinterStatus:
        """Say how it is."""
        return PrinterStatus("P", self.state)

    def job(self, number: int) -> JobStatus:
        """End the job."""
        return JobStatus(self.ends.pop(0))


class TestPrinting:
    """A station with a printer prints as a counter does; nobody looks, the inspection samples."""

    @pytest.fixture(autouse=True)
    def printer(self, plant: Plant) -> None:
        report(plant.station, READERS | {"printer": PRINTER})

    def test_faces_are_printed_and_the_cards_wait_for_their_inspection(self, plant: Plant) -> None:
        batch = plant.batch(2)
        run = plant.start(batch)
        assert run.prints
        run = plant.feed(run, hopper(batch), Printer(JobState.COMPLETED, JobState.COMPLETED))
        assert (stands(run), outcomes(batch)) == ((FeederStatus.ENDED, ""), [MADE, MADE])
        printed = Issuance.objects.values_list("status", "print_state")
        assert list(printed) == [(IssuanceStatus.MADE, "completed")] * 2

    @pytest.mark.parametrize(("end", "outcome"), [(JobState.ABORTED, BAD), (JobState.LOST, UNKNOWN)])
    def test_a_print_that_is_not_completed_stops_the_run(
        self, plant: Plant, end: JobState, outcome: str
    ) -> None:
        """D8: an aborted face is spoiled, a lost one unknown until two people have seen the card."""
        batch = plant.batch(2)
        run = plant.feed(plant.start(batch), hopper(batch), Printer(end))
        assert (stands(run), outcomes(batch)) == ((FeederStatus.STOPPED, "print_trouble"), [outcome, WAITS])

    def test_a_printer_that_is_away_costs_no_card(self, plant: Plant) -> None:
        batch = plant.batch(2)
        away = Printer()
        away.state = "unreachable"
        run = plant.feed(plant.start(batch), hopper(batch), away)
        assert (stands(run), outcomes(batch)) == ((FeederStatus.STOPPED, "no_printer"), [WAITS, WAITS])

    def test_premade_cards_have_no_face_to_print(self, plant: Plant) -> None:
        """R-4: what a pre-made card lacks is the face; the printer is not asked."""
        batch = plant.batch(1, card_kind="premade")
        run = plant.feed(plant.start(batch), hopper(batch))
        assert (run.prints, stands(run), outcomes(batch)) == (False, (FeederStatus.ENDED, ""), [MADE])


class TestUnknown:
    """An unknown card is read at the station that made it, or decided by two people (D8)."""

    @pytest.fixture
    def unknown(self, plant: Plant) -> Issuance:
        batch = plant.batch(2)
        last = _commands(plant, batch)
        self.feeder = hopper(batch, {0: f"pulled-after@{last}"})
        plant.feed(plant.start(batch), self.feeder)
        assert outcomes(batch) == [UNKNOWN, MADE]
        inspected(plant, batch)
        return Issuance.objects.get(status=IssuanceStatus.UNKNOWN)

    def test_reading_it_again_decides(self, plant: Plant, unknown: Issuance) -> None:
        issuance = ask_to_resolve(unknown, actor=plant.world.operator)
        make_card(plant.bench(Hopper(self.feeder.cards[:1])), issuance.pk, prints=False)
        issuance.refresh_from_db()
        assert (issuance.status, issuance.card.outcome) == (IssuanceStatus.MADE, GOOD)
        assert issuance.exchange_sealed is None
        batch = Batch.objects.get(pk=issuance.batch_id)
        assert (outcomes(batch), batch.status) == ([GOOD, GOOD], BatchStatus.INSPECTED)

    def test_the_virtual_line_does_not_pretend_to_read_it(self, plant: Plant, unknown: Issuance) -> None:
        audited = AuditEntry.objects.count()
        with pytest.raises(cards.UnknownCardError, match="制卡点"):
            cards.read_unknown(unknown.card, actor=plant.world.operator)
        unknown.card.refresh_from_db()
        assert (unknown.card.outcome, AuditEntry.objects.count()) == (UNKNOWN, audited)

    def test_two_people_decide(self, plant: Plant, unknown: Issuance) -> None:
        world = plant.world
        decision = cards.request_unknown_decision(
            unknown.card, outcome="good", evidence="读卡", actor=world.operator
        )
        cards.decide_unknown(decision, approve=True, actor=world.quality)
        sweep_issuances()
        unknown.refresh_from_db()
        assert (unknown.status, unknown.reason) == (IssuanceStatus.MADE, "decided")
        assert Batch.objects.get(pk=unknown.batch_id).status == BatchStatus.INSPECTED

    def test_not_while_the_feeder_runs(self, plant: Plant, unknown: Issuance) -> None:
        plant.start(plant.batch(1))
        audited = AuditEntry.objects.count()
        with pytest.raises(StationBusyError):
            ask_to_resolve(unknown, actor=plant.world.operator)
        unknown.refresh_from_db()
        assert (unknown.status, AuditEntry.objects.count()) == (IssuanceStatus.UNKNOWN, audited)


def _commands(plant: Plant, batch: Batch) -> int:
    """Count what one card is sent, on another batch."""
    other = plant.batch(1)
    feeder = hopper(other)
    plant.feed(plant.start(other), feeder)
    assert batch.pk != other.pk
    return int(feeder.taken[0].faults.count)  # type: ignore[attr-defined]


def test_a_report_of_the_same_card_is_taken_once(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """D8: whoever comes second finds the outcome and changes nothing."""
    from production.services.counter import CounterReport
    from production.services.station_runs import report_station_card

    batch = plant.batch(1)
    run = plant.feed(plant.start(batch), hopper(batch))
    now = run.started_at
    audited = AuditEntry.objects.count()
    with pytest.raises(ConflictError):
        report_station_card(
            Card.objects.get(), CounterReport(LineOutcome.BAD, "", "p-1", "", now, now),
            actor=plant.world.operator,
        )  # fmt: skip
    assert (outcomes(batch), AuditEntry.objects.count()) == ([MADE], audited)
