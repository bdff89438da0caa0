"""Faces travel to a printer by TLS: to the printer that was meant, or not at all (R-46)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stations.agent.testcard import pictures
from stations.choices import SelfTestKind
from stations.models import SelfTest
from stations.printing.following import PrintNote, print_face
from stations.printing.ipp import IppPrinter
from stations.printing.printer import JobState
from stations.services.self_tests import request_self_test
from tests.stations.authority import Authority
from tests.stations.printer import CardPrinter
from tests.stations.shop import Shop, shop

__all__ = ["shop"]
StartPrinter = Callable[..., CardPrinter]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def secured(
    card_printer: StartPrinter, authority: Authority, folder: Path, host: str, days: int = 1
) -> CardPrinter:
    """Start a printer that shows a certificate for `host`; it is reached as localhost."""
    authority.issue(folder / "keys", "localhost", host, days=days)
    return card_printer(keys=folder / "keys")


def address(printer: CardPrinter, host: str = "localhost") -> str:
    return f"ipps://{host}:{printer.port}/ipp/print"


def run(printer: IppPrinter) -> PrintNote:
    return print_face(printer, pictures(["front", "back"]), "card-1", lambda _note: None)


def said(printer: CardPrinter) -> str:
    """Return what the printer itself logged since it answered for the first time."""
    return (printer.folder / "log").read_text()


def assert_refused(printer: CardPrinter, asked: IppPrinter) -> None:
    """Expect that nothing reached the printer: no job, no page, not even a question."""
    before = said(printer).count("POST /ipp/print")
    status, note = asked.status(), run(asked)
    assert (status.state, status.reasons) == ("unreachable", ("printer-unreachable",))
    assert (note.state, note.number) == (JobState.NOT_SUBMITTED, None)
    assert "无法连接打印机" in note.text
    assert "SSLError" in note.text
    assert printer.printed() == []
    assert said(printer).count("POST /ipp/print") == before


def test_the_printer_that_was_meant_is_printed_on_encrypted(
    card_printer: StartPrinter, authority: Authority, tmp_path: Path
) -> None:
    printer = secured(card_printer, authority, tmp_path, "localhost")
    before = said(printer).count("Connection now encrypted")
    asked = IppPrinter(address(printer), ca_file=str(authority.file))
    assert asked.status().state == "idle"
    assert run(asked).state == JobState.COMPLETED
    assert [path.suffix for path in printer.printed()] == [".prn", ".pwg"]
    assert said(printer).count("Connection now encrypted") - before >= 4, "each message by a TLS of its own"


@pytest.mark.parametrize("host", ["printer.example", "127.0.0.2"])
def test_a_certificate_of_another_host_is_refused(
    card_printer: StartPrinter, authority: Authority, tmp_path: Path, host: str
) -> None:
    """Its authority is the right one: somebody else's printer of the same house."""
    printer = secured(card_printer, authority, tmp_path, host)
    assert_refused(printer, IppPrinter(address(printer), ca_file=str(authority.file)))


def test_the_address_is_held_to_as_well(
    card_printer: StartPrinter, authority: Authority, tmp_path: Path
) -> None:
    printer = secured(card_printer, authority, tmp_path, "localhost")
    assert_refused(printer, IppPrinter(address(printer, "127.0.0.1"), ca_file=str(authority.file)))


def test_an_unknown_authority_is_refused(
    card_printer: StartPrinter, authority: Authority, tmp_path: Path
) -> None:
    """Another one of the same name, and those that the machine trusts anyway."""
    printer = secured(card_printer, authority, tmp_path, "localhost")
    other = Authority(tmp_path / "other")
    assert_refused(printer, IppPrinter(address(printer), ca_file=str(other.file)))
    assert_refused(printer, IppPrinter(address(printer)))


def test_a_certificate_that_ran_out_is_refused(
    card_printer: StartPrinter, authority: Authority, tmp_path: Path
) -> None:
    printer = secured(card_printer, authority, tmp_path, "localhost", days=-1)
    assert_refused(printer, IppPrinter(address(printer), ca_file=str(authority.file)))


def test_the_printers_own_certificate_is_enough(card_printer: StartPrinter, tmp_path: Path) -> None:
    """`--printer-ca` with the certificate that the printer made for itself."""
    (tmp_path / "keys").mkdir()
    own = Authority(tmp_path / "keys", "localhost")
    own.write_self_signed(tmp_path / "keys", "localhost")
    printer = card_printer(keys=tmp_path / "keys")
    asked = IppPrinter(address(printer), ca_file=str(tmp_path / "keys" / "localhost.crt"))
    assert run(asked).state == JobState.COMPLETED


def test_the_agent_prints_by_tls(
    shop: Shop, card_printer: StartPrinter, authority: Authority, tmp_path: Path
) -> None:
    """From the options of the program to the printed test card, and not with another authority."""
    printer = secured(card_printer, authority, tmp_path, "localhost")
    for trusted, passed in ((authority, True), (Authority(tmp_path / "other"), False)):
        options = ("--no-reader", "--printer", address(printer), "--printer-ca", str(trusted.file))
        agent = shop.start_agent(*options)
        asked = request_self_test(shop.counter.station, actor=shop.counter.operator, kind=SelfTestKind.PRINT)
        shop.until(lambda: SelfTest.objects.filter(reported_at=None).count() == 0)
        assert SelfTest.objects.get(pk=asked.pk).passed is passed
        agent.terminate()
        agent.wait()
    assert [path.suffix for path in printer.printed()] == [".prn", ".pwg"], "the one of the right authority"
