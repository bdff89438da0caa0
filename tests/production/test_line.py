"""The virtual line: the same dice for the same batch and serial, and reports whole or refused (R-16)."""

from __future__ import annotations

import datetime as dt
import io
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from production.line.made import LINE_FAULTS, LOST_TRACK, LineOutcome, MadeCard
from production.line.report import ReportError, read_report, write_report
from production.line.virtual import SECONDS_PER_CARD, LineRates, LineRatesError, VirtualLine
from production.personalization.blank import (
    BlankSerialError,
    answer_to_reset,
    check_prefix,
    chip_serial,
    serial_text,
)
from production.personalization.chip import ChipContent
from production.personalization.keys import card_factor
from production.personalization.machinefile import MachineCard
from production.personalization.stripe import Stripe

START = dt.datetime(2026, 11, 23, 1, 0, tzinfo=dt.UTC)
STRIPE = Stripe(b"1", b"2", b"3")


def chip(number: int) -> bytes:
    record = b"\x08\x12" + f"44060019900101{number:04d}".encode()
    return ChipContent("test", {"SSSE/EF06": record}).to_bytes()


def cards(count: int) -> list[MachineCard]:
    return [
        MachineCard(place, serial_text("A", place), chip(place), b"", STRIPE, b"")
        for place in range(1, count + 1)
    ]


def make(rates: LineRates, count: int, *, seed: str = "B-1", first: int = 0) -> list[MadeCard]:
    line = VirtualLine(seed, rates, machine="LINE-1", operator="甲一")
    return list(line.make(cards(count)[first:], starts_at=START))


class TestDice:
    def test_without_faults_every_card_is_made_and_read_back_as_written(self) -> None:
        made = make(LineRates(0, 0, 0), 20)
        assert [card.outcome for card in made] == [LineOutcome.MADE] * 20
        assert [card.readback for card in made] == [card.chip for card in cards(20)]
        assert {(card.machine, card.operator, card.reason) for card in made} == {("LINE-1", "甲一", "")}

    def test_times_follow_one_another(self) -> None:
        made = make(LineRates(0, 0, 0), 3)
        assert [card.started_at for card in made] == [
            START + dt.timedelta(seconds=SECONDS_PER_CARD) * place for place in range(3)
        ]
        assert all(
            card.finished_at - card.started_at == dt.timedelta(seconds=SECONDS_PER_CARD) for card in made
        )

    def test_outcomes_do_not_depend_on_how_the_batch_is_cut(self) -> None:
        """A run started again after a kill reports the same, whatever came before in its chunk."""
        rates = LineRates(0, 0.3, 0.3)
        whole = make(rates, 60)
        assert [replace(card, started_at=START, finished_at=START) for card in make(rates, 60, first=25)] == [
            replace(card, started_at=START, finished_at=START) for card in whole[25:]
        ]

    def test_another_batch_throws_other_dice(self) -> None:
        rates = LineRates(0, 0.5, 0)
        first, second = ([card.outcome for card in make(rates, 40, seed=seed)] for seed in ("B-1", "B-2"))
        assert first != second

    def test_rates_are_met(self) -> None:
        """Of 4,000 cards about the set shares; the dice are fixed, so the figures are too."""
        made = make(LineRates(0.1, 0.2, 0.1), 4000)
        found = Counter(card.outcome for card in made)
        wrong = sum(
            card.outcome == LineOutcome.MADE and card.readback != given.chip
            for card, given in zip(made, cards(4000), strict=True)
        )
        assert 700 < found[LineOutcome.BAD] < 900
        assert 330 < found[LineOutcome.UNKNOWN] < 470
        assert 330 < wrong < 470

    def test_wrong_cards_look_made(self) -> None:
        """R-18: only reading the chip back shows a wrong card; the line itself does not know."""
        made = make(LineRates(1, 0, 0), 50)
        assert {card.outcome for card in made} == {LineOutcome.MADE}
        differing = [card.readback != given.chip for card, given in zip(made, cards(50), strict=True)]
        assert all(differing)
        neighbours = {card.chip for card in cards(50)}
        assert {card.readback in neighbours for card in made} == {True, False}

    def test_bad_cards_have_a_reason_and_no_readback(self) -> None:
        """R-20: every bad card says what the line saw."""
        made = make(LineRates(0, 1, 0), 50)
        assert {card.outcome for card in made} == {LineOutcome.BAD}
        assert {card.reason for card in made} == set(LINE_FAULTS)
        assert {card.readback for card in made} == {b""}

    def test_lost_cards_are_unknown(self) -> None:
        made = make(LineRates(0, 0, 1), 5)
        assert {(card.outcome, card.reason, card.readback) for card in made} == {
            (LineOutcome.UNKNOWN, LOST_TRACK, b"")
        }

    def test_reading_a_lost_card_again_gives_the_same_answer_each_time(self) -> None:
        line = VirtualLine("B-1", LineRates(0, 0, 1), machine="LINE-1", operator="")
        first = [line.read_again(card) for card in cards(100)]
        assert first == [line.read_again(card) for card in cards(100)]
        assert 60 < sum(bool(answer) for answer in first) < 90
        assert all(not answer or answer == card.chip for answer, card in zip(first, cards(100), strict=True))

    @pytest.mark.parametrize("rates", [(-0.1, 0, 0), (0.5, 0.4, 0.2), (0, 0, 1.01)])
    def test_rates_that_are_no_probabilities_are_refused(self, rates: tuple[float, float, float]) -> None:
        with pytest.raises(LineRatesError):
            LineRates(*rates)


class TestReport:
    def test_round_trip(self) -> None:
        made = make(LineRates(0.2, 0.2, 0.2), 30)
        target = io.BytesIO()
        assert write_report(target, "B-1/1/1", made) == 30
        target.seek(0)
        assert list(read_report(target, "B-1/1/1")) == made

    def test_a_report_on_another_run_is_refused(self) -> None:
        target = io.BytesIO()
        write_report(target, "B-1/1/1", make(LineRates(0, 0, 0), 1))
        target.seek(0)
        with pytest.raises(ReportError):
            list(read_report(target, "B-1/1/2"))

    @given(st.data())
    def test_a_cut_report_is_refused(self, data: st.DataObject) -> None:
        target = io.BytesIO()
        write_report(target, "B-1/1/1", make(LineRates(0, 0, 0), 3))
        # The last character is the end of the last line, which says nothing.
        cut = data.draw(st.integers(0, len(target.getvalue()) - 2))
        with pytest.raises(ReportError):
            list(read_report(io.BytesIO(target.getvalue()[:cut]), "B-1/1/1"))

    @given(st.binary(max_size=400))
    def test_hostile_bytes_are_refused(self, raw: bytes) -> None:
        with pytest.raises(ReportError):
            list(read_report(io.BytesIO(raw), "B-1/1/1"))

    def test_a_line_left_out_is_refused(self) -> None:
        target = io.BytesIO()
        write_report(target, "B-1/1/1", make(LineRates(0, 0, 0), 3))
        lines = target.getvalue().splitlines(keepends=True)
        with pytest.raises(ReportError) as refused:
            list(read_report(io.BytesIO(b"".join(lines[:2] + lines[3:])), "B-1/1/1"))
        assert (refused.value.expected, refused.value.got) == ("3", "2")

    def test_repr_shows_no_readback(self) -> None:
        """R-45: a card's content reaches no log."""
        made = make(LineRates(0, 0, 0), 1)[0]
        assert "readback" not in repr(made)


class TestBlanks:
    def test_serial_reset_and_factor(self) -> None:
        """R-25: the end of the answer to reset is the chip serial, the factor of the card's keys."""
        serial = serial_text("FS26A", 7)
        assert serial == "FS26A0000000007"
        assert chip_serial(serial).hex() == "0194690200000007"
        assert answer_to_reset(serial).hex() == "3b6d000081535343200194690200000007"
        assert card_factor(answer_to_reset(serial)) == chip_serial(serial)

    @given(
        st.sets(
            st.tuples(st.from_regex(r"\A[A-Z][0-9A-Z]{0,5}\Z"), st.integers(0, 2**32 - 1)),
            min_size=2,
            max_size=9,
        )
    )
    def test_no_two_blanks_share_a_factor(self, blanks: set[tuple[str, int]]) -> None:
        """R-25: two chips with one factor would carry the same keys."""
        serials = {serial_text(*blank) for blank in blanks}
        assert len(serials) == len(blanks)
        assert len({chip_serial(serial) for serial in serials}) == len(blanks)

    @pytest.mark.parametrize("prefix", ["", "1A", "a", "A-1", "ABCDEFG", "沪A", "A\n"])
    def test_other_prefixes_are_refused(self, prefix: str) -> None:
        with pytest.raises(BlankSerialError):
            check_prefix(prefix)

    @pytest.mark.parametrize("number", [-1, 2**32])
    def test_numbers_beyond_four_bytes_are_refused(self, number: int) -> None:
        with pytest.raises(BlankSerialError):
            serial_text("A", number)

    @pytest.mark.parametrize("serial", ["", "A1", "A99999999990", "a0000000001", "A4294967296"])
    def test_other_serials_are_refused(self, serial: str) -> None:
        with pytest.raises(BlankSerialError):
            chip_serial(serial)
