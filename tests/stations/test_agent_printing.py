"""What the agent does to print: both sides from memory, once, and its word when it could not (D8, R-25)."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches

from stations.agent.bench import Bench, NoReader
from stations.agent.client import PortalClient, PortalUnreachableError
from stations.agent.issuing import print_again as carry_out
from stations.agent.issuing import tell_of_the_past
from stations.agent.journal import NOT_PRINTED, PRINTING, Journal
from stations.choices import IssuanceStatus, PrintState
from stations.models import Issuance
from stations.printing.printer import PrinterRefusedError, PrinterSilentError
from stations.printing.virtual import VirtualPrinter
from stations.services.card_jobs import face_of, front_of
from stations.services.printing import claim_print, may_print_again, print_again
from tests.stations.counter import Counter, make_counter
from tests.stations.counter_desk import made
from tests.stations.plant import direct_client


@dataclass
class Recorder(VirtualPrinter):
    """A virtual printer that keeps what it was given, or refuses it."""

    error: Exception | None = None
    jobs: list[list[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def submit(self, faces: Sequence[bytes], title: str) -> int:
        """Keep the faces."""
        if self.error is not None:
            raise self.error
        self.jobs.append(list(faces))
        return super().submit(faces, title)


@pytest.fixture
def counter(db: None) -> Counter:
    caches["limits"].clear()
    return make_counter(blanks=2)


@pytest.fixture
def asked(counter: Counter) -> Issuance:
    """Return a written card whose second print was just asked for."""
    issuance = made(counter, counter.start(), "not-submitted")
    return print_again(issuance, actor=counter.operator)


def bench_of(counter: Counter, printer: Any, journal: Journal | None = None) -> Bench:
    """Return the agent's own parts over its own client, as far as the portal's door."""
    client, _ = direct_client(counter.station.code, counter.credential)
    return Bench(client, NoReader(), printer, journal or Journal(None), print_seconds=2)


def stands(issuance: Issuance) -> tuple[str, str]:
    issuance.refresh_from_db()
    return issuance.status, issuance.print_state


LOOK = IssuanceStatus.AWAITING_LOOK


def test_both_sides_are_printed_as_one_job_without_a_reader(counter: Counter, asked: Issuance) -> None:
    printer = Recorder()
    carry_out(bench_of(counter, printer), asked.pk)
    assert stands(asked) == (LOOK, PrintState.COMPLETED)
    assert printer.jobs == [[front_of(asked), face_of(asked)]]


def test_a_job_that_is_delivered_twice_prints_once(counter: Counter, asked: Issuance) -> None:
    printer = Recorder()
    for _ in range(2):
        carry_out(bench_of(counter, printer), asked.pk)
    assert (stands(asked), len(printer.jobs)) == ((LOOK, PrintState.COMPLETED), 1)


@pytest.mark.parametrize("path", ["print-order", "faces", "/print"])
def test_an_answer_that_is_lost_is_asked_for_again_and_prints_once(
    counter: Counter, asked: Issuance, path: str
) -> None:
    printer = Recorder()
    bench = bench_of(counter, printer)
    bench.client, direct = direct_client(counter.station.code, counter.credential)
    direct.lost.append(path)
    carry_out(bench, asked.pk)
    assert (stands(asked), len(printer.jobs), direct.lost) == ((LOOK, PrintState.COMPLETED), 1, [])


def test_a_print_that_another_worker_has_is_left_to_it(
    counter: Counter, asked: Issuance, tmp_path: Path
) -> None:
    claim_print(asked, b"another worker's" * 2)
    printer, journal = Recorder(), Journal(tmp_path / "journal")
    carry_out(bench_of(counter, printer, journal), asked.pk)
    assert (stands(asked), printer.jobs, journal.read()) == ((IssuanceStatus.PRINTING, ""), [], None)
    journal.close()


@pytest.mark.parametrize(
    ("printer", "state", "again"),
    [
        (None, PrintState.NOT_SUBMITTED, True),
        (Recorder(error=PrinterRefusedError("打印机拒绝了任务")), PrintState.NOT_SUBMITTED, True),
        (Recorder(error=PrinterSilentError("打印机没有应答")), PrintState.LOST, False),
    ],
)
def test_only_what_was_certainly_not_submitted_may_be_tried_a_third_time(
    counter: Counter, asked: Issuance, printer: Any, state: PrintState, again: bool
) -> None:
    carry_out(bench_of(counter, printer), asked.pk)
    assert (stands(asked), may_print_again(asked)) == ((LOOK, state), again)


@pytest.mark.parametrize(
    ("step", "state"), [(NOT_PRINTED, PrintState.NOT_SUBMITTED), (PRINTING, PrintState.LOST)]
)
def test_an_agent_that_was_killed_says_how_far_the_print_had_come(
    counter: Counter, asked: Issuance, tmp_path: Path, step: int, state: PrintState
) -> None:
    claim_print(asked, b"the killed worker's claim")
    journal = Journal(tmp_path / "journal")
    journal.write(asked.pk, step)
    printer = Recorder()
    tell_of_the_past(bench_of(counter, printer, journal))
    assert (stands(asked), printer.jobs, journal.read()) == ((LOOK, state), [], None)
    journal.close()


class Garbled(BaseHTTPRequestHandler):
    """Something that is not the portal, or one that went wrong."""

    answer: Any = None

    def do_GET(self) -> None:
        content = json.dumps(self.answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_given: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def garbled() -> Iterator[PortalClient]:
    server = HTTPServer(("127.0.0.1", 0), Garbled)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    client = PortalClient(f"http://127.0.0.1:{server.server_port}", "c-1", "secret", patience=0)
    yield client
    client.close()
    server.shutdown()
    thread.join()
    server.server_close()


FACE = {"side": "back", "jpeg": b64encode(b"\xff\xd8").decode()}


@pytest.mark.parametrize(
    "answer",
    [
        {}, [], 7, None, {"faces": 7}, {"faces": []}, {"faces": [7]}, {"faces": [{"side": "back"}]},
        {"faces": [{"side": "back", "jpeg": "*" * 8}]}, {"faces": [{"side": "back", "jpeg": None}]},
        {"faces": [FACE | {"side": "front"}]},
    ],
)  # fmt: skip
def test_other_answers_are_no_faces(garbled: PortalClient, answer: Any) -> None:
    """Nothing that the agent does not understand is printed."""
    Garbled.answer = answer
    with pytest.raises(PortalUnreachableError):
        garbled.faces(1, ("back",))


def test_the_sides_that_were_ordered_come_in_their_order(garbled: PortalClient) -> None:
    Garbled.answer = {"faces": [FACE, {"side": "front", "jpeg": b64encode(b"front").decode()}]}
    assert garbled.faces(1, ("front", "back")) == [b"front", b"\xff\xd8"]
