"""Where the time of a card went, as the agent says it; and messages that are not of their form (R-24)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest
from django.utils import timezone

from stations.choices import IssuanceStatus
from stations.models import Issuance
from stations.selectors import parts_of
from stations.services.journal import COLUMNS, journal
from stations.transport.virtual import VirtualTransport
from tests.refusals import everything
from tests.stations.counter import Agent, Counter, make_counter

pytestmark = pytest.mark.django_db
TIMES = {
    "total_us": 6_471_900, "reader_us": 6_163_000, "waited_us": 259_000, "portal_us": 238_000,
    "round_trips": 4,
}  # fmt: skip


@pytest.fixture
def counter() -> Counter:
    return make_counter()


@pytest.fixture
def begun(counter: Counter) -> tuple[Issuance, Agent, list[Any]]:
    """Return an issuance whose first script was asked for, and that script."""
    issuance, agent = counter.start(), counter.agent()
    transport = VirtualTransport(agent.insert(issuance.card.serial))
    answer = agent.post(issuance, "begin", {"reader": "v", "atr": transport.connect().hex()}).json()
    return issuance, agent, answer["commands"]


def good(commands: list[Any]) -> list[dict[str, Any]]:
    return [{"answer": "", "sw": "9000", "reader_us": 1} for _ in commands]


@pytest.mark.parametrize(
    "wrong",
    [
        None, "x", {}, [], 7,
        {"answer": "0", "sw": "9000", "reader_us": 1},
        {"answer": "zz", "sw": "9000", "reader_us": 1},
        {"answer": "00" * 261, "sw": "9000", "reader_us": 1},
        {"answer": None, "sw": "9000", "reader_us": 1},
        {"answer": "", "sw": "900", "reader_us": 1},
        {"answer": "", "sw": "9000\n", "reader_us": 1},
        {"answer": "", "sw": "９０００", "reader_us": 1},
        {"answer": "", "sw": 36864, "reader_us": 1},
        {"answer": "", "sw": "9000"},
        {"answer": "", "sw": "9000", "reader_us": -1},
        {"answer": "", "sw": "9000", "reader_us": True},
        {"answer": "", "sw": "9000", "reader_us": 1.5},
        {"answer": "", "sw": "9000", "reader_us": 10**12},
    ],
)  # fmt: skip
def test_a_response_that_is_none_is_refused_by_its_place(
    begun: tuple[Issuance, Agent, list[Any]], wrong: Any
) -> None:
    issuance, agent, commands = begun
    responses = [*good(commands)[:-1], wrong]
    before = everything()
    answer = agent.post(issuance, "steps/1", {"responses": responses})
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert f"第 {len(commands)} 项" in answer.content.decode()
    assert everything() == before


@pytest.mark.parametrize(
    "body",
    [
        {}, {"responses": "x"}, {"responses": {}}, {"responses": [{}] * 2001},
        {"responses": [], "times": {**TIMES, "total_us": -1}},
        {"responses": [], "times": {"total_us": 1}},
        {"responses": [], "times": "x"},
    ],
)  # fmt: skip
def test_a_message_that_is_not_of_its_form_changes_nothing(
    begun: tuple[Issuance, Agent, list[Any]], body: dict[str, Any]
) -> None:
    issuance, agent, _ = begun
    before = everything()
    assert agent.post(issuance, "steps/1", body).status_code == HTTPStatus.BAD_REQUEST
    assert everything() == before


def test_the_agents_times_are_kept_and_shown_against_the_tenders_limits(counter: Counter) -> None:
    """R-24: writing 50 s, reading 30 s; reader, portal and agent add up to the whole."""
    issuance, agent = counter.start(), counter.agent()
    agent.insert(issuance.card.serial)
    agent.make(issuance)
    agent.post(issuance, "print", {"state": "submitted", "job_id": 7, "reasons": [], "times": TIMES})
    agent.print(issuance, "completed")  # later messages tell nothing of the writing
    issuance.refresh_from_db()
    figures = [(part.milliseconds, part.limit) for part in parts_of(issuance)]
    written, read = issuance.write_milliseconds, issuance.read_milliseconds
    assert figures == [
        (6163, None), (written, 50_000), (read, 30_000), (259, None), (238, None), (49, None), (6471, None),
    ]  # fmt: skip
    assert [part.note for part in parts_of(issuance)][3:6] == ["4 次往返", "", "相当于卡片与读写器的 1%"]
    (line,) = journal(counter.station, timezone.localdate(issuance.requested_at), actor=counter.supervisor)
    shown = {column.label: value for column, value in zip(COLUMNS, line, strict=True)}
    assert (shown["写卡用时（秒）"], shown["卡片与读写器（秒）"], shown["等待平台（秒）"]) == (
        "6.5",
        "6.2",
        "0.3",
    )


def test_an_agent_that_keeps_no_times_is_timed_by_the_portal(counter: Counter) -> None:
    issuance, agent = counter.start(), counter.agent()
    agent.insert(issuance.card.serial)
    agent.make(issuance)
    issuance.refresh_from_db()
    assert issuance.status == IssuanceStatus.PRINTING
    assert (issuance.total_milliseconds or 0) >= (issuance.reader_milliseconds or 0) > 0
    assert (issuance.waited_milliseconds, issuance.agent_milliseconds) == (None, None)


def test_the_portal_says_how_long_its_answer_took(begun: tuple[Issuance, Agent, list[Any]]) -> None:
    issuance, agent, commands = begun
    answer = agent.post(issuance, "steps/1", {"responses": good(commands)})
    assert answer["Server-Timing"].startswith("portal;dur=")
    assert float(answer["Server-Timing"].removeprefix("portal;dur=")) > 0
