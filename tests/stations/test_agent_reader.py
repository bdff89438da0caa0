"""The reader's process: a driver that hangs or crashes is survived; the journal (D7, D8)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from stations.agent import reader as reader_module
from stations.agent.journal import Entry, Journal
from stations.agent.reader import CardReader, ReaderCrashedError, ReaderHungError
from stations.agent.reader_process import ReaderPlan, _run, may_have_been_sent
from stations.transport.base import (
    CardPulledError,
    CardResetError,
    NoCardError,
    ReaderServiceError,
    Response,
)
from tests.stations.hanging import crash, hang

SCRIPT = [(bytes.fromhex("0084000008"), frozenset({0x9000}))] * 3


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "SLACK_SECONDS", 0.0)
    monkeypatch.setattr(reader_module, "ORDER_SECONDS", 0.5)


def test_a_driver_that_hangs_is_killed_and_started_again() -> None:
    reader = CardReader(ReaderPlan(), hang)
    for _ in range(2):
        with pytest.raises(ReaderHungError):
            reader.connect()
    reader.close()


@pytest.mark.parametrize("limits", [(0.5, 60.0), (60.0, 0.5)])
def test_a_script_that_hangs_tells_which_command_may_have_been_sent(limits: tuple[float, float]) -> None:
    """Per command and in all: the answers so far are kept, the next command counts as sent."""
    reader, seen = CardReader(ReaderPlan(), hang), []
    result = reader.run(SCRIPT, command_seconds=limits[0], total_seconds=limits[1], progress=seen.append)
    reader.close()
    assert result.fault is not None
    assert (result.fault.code, result.fault.at, result.fault.sent) == ("reader_hung", 1, True)
    assert (len(result.answers), seen) == (1, [0, 1])


def test_a_driver_that_crashes_is_told() -> None:
    reader = CardReader(ReaderPlan(), crash)
    with pytest.raises(ReaderCrashedError):
        reader.connect()
    assert reader.readers() == []
    assert "意外结束" in reader.trouble
    reader.close()


def test_only_an_empty_reader_and_a_reset_prove_that_nothing_was_sent() -> None:
    kinds = (NoCardError, CardResetError, CardPulledError, ReaderServiceError)
    assert [may_have_been_sent(kind("x")) for kind in kinds] == [False, False, True, True]


class TestJournal:
    def test_what_is_at_work_outlives_the_process(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        journal = Journal(path)
        assert journal.read() is None
        journal.write(7, 2, 120)
        journal.write(7, 2, 5)
        journal.close()
        again = Journal(path)
        assert again.read() == Entry(7, 2, 5)
        again.clear()
        assert again.read() is None
        again.close()

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"1 2", b"-1 2 3", b"a b c", b"1 -2 3"])
    def test_what_is_no_journal_is_nothing(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "journal"
        path.write_bytes(content)
        journal = Journal(path)
        assert journal.read() is None
        journal.close()


class Link:
    """Keeps what a reader's process says."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def send(self, message: tuple[str, Any]) -> None:
        """Take a message."""
        self.said.append(message)


class Pulled:
    """A reader whose card answers at once, or after `pause` seconds, and is pulled at command 6."""

    def __init__(self, pause: float) -> None:
        self.transport = self
        self._left, self._pause = 5, pause

    def transmit(self, _apdu: bytes) -> Response:
        """Answer, or be gone."""
        if not self._left:
            raise CardPulledError("卡片在操作中被取出")
        self._left -= 1
        time.sleep(self._pause)
        return Response(b"", 0x9000, 7)


ANSWER = (b"", 0x9000, 7)


@pytest.mark.parametrize(
    ("pause", "changes_from", "bundles"),
    [(0.0, 99, [5]), (0.0, 2, [2, 3]), (0.0, 0, [5]), (0.006, 99, [1, 1, 1, 1, 1])],
)
def test_answers_come_in_bundles_and_all_of_them_before_the_card_is_changed(
    pause: float, changes_from: int, bundles: list[int]
) -> None:
    """P7, D8: a fast card's answers share a message; none is held back when the first write is sent."""
    link = Link()
    script = [(b"\0", frozenset({0x9000}))] * 8
    _run(link, Pulled(pause), script, changes_from)  # type: ignore[arg-type]
    *answers, fault = link.said
    assert answers == [("answers", [ANSWER] * count) for count in bundles]
    assert fault == ("fault", ("card_pulled", "卡片在操作中被取出", True))
