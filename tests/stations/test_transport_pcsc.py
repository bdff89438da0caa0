"""The PC/SC transport against a real pcscd with virtual cards in vpcd's slots (card.md §7)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stations.transport.base import (
    AmbiguousReaderError,
    CardPulledError,
    CardResetError,
    CardSilentError,
    NoCardError,
    NoReaderError,
    ReaderBusyError,
    ReaderServiceError,
    TransportError,
)
from stations.transport.commands import read_tag, select_environment, select_file
from stations.transport.pcsc import ERRORS, PcscTransport
from stations.virtual.card import PUBLIC_TEST_KEY
from stations.virtual.cipher import Algorithm, mac, seal
from stations.virtual.hierarchy import factors
from stations.virtual.memory import Memory
from stations.virtual.samples import AREA
from tests.stations.pcsc import CARD_READER, PSAM_READER, ROOT, Desk, Pcscd, eventually

Plug = Callable[..., Desk]
SSSE = bytes.fromhex("7378312E73682EC9E7BBE1B1A3D5CF")
CHALLENGE = bytes.fromhex("0084000008")
SERIAL = "0000000A00000007"


@pytest.fixture
def reader(pcscd: Pcscd) -> Iterator[PcscTransport]:
    transport = PcscTransport(CARD_READER, connect_seconds=3, command_seconds=2)
    yield transport
    transport.close()


class TestCard:
    def test_a_card_is_connected_and_read(self, plug: Plug, reader: PcscTransport) -> None:
        """R-24: EF05 and EF06 through a real reader service, well within three seconds."""
        desk = plug("--issued", "--profile", "sssc-2.0-3des", "--serial", SERIAL)
        begun = time.perf_counter()
        assert reader.connect().hex().upper() == desk.atrs[0] == f"3B6D00008153534320{SERIAL}"
        select_environment(reader, SSSE)
        for file, tags in (("EF05", (1, 16, 7, 9)), ("EF06", (8, 18, 9, 30))):
            select_file(reader, file)
            assert len(read_tag(reader, tags[0], tags[1])) == tags[1] + 2
            assert len(read_tag(reader, tags[2], tags[3])) == tags[3] + 2
        reader.disconnect()
        assert time.perf_counter() - begun < 3

    def test_each_connection_starts_from_a_reset(self, plug: Plug, reader: PcscTransport) -> None:
        plug("--issued", "--profile", "sssc-2.0-3des")
        for _ in range(2):
            reader.connect()
            assert reader.transmit(bytes.fromhex("00B2010006")).sw == 0x6986
            select_environment(reader, SSSE)
            select_file(reader, "EF05")
            reader.disconnect()
            reader.disconnect()

    def test_a_command_without_a_connection_is_refused(self, plug: Plug, reader: PcscTransport) -> None:
        plug()
        with pytest.raises(NoCardError):
            reader.exchange(CHALLENGE)
        reader.connect()
        reader.disconnect()
        with pytest.raises(NoCardError):
            reader.exchange(CHALLENGE)

    def test_an_exchange_is_timed_and_quick(self, plug: Plug, reader: PcscTransport) -> None:
        """P7: without TCP_NODELAY and TCP_QUICKACK each command would take 40 ms."""
        plug()
        reader.connect()
        times = sorted(reader.exchange(CHALLENGE).microseconds for _ in range(50))
        assert 0 < times[25] < 10_000

    def test_card_and_psam_prove_themselves_to_each_other(self, plug: Plug, reader: PcscTransport) -> None:
        """card.md §3: internal and external authentication with a PSAM in the second reader (R-24, R-25)."""
        plug("--psam", "--issued", "--serial", SERIAL)
        psam = PcscTransport(PSAM_READER)
        reader.connect()
        psam.connect()
        assert psam.transmit(bytes.fromhex("00A4040006D15600000590")).sw == 0x9000
        select_environment(reader, SSSE)
        chain = b"".join(reversed(factors(AREA, bytes.fromhex(SERIAL))))
        pf, data = b"\x5a" * 8, b"\xa5" * 8
        assert psam.transmit(bytes.fromhex("BFDE670820") + chain + pf).sw == 0x9000
        expected = psam.transmit(bytes.fromhex("80FA000008") + data).data
        assert reader.transmit(bytes.fromhex("0088000010") + pf + data).data == expected
        challenge = reader.transmit(CHALLENGE).data
        psam.transmit(bytes.fromhex("BFDE670020") + chain + challenge)
        cryptogram = psam.transmit(bytes.fromhex("80FA000008") + data).data
        assert reader.transmit(bytes.fromhex("0082000A10") + cryptogram + data).sw == 0x9000
        assert reader.transmit(bytes.fromhex("00B2012C12")).sw == 0x9000
        psam.close()


class TestReaders:
    def test_readers_are_listed_with_their_cards(self, plug: Plug, reader: PcscTransport) -> None:
        assert reader.readers() == {CARD_READER: False, PSAM_READER: False}
        assert (reader.state(), reader.card_present()) == (f"{CARD_READER}：无卡", False)
        plug()
        assert (reader.state(), reader.card_present()) == (f"{CARD_READER}：有卡", True)

    def test_an_empty_reader_has_no_card(self, plug: Plug, reader: PcscTransport) -> None:
        for transport in (reader, PcscTransport()):
            with pytest.raises(NoCardError):
                transport.connect()

    def test_a_reader_that_is_not_there(self, plug: Plug) -> None:
        transport = PcscTransport("Another Reader")
        with pytest.raises(NoReaderError) as refused:
            transport.connect()
        assert refused.value.got == f"{CARD_READER}、{PSAM_READER}"
        assert transport.state().startswith("没有找到读写器")

    def test_two_cards_are_one_too_many_unless_the_reader_is_named(self, plug: Plug) -> None:
        plug("--psam")
        nameless, part = PcscTransport(), PcscTransport("00 00")
        with pytest.raises(AmbiguousReaderError):
            nameless.connect()
        assert nameless.state().startswith("两台读写器中都有卡片")
        assert len(part.connect()) == 17
        part.close()

    def test_the_only_card_is_found_without_a_name(self, plug: Plug) -> None:
        desk = plug()
        transport = PcscTransport()
        assert transport.connect().hex().upper() == desk.atrs[0]
        transport.close()

    def test_the_state_is_told_while_a_card_is_at_work(self, plug: Plug, reader: PcscTransport) -> None:
        """Heartbeats go on during a long command."""
        plug("--fault", "slow=600")
        reader.connect()
        busy = threading.Thread(target=lambda: reader.exchange(CHALLENGE))
        busy.start()
        begun = time.monotonic()
        assert reader.state() == f"{CARD_READER}：有卡"
        assert time.monotonic() - begun < 0.4
        busy.join()


class TestFaults:
    def test_a_card_is_waited_for(self, plug: Plug, reader: PcscTransport) -> None:
        desk = plug()
        desk.order("pull")
        assert reader.wait_for_card(5, present=False) is True
        desk.order("insert")
        assert reader.wait_for_card(5) is True
        assert reader.connect().hex().upper() == desk.atrs[0]

    @pytest.mark.parametrize("fault", ["pulled@2", "pulled-after@2"])
    def test_a_card_pulled_in_the_middle(self, plug: Plug, reader: PcscTransport, fault: str) -> None:
        desk = plug("--fault", fault)
        reader.connect()
        reader.exchange(CHALLENGE)
        with pytest.raises(CardPulledError):
            reader.exchange(CHALLENGE)
        with pytest.raises(TransportError):
            reader.exchange(CHALLENGE)
        with pytest.raises(NoCardError):
            reader.connect()
        desk.order("insert")
        assert reader.wait_for_card(5) is True
        reader.connect()
        assert reader.exchange(CHALLENGE).sw == 0x9000

    def test_a_silent_card_is_given_up_in_time(self, plug: Plug) -> None:
        transport = PcscTransport(CARD_READER, connect_seconds=1, command_seconds=0.5)
        desk = plug("--fault", "mute@1")
        transport.connect()
        begun = time.monotonic()
        with pytest.raises(CardSilentError):
            transport.exchange(CHALLENGE)
        assert time.monotonic() - begun < 3
        with pytest.raises(ReaderBusyError):  # the driver still waits for the card
            transport.connect()
        desk.order("pull")
        eventually(lambda: not transport.card_present())
        desk.order("insert")
        eventually(lambda: len(transport.connect()) == 17)
        assert transport.exchange(CHALLENGE).sw == 0x9000
        transport.close()

    def test_a_card_that_another_program_holds(self, plug: Plug, reader: PcscTransport) -> None:
        plug()
        other = PcscTransport(CARD_READER)
        other.connect()
        quick = PcscTransport(CARD_READER, connect_seconds=0.5)
        with pytest.raises(ReaderBusyError):
            quick.connect()
        other.close()
        eventually(lambda: len(quick.connect()) == 17)  # and what was given up holds nothing
        quick.close()

    def test_a_wrong_status_word_passes_through(self, plug: Plug, reader: PcscTransport) -> None:
        plug("--fault", "status@1=6F00")
        reader.connect()
        assert [reader.exchange(CHALLENGE).sw for _ in range(2)] == [0x6F00, 0x9000]

    def test_a_reader_program_that_dies_is_a_pulled_card(self, plug: Plug, reader: PcscTransport) -> None:
        desk = plug()
        reader.connect()
        desk.kill()
        with pytest.raises(CardPulledError):
            reader.exchange(CHALLENGE)
        desk = plug()
        assert reader.connect().hex().upper() == desk.atrs[0]


class TestCommand:
    def test_the_management_command_keeps_a_card_over_its_end(
        self, pcscd: Pcscd, plug: Plug, reader: PcscTransport, tmp_path: Path
    ) -> None:
        """`manage.py virtual_card --image`: what was written is there when the card comes back."""
        image = tmp_path / "card.image"
        wanted = ""
        for round_ in range(2):
            desk = plug("--image", str(image), program=("manage.py", "virtual_card"))
            atr = reader.connect().hex().upper()
            assert atr == (wanted or atr) == desk.atrs[0]
            wanted = atr
            reader.transmit(bytes.fromhex("00A404000F") + SSSE)
            challenge = reader.transmit(CHALLENGE).data
            sealed = seal(Algorithm.SM4, PUBLIC_TEST_KEY, bytes.fromhex("0803010F") + bytes(16))
            head = bytes.fromhex("84D4010424")
            made = mac(Algorithm.SM4, PUBLIC_TEST_KEY, challenge + bytes(8), head + sealed)
            before = "SSSE/04" in Memory.from_bytes(image.read_bytes()).keys
            assert before is bool(round_)
            assert reader.transmit(head + sealed + made.value).sw == 0x9000
            reader.close()
            assert desk.end() == 0
            eventually(lambda: not reader.card_present())

    def test_bad_options_end_the_command(self) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", "virtual_card", "--fault", "eat@1"],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, "eat@1" in done.stderr) == (1, True)


class TestService:
    def test_a_service_that_is_killed_and_started_again(
        self, pcscd: Pcscd, plug: Plug, reader: PcscTransport
    ) -> None:
        """The station survives a restart of pcscd: told while it is down, at work again after."""
        desk = plug()
        reader.connect()
        pcscd.stop()
        with pytest.raises(ReaderServiceError):
            reader.exchange(CHALLENGE)
        with pytest.raises(ReaderServiceError):
            reader.connect()
        assert "pcscd" in reader.state()
        pcscd.start()
        assert reader.wait_for_card(10) is True
        eventually(lambda: reader.connect().hex().upper() == desk.atrs[0])
        assert reader.exchange(CHALLENGE).sw == 0x9000

    def test_without_a_service_a_program_is_told_so(self) -> None:
        program = (
            "from stations.transport.pcsc import PcscTransport;"
            "t = PcscTransport(); print(t.state()); t.disconnect(); t.close()"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env={"PCSCLITE_CSOCK_NAME": "/nonexistent/comm"},
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        assert done.stdout.startswith("读写器服务（pcscd）未运行")


def test_a_reset_by_another_program_is_told(
    plug: Plug, reader: PcscTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smartcard import scard

    plug()
    reader.connect()
    monkeypatch.setattr(scard, "SCardTransmit", lambda *_: (scard.SCARD_W_RESET_CARD, []))
    with pytest.raises(CardResetError) as refused:
        reader.exchange(CHALLENGE)
    assert refused.value.got.startswith("80100068")


def test_every_pcsc_error_has_its_own_kind_and_chinese_text() -> None:
    assert all(issubclass(kind, TransportError) and kind is not TransportError for kind, _ in ERRORS.values())
    assert all(any("一" <= character <= "鿿" for character in text) for _, text in ERRORS.values())


def test_only_one_module_knows_pyscard() -> None:
    """D6: a machine without a reader needs no driver."""
    found = [
        path for path in (ROOT / "stations").rglob("*.py") if "from smartcard" in path.read_text("utf-8")
    ]
    assert [path.relative_to(ROOT).as_posix() for path in found] == ["stations/transport/pcsc.py"]
