"""What every transport does above the bytes: the two follow-ups of T=0, commands, waiting, time."""

from __future__ import annotations

import pytest

from stations.transport.base import (
    CardPulledError,
    CardSilentError,
    NoCardError,
    ProtocolError,
    Response,
    Transport,
)
from stations.transport.commands import CommandRefusedError, read_tag, select_environment, select_file
from stations.transport.status_words import MEANINGS, meaning
from stations.transport.virtual import VirtualTransport
from stations.virtual.card import VirtualCard
from stations.virtual.faults import parse_fault
from stations.virtual.samples import SAMPLE_HOLDER, issued_card, sample_card

SSSE = bytes.fromhex("7378312E73682EC9E7BBE1B1A3D5CF")


class Scripted(Transport):
    """A card that answers as told."""

    def __init__(self, *answers: tuple[str, int], present: tuple[bool, ...] = (True,)) -> None:
        self.answers = [Response(bytes.fromhex(data), sw) for data, sw in answers]
        self.present = list(present)
        self.sent: list[str] = []

    def connect(self) -> bytes:
        return b""

    def disconnect(self) -> None:
        return None

    def state(self) -> str:
        return ""

    def card_present(self) -> bool:
        return self.present.pop(0) if len(self.present) > 1 else self.present[0]

    def _send(self, tpdu: bytes) -> Response:
        self.sent.append(tpdu.hex().upper())
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def powered() -> VirtualTransport:
    transport = VirtualTransport(sample_card())
    transport.connect()
    return transport


class TestTransmit:
    def test_6cxx_is_sent_again_and_61xx_fetched_in_parts(self) -> None:
        card = Scripted(("", 0x6C04), ("0102", 0x6103), ("", 0x6C02), ("03", 0x6101), ("04", 0x9000))
        answer = card.transmit(bytes.fromhex("00B2080000"))
        assert (answer.data.hex(), answer.sw) == ("01020304", 0x9000)
        assert card.sent == ["00B2080000", "00B2080004", "00C0000003", "00C0000002", "00C0000001"]

    def test_a_card_that_never_ends_is_given_up(self) -> None:
        with pytest.raises(ProtocolError):
            Scripted(("00", 0x6101)).transmit(bytes.fromhex("00A4000000"))

    def test_a_second_6cxx_is_the_answer(self) -> None:
        assert Scripted(("", 0x6C04)).transmit(bytes.fromhex("00B2080000")).sw == 0x6C04

    def test_what_a_card_holds_does_not_show_in_repr(self) -> None:
        """R-45: answers may hold a person."""
        assert "4406" not in repr(Response(b"440600", 0x9000))

    def test_the_time_of_all_exchanges_of_a_command_is_summed(self) -> None:
        """R-24 is measured for each issuance: each answer carries its time."""
        card = sample_card()
        card.faults.add(parse_fault("slow=5"))
        transport = VirtualTransport(card)
        transport.connect()
        alone = transport.transmit(bytes.fromhex("0084000008"))
        fetched = transport.transmit(bytes.fromhex("00A404000F") + SSSE)
        assert 5_000 <= alone.microseconds < 10_000
        assert 10_000 <= fetched.microseconds < 20_000
        assert alone == Response(alone.data, 0x9000)


class TestWaiting:
    def test_a_card_is_waited_for_and_its_absence_too(self) -> None:
        arriving = Scripted(("", 0x9000), present=(False, False, True))
        assert arriving.wait_for_card(1, pause=0) is True
        leaving = Scripted(("", 0x9000), present=(True, False))
        assert leaving.wait_for_card(1, present=False, pause=0) is True

    def test_waiting_ends(self) -> None:
        assert Scripted(("", 0x9000), present=(False,)).wait_for_card(0.02, pause=0.01) is False


class TestVirtualReader:
    def test_a_tag_is_read_and_an_absent_one_is_empty_like_4e_of_older_cards(
        self, powered: VirtualTransport
    ) -> None:
        select_environment(powered, SSSE)
        select_file(powered, "EF06")
        assert read_tag(powered, 0x08, 18)[2:] == SAMPLE_HOLDER.number.encode()
        assert read_tag(powered, 0x4E, 20) == b""

    def test_a_refusal_names_command_and_status_word(self, powered: VirtualTransport) -> None:
        with pytest.raises(CommandRefusedError) as refused:
            select_environment(powered, b"\xd1\x56")
        assert (refused.value.where, refused.value.got) == ("SELECT", "6A82 没有找到文件")

    def test_a_card_that_is_pulled_is_gone_until_it_is_powered_again(self, powered: VirtualTransport) -> None:
        card = sample_card()
        assert powered.card_present() is True
        powered.remove()
        assert powered.card_present() is False
        for attempt in (powered.connect, lambda: powered.exchange(b"\0" * 5)):
            with pytest.raises(NoCardError):
                attempt()
        assert powered.state() == "虚拟读写器：无卡"
        powered.insert(card)
        with pytest.raises(NoCardError):
            powered.exchange(b"\0" * 5)
        assert powered.connect() == card.atr
        powered.disconnect()
        with pytest.raises(NoCardError):
            powered.exchange(b"\0" * 5)

    @pytest.mark.parametrize(
        ("fault", "error", "there"),
        [
            ("pulled@1", CardPulledError, False),
            ("pulled-after@1", CardPulledError, False),
            ("mute@1", CardSilentError, True),
        ],
    )
    def test_a_card_that_goes_or_falls_silent_has_its_own_error(
        self, fault: str, error: type[Exception], there: bool
    ) -> None:
        card: VirtualCard = issued_card(faults=[parse_fault(fault)])
        transport = VirtualTransport(card)
        transport.connect()
        with pytest.raises(error):
            transport.transmit(bytes.fromhex("0084000008"))
        assert transport.card_present() is there


@pytest.mark.parametrize("sw", sorted(MEANINGS))
def test_every_status_word_of_the_card_has_a_meaning(sw: int) -> None:
    assert meaning(sw) == MEANINGS[sw]


def test_tries_left_and_the_unknown_are_told_apart() -> None:
    assert meaning(0x63C2) == "验证失败，还可再试 2 次"
    assert meaning(0x1234) == "未知状态"
