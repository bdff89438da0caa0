"""The agent's parts: what it needs to start, how it speaks to the portal, what it runs and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from production.personalization.profile import load_profile
from stations.agent.bench import Bench, NoReader
from stations.agent.client import (
    AnswerRefusedError,
    CredentialRefusedError,
    PortalClient,
    PortalUnreachableError,
)
from stations.agent.jobs import issue, print_test, resolve, self_test
from stations.agent.journal import Journal
from stations.agent.options import IncompleteError, read_options
from stations.agent.reader import CardReader
from stations.agent.reader_process import ReaderPlan
from stations.agent.reading import CardContentError, read_card
from stations.management.commands.station_agent import agent_arguments, agent_environment
from stations.printing.virtual import VirtualPrinter
from stations.transport.virtual import VirtualTransport
from stations.virtual.card import blank_card
from stations.virtual.samples import SAMPLE_HOLDER, SERIAL, sample_card

PROFILE = load_profile("sssc-3.0-sm4")
REDIS = {"STATION_REDIS_URL": "redis://:pass-word@queue.example/0"}


class TestOptions:
    @pytest.fixture
    def credential(self, tmp_path: Path) -> Path:
        file = tmp_path / "credential"
        file.write_text("secret-credential\n")
        file.chmod(0o600)
        return file

    def arguments(self, credential: Path, **changes: str) -> list[str]:
        values = {"code": "demo-1", "portal": "https://portal.example", "credential-file": str(credential)}
        return [*(f"--{name}={value}" for name, value in (values | changes).items()), "--virtual"]

    def test_a_complete_set_is_taken_and_keeps_its_secrets(self, credential: Path) -> None:
        options = read_options(self.arguments(credential), REDIS)
        assert (options.code, options.portal, options.credential) == (
            ("demo-1", "https://portal.example", "secret-credential")
        )
        assert "secret" not in repr(options)
        assert "pass-word" not in repr(options)

    def test_the_environment_serves_as_well(self, credential: Path) -> None:
        environment = REDIS | {
            "STATION_CODE": "demo-2",
            "STATION_PORTAL": "https://portal.example",
            "STATION_CREDENTIAL_FILE": str(credential),
        }
        assert read_options(["--virtual"], environment).code == "demo-2"

    def test_everything_that_lacks_is_named_at_once(self) -> None:
        with pytest.raises(IncompleteError) as refused:
            read_options([], {})
        assert [line.partition("：")[0] for line in refused.value.lacking] == [
            "制卡点代码",
            "门户地址",
            "任务队列地址",
            "凭证",
            "打印机",
        ]

    @pytest.mark.parametrize(
        ("portal", "lacking"),
        [
            ("http://portal.example", "门户地址：凭证不能明文传输，须用 https（本机地址除外）"),
            ("ftp://portal.example", "门户地址：应为 https://主机"),
            ("https://", "门户地址：应为 https://主机"),
            ("http://127.0.0.1.evil.example", "门户地址：凭证不能明文传输，须用 https（本机地址除外）"),
        ],
    )
    def test_the_credential_never_travels_in_the_clear(
        self, credential: Path, portal: str, lacking: str
    ) -> None:
        """R-46: plain HTTP only within this machine."""
        with pytest.raises(IncompleteError) as refused:
            read_options(self.arguments(credential, portal=portal), REDIS)
        assert refused.value.lacking == (lacking,)

    @pytest.mark.parametrize("portal", ["http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost"])
    def test_plain_http_stays_within_the_machine(self, credential: Path, portal: str) -> None:
        assert read_options(self.arguments(credential, portal=portal), REDIS).portal == portal

    def test_a_credential_others_can_read_is_none(self, credential: Path) -> None:
        credential.chmod(0o640)
        with pytest.raises(IncompleteError) as refused:
            read_options(self.arguments(credential), REDIS)
        assert refused.value.lacking == (f"凭证：文件 {credential} 的权限为 0640，应为 0600",)

    @pytest.mark.parametrize(
        ("changes", "lacking"),
        [
            (
                {"printer": "ipp://printer.example/ipp/print"},
                "打印机：卡面不能明文传输，须用 ipps（本机的打印队列除外）",
            ),
            (
                {"printer": "lpd://printer.example"},
                "打印机：应为 ipp://localhost/printers/队列 或 ipps://主机/ipp/print",
            ),
            ({"ca-file": "/nowhere/ca.pem"}, "门户证书的签发机构：没有文件 /nowhere/ca.pem"),
            ({"printer-ca": "/nowhere/p.pem"}, "打印机的证书：没有文件 /nowhere/p.pem"),
        ],
    )
    def test_a_printer_or_an_authority_that_cannot_be_used_is_told(
        self, credential: Path, changes: dict[str, str], lacking: str
    ) -> None:
        """R-46: faces do not travel in the clear either."""
        with pytest.raises(IncompleteError) as refused:
            read_options(self.arguments(credential, **changes), REDIS)
        assert refused.value.lacking == (lacking,)

    def test_a_virtual_printer_is_for_demonstrations_only(self, credential: Path) -> None:
        arguments = [*self.arguments(credential, printer="virtual")[:-1]]
        with pytest.raises(IncompleteError) as refused:
            read_options(arguments, REDIS)
        assert refused.value.lacking == ("打印机：虚拟打印机只用于演示，须同时加 --virtual",)

    @pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
    def test_a_file_without_a_credential_is_told(self, credential: Path, content: bytes) -> None:
        credential.write_bytes(content)
        with pytest.raises(IncompleteError) as refused:
            read_options(self.arguments(credential), REDIS)
        assert refused.value.lacking[0].startswith("凭证：")

    def test_the_command_hands_over_no_secret_of_the_portal(self) -> None:
        """The counter machine has no database; neither does its agent on the portal's own machine."""
        given = {"DATABASE_URL": "a", "SECRET_KEY": "b", "PORTAL_KEK": "c", "PATH": "p", "REDIS_URL": "r"}
        assert agent_environment(given) == {
            "PATH": "p",
            "STATION_REDIS_URL": settings.REDIS_URL,
            "CARD_PROFILE": settings.CARD_PROFILE,
            "PYTHONPATH": str(settings.BASE_DIR),
        }
        options = {"code": "demo-1", "portal": "http://127.0.0.1:1", "credential_file": None, "virtual": True}
        assert agent_arguments(options | {"printer": "ipp://localhost/printers/a"})[6:] == [
            "--printer=ipp://localhost/printers/a",
            "--virtual",
        ]
        assert agent_arguments(options)[5] == str(settings.VAR_DIR / "stations" / "demo-1.credential")

    def test_the_program_says_what_lacks_and_ends(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "stations.agent"],
            cwd=settings.BASE_DIR, env={"PATH": "/usr/bin"}, capture_output=True, text=True, timeout=30,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[0] == "制卡点代理不能启动，缺少："
        assert len(done.stderr.splitlines()) == 6

    def test_nothing_of_it_loads_django_or_a_database_driver(self) -> None:
        """The counter machine has no database (architecture §2)."""
        code = (
            "import sys, stations.agent.__main__; print(sorted({m.partition('.')[0] for m in sys.modules}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=settings.BASE_DIR, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert not {"'django'", "'psycopg'", "'django_rq'"} & set(done.stdout.strip("[]\n").split(", "))


class TestReading:
    def test_a_card_is_read_and_timed(self) -> None:
        """R-24: EF05 and EF06 within three seconds."""
        transport = VirtualTransport(sample_card())
        reading = read_card(transport, PROFILE)
        assert reading.values.by_source["number"] == SAMPLE_HOLDER.number
        assert reading.values.by_source["name"] == SAMPLE_HOLDER.name
        assert 0 <= reading.milliseconds < 3000
        assert SAMPLE_HOLDER.number not in repr(reading)

    def test_a_card_without_its_person_is_no_card(self) -> None:
        card = blank_card(SERIAL, profile="sssc-2.0-3des")
        with pytest.raises(CardContentError) as refused:
            read_card(VirtualTransport(card), PROFILE)
        assert refused.value.got == "number、name"

    def test_the_card_is_powered_down_also_after_a_refusal(self) -> None:
        transport = VirtualTransport(sample_card(protected=True))
        with pytest.raises(Exception, match="6982 安全条件不满足"):
            read_card(transport, PROFILE)
        with pytest.raises(Exception, match="未上电"):
            transport.exchange(b"\0" * 5)


class Portal(BaseHTTPRequestHandler):
    """Stands for the portal: answers as scripted and keeps what came."""

    script: list[tuple[int, dict[str, str], Any]] = []
    seen: list[tuple[str, str, Any]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, self.headers["Authorization"], body))
        status, headers, answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_given: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def portal() -> Iterator[str]:
    Portal.seen, Portal.script = [], [(200, {}, {})]
    server = HTTPServer(("127.0.0.1", 0), Portal)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(portal: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PortalClient]:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    made = PortalClient(portal + "/", "demo-1", "secret", patience=0)
    yield made
    made.close()


BEAT = {"reader_state": "读", "printer_state": "", "agent_version": "1.0"}


def beat(client: PortalClient) -> None:
    client.heartbeat(BEAT)


PROBLEM = {"Content-Type": "application/problem+json"}


class TestClient:
    def test_a_heartbeat_carries_credential_and_states(self, client: PortalClient) -> None:
        beat(client)
        assert Portal.seen == [("/api/v1/station/heartbeat", "Station demo-1:secret", BEAT)]

    def test_a_restarting_portal_is_asked_again(self, client: PortalClient) -> None:
        Portal.script = [(503, {}, {}), (502, {}, {}), (200, {}, {})]
        beat(client)
        assert len(Portal.seen) == 3

    def test_a_refused_credential_is_told_apart(self, client: PortalClient) -> None:
        Portal.script = [(401, PROBLEM, {"code": "authentication_failed"})]
        with pytest.raises(CredentialRefusedError):
            beat(client)
        assert len(Portal.seen) == 1

    def test_a_redirect_does_not_take_the_credential_along(self, client: PortalClient, portal: str) -> None:
        """R-46: the credential goes to the address it was given for."""
        Portal.script = [(302, {"Location": f"{portal}/elsewhere"}, {})]
        with pytest.raises(PortalUnreachableError, match="302"):
            beat(client)
        assert len(Portal.seen) == 1

    @pytest.mark.parametrize(
        ("headers", "answer"), [({}, {"code": "x"}), (PROBLEM, []), (PROBLEM, {}), (PROBLEM, "x")]
    )
    def test_somebody_elses_answer_is_not_the_portals(
        self, client: PortalClient, headers: dict[str, str], answer: Any
    ) -> None:
        Portal.script = [(400, headers, answer)]
        with pytest.raises(PortalUnreachableError, match="HTTP 400"):
            beat(client)

    def test_a_refusal_brings_its_code(self, client: PortalClient) -> None:
        Portal.script = [(400, PROBLEM, {"code": "invalid"})]
        with pytest.raises(AnswerRefusedError) as refused:
            beat(client)
        assert refused.value.got == "invalid"

    def test_nobody_there(self) -> None:
        client = PortalClient("http://127.0.0.1:9", "demo-1", "secret")
        client._session.mount("http://", __import__("requests").adapters.HTTPAdapter())
        with pytest.raises(PortalUnreachableError) as refused:
            beat(client)
        assert "secret" not in str(refused.value)
        client.close()

    def test_a_report_that_arrived_before_is_no_error(self, client: PortalClient) -> None:
        Portal.script = [(409, PROBLEM, {"code": "self_test_reported"}), (409, PROBLEM, {"code": "conflict"})]
        client.report_self_test(7, {"passed": True, "read_milliseconds": 1})
        with pytest.raises(AnswerRefusedError):
            client.report_self_test(7, {"passed": True, "read_milliseconds": 1})


class TestEnrolment:
    def test_a_code_that_is_not_taken_is_told_with_what_to_do(self, portal: str, tmp_path: Path) -> None:
        Portal.script = [(403, PROBLEM, {"code": "enrolment_refused"})]
        options = ["--code", "demo-1", "--portal", portal, "--credential-file", str(tmp_path / "kept")]
        done = subprocess.run(
            [sys.executable, "-m", "stations.agent", *options, "--enrol", "used"],
            cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 4
        assert done.stderr == "登记未成功：登记码不对、已使用或已过期，请安全管理员重新开出一个\n"
        assert not (tmp_path / "kept").exists()


class TestSelfTestJob:
    def test_a_good_card_reports_its_time_and_nothing_of_the_person(self, client: PortalClient) -> None:
        """R-45: the portal learns that the card could be read, not whose it is."""
        reader = CardReader(ReaderPlan(virtual=True))
        self_test(Bench(client, reader, None, Journal(None)), 7)
        reader.close()
        ((path, _, body),) = Portal.seen
        assert (path, set(body), body["passed"]) == (
            ("/api/v1/station/self-tests/7", {"passed", "read_milliseconds"}, True)
        )

    def test_no_card_reports_why(self, client: PortalClient) -> None:
        self_test(Bench(client, NoReader(), None, Journal(None)), 7)
        body = {"passed": False, "error_code": "no_reader", "error_text": "本制卡点没有读写器"}
        assert Portal.seen[0][2] == body

    @pytest.mark.parametrize("job", [issue, resolve])
    def test_a_job_that_needs_a_reader_is_refused_at_once(self, client: PortalClient, job: Any) -> None:
        """A station without a reader says so instead of waiting for a card."""
        Portal.script = [(200, {}, {"step": 1, "result": "rejected", "code": "no_reader"})]
        bench = Bench(client, NoReader(), VirtualPrinter(), Journal(None))
        job(bench, 9)
        fault = {"code": "no_reader", "text": "本制卡点没有读写器", "at": 0, "sent": False}
        assert Portal.seen == [
            (
                "/api/v1/station/issuances/9/steps/0",
                "Station demo-1:secret",
                {"responses": [], "fault": fault, "times": None},
            )
        ]
        assert bench.report()["reader_state"] == "本制卡点没有读写器"

    def test_a_test_card_is_printed_and_timed(self, client: PortalClient) -> None:
        print_test(Bench(client, NoReader(), VirtualPrinter(), Journal(None)), 8)
        assert (Portal.seen[0][0], Portal.seen[0][2]["passed"]) == ("/api/v1/station/self-tests/8", True)

    def test_a_test_card_without_a_printer(self, client: PortalClient) -> None:
        print_test(Bench(client, NoReader(), None, Journal(None)), 8)
        assert (Portal.seen[0][2]["passed"], Portal.seen[0][2]["error_code"]) == (False, "no_printer")
