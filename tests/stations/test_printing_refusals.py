"""Which refusals prove that nothing was printed: those before a document was begun, no others (D8).

ippeveprinter cannot be made to fail in the middle of a document, so a printer of a few lines stands in here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from stations.agent.testcard import pictures
from stations.printing.codec import Attributes, Message, Tag, one, parse
from stations.printing.following import PrintNote, print_face
from stations.printing.ipp import CREATE_JOB, GET_JOB, GET_PRINTER, PRINT_JOB, SEND_DOCUMENT, IppPrinter
from stations.printing.printer import JobState

ABORTED = 8
ABOUT: Attributes = {
    "printer-state": one(Tag.ENUM, 3),
    "document-format-supported": one(Tag.MIME, "image/pwg-raster"),
    "sides-supported": one(Tag.KEYWORD, "one-sided", "two-sided-long-edge"),
}


class Failing(BaseHTTPRequestHandler):
    """A printer that answers the document as told: an HTTP status and an IPP status."""

    http, ipp, single = 200, 0, False
    operations: list[int] = []

    def do_POST(self) -> None:
        asked = parse(self.rfile.read(int(self.headers["Content-Length"])))
        self.operations.append(asked.code)
        carries = asked.code in (PRINT_JOB, SEND_DOCUMENT)
        assert bool(asked.document) is carries
        status = self.ipp if carries else 0
        content = Message(status, asked.request_id, self._groups(asked.code)).to_bytes()
        self.send_response(self.http if carries else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _groups(self, operation: int) -> list[tuple[int, Attributes]]:
        if operation == GET_PRINTER:
            able = [PRINT_JOB] if self.single else [PRINT_JOB, CREATE_JOB, SEND_DOCUMENT]
            return [(Tag.PRINTER, {**ABOUT, "operations-supported": one(Tag.ENUM, *able)})]
        job = {"job-id": one(Tag.INTEGER, 5), "job-state": one(Tag.ENUM, ABORTED)}
        return [(Tag.JOB, job)]

    def log_message(self, *_given: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def uri() -> Iterator[str]:
    Failing.http, Failing.ipp, Failing.single, Failing.operations = 200, 0, False, []
    server = HTTPServer(("127.0.0.1", 0), Failing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"ipp://127.0.0.1:{server.server_port}/ipp/print"
    server.shutdown()
    thread.join()
    server.server_close()


def run(uri: str) -> PrintNote:
    return print_face(IppPrinter(uri), pictures(["front", "back"]), "card-1", lambda _note: None)


@pytest.mark.parametrize("code", [0x0400, 0x040A, 0x040B, 0x0501, 0x0505, 0x0506, 0x0507])
@pytest.mark.parametrize("single", [False, True])
def test_a_document_that_was_not_taken_left_no_mark(uri: str, code: int, single: bool) -> None:
    """Bad request, format, attributes, not supported, temporary error, not accepting, busy."""
    Failing.ipp, Failing.single = code, single
    note = run(uri)
    assert (note.state, f"{code:04X}" in note.text) == (JobState.NOT_SUBMITTED, True)
    assert GET_JOB not in Failing.operations


@pytest.mark.parametrize(("http", "code"), [(200, 0x0500), (200, 0x0504), (200, 0x0508), (500, 0), (503, 0)])
def test_a_failure_in_the_middle_is_no_proof_the_job_itself_is_asked(uri: str, http: int, code: int) -> None:
    """Internal error, device error, cancelled; a server that fails behind the document."""
    Failing.http, Failing.ipp = http, code
    assert run(uri).state == JobState.ABORTED
    assert Failing.operations[-1] == GET_JOB


@pytest.mark.parametrize(("http", "code"), [(200, 0x0500), (200, 0x0504), (200, 0x0508), (500, 0), (503, 0)])
def test_a_printer_of_single_jobs_leaves_the_card_in_doubt(uri: str, http: int, code: int) -> None:
    """Print-Job gave no number that could be asked for: nobody knows."""
    Failing.http, Failing.ipp, Failing.single = http, code, True
    assert run(uri).state == JobState.LOST


@pytest.mark.parametrize("http", [400, 403, 404, 413])
def test_a_connection_that_is_refused_brought_nothing(uri: str, http: int) -> None:
    Failing.http = http
    assert run(uri).state == JobState.NOT_SUBMITTED
