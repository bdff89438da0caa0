"""The virtual card answers T=0 as card.md §1 and §2 say, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.names import decode_gb18030
from production.personalization.chip import build_chip, compare
from production.personalization.holder import build_card_identifier
from production.personalization.profile import load_profile
from production.personalization.tlv import decode_records
from stations.transport.base import NoCardError, ProtocolError, Response, Transport
from stations.transport.commands import (
    CommandRefusedError,
    read_tag,
    select_environment,
    select_file,
)
from stations.transport.status_words import MEANINGS, meaning
from stations.transport.virtual import VirtualTransport
from stations.virtual.card import SAMPLE_HOLDER, SERIAL, VirtualCard, sample_card

PROFILE = load_profile("sssc-3.0-sm4")
SSSE = bytes.fromhex("7378312E73682EC9E7BBE1B1A3D5CF")
SELECT_SSSE = "00A404000F" + SSSE.hex()


def sent(card: VirtualCard, *commands: str) -> list[tuple[str, str]]:
    """Return data and status word of each command, in hexadecimal digits."""
    answers = [card.process(bytes.fromhex(command)) for command in commands]
    return [(answer.data.hex().upper(), f"{answer.sw:04X}") for answer in answers]


def last(*commands: str, protected: frozenset[str] = frozenset()) -> tuple[str, str]:
    return sent(sample_card(PROFILE, protected=protected), *commands)[-1]


@pytest.fixture
def powered() -> VirtualTransport:
    transport = VirtualTransport(sample_card(PROFILE))
    transport.connect()
    return transport


class TestAtr:
    def test_the_atr_names_its_thirteen_historical_bytes_and_ends_in_the_cards_factor(self) -> None:
        """The card factor of diversification is the last eight bytes of the ATR (card.md §3)."""
        atr = sample_card(PROFILE).power_on()
        assert (atr[0], atr[1] & 0x0F, len(atr)) == (0x3B, 13, 4 + 13)
        assert atr[-8:] == SERIAL


class TestSelect:
    def test_the_environment_answers_61xx_and_its_fci_names_sm4(self) -> None:
        """FCI carries 9F0C 03 86 01 03 (card.md §2)."""
        fci = "6F19840F" + SSSE.hex().upper() + "A506" + "9F0C03860103"
        assert sent(sample_card(PROFILE), SELECT_SSSE, "00C000001B") == [("", "611B"), (fci, "9000")]

    def test_get_response_of_another_length_is_told_the_right_one_and_keeps_the_answer(self) -> None:
        got = sent(sample_card(PROFILE), SELECT_SSSE, "00C0000000", "00C000001B", "00C000001B")
        assert [sw for _, sw in got] == ["611B", "6C1B", "9000", "6985"]

    def test_an_answer_not_fetched_at_once_is_gone(self) -> None:
        assert last(SELECT_SSSE, "00A4020002EF05", "00C000001B") == ("", "6985")

    @pytest.mark.parametrize(
        ("commands", "sw"),
        [
            (["00A4040005D156000009"], "6A82"),  # no such application
            ([SELECT_SSSE, "00A4020002EF99"], "6A82"),  # no such file
            (["00A4020002EF05"], "6A82"),  # a file before its application
            ([SELECT_SSSE, "00A4000002EF05"], "9000"),  # the other form of SELECT EF
            ([SELECT_SSSE, "00A4050002EF05"], "6A86"),
            ([SELECT_SSSE, "00A4020003EF0500"], "6A86"),
            ([SELECT_SSSE, "00A4020005EF05"], "6700"),  # Lc and data differ
            (["80A4040000"], "6E00"),
            (["00FF000000"], "6D00"),
            (["00A404"], "6700"),
        ],
    )
    def test_what_cannot_be_selected(self, commands: list[str], sw: str) -> None:
        assert last(*commands)[1] == sw

    def test_selecting_an_application_forgets_the_file(self) -> None:
        assert last(SELECT_SSSE, "00A4020002EF05", SELECT_SSSE, "00B2010000")[1] == "6986"

    def test_power_up_forgets_everything(self) -> None:
        card = sample_card(PROFILE)
        sent(card, SELECT_SSSE, "00A4020002EF05")
        card.power_on()
        assert sent(card, "00B2010006") == [("", "6986")]


class TestReadRecord:
    BEGIN = (SELECT_SSSE, "00A4020002EF06")

    def test_a_tag_is_read_with_its_two_leading_bytes(self) -> None:
        """`00 B2 tag 00 Le`, Le = length + 2."""
        data, sw = last(*self.BEGIN, "00B2090020")
        assert (data[:4], sw) == ("091E", "9000")
        assert decode_gb18030(bytes.fromhex(data)[2:].rstrip(b"\0")) == "虚拟·测试卡"

    def test_a_record_is_read_by_number(self) -> None:
        assert last(*self.BEGIN, "00B2010414") == last(*self.BEGIN, "00B2080014")

    def test_a_short_file_id_selects_too(self) -> None:
        by_id = [SELECT_SSSE, "00B2012C12"]
        assert last(*by_id) == last(SELECT_SSSE, "00A4020002EF05", "00B2010412")

    @pytest.mark.parametrize("asked", ["00", "01", "13", "FF"])
    def test_another_length_is_told_the_right_one(self, asked: str) -> None:
        assert last(*self.BEGIN, f"00B20800{asked}") == ("", "6C14")

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("00B2000400", "6A83"),
            ("00B2080400", "6A83"),
            ("00B2FF0000", "6A88"),
            ("00B2010200", "6A86"),
            ("00B201F400", "6A82"),
        ],
    )
    def test_what_is_not_there(self, command: str, sw: str) -> None:
        assert last(*self.BEGIN, command) == ("", sw)

    def test_a_protected_file_is_refused_like_that_of_a_3_0_card(self) -> None:
        """On 3.0 cards EF05 to EF07 are read after RKssse (card.md §3)."""
        protected = frozenset({"SSSE/EF06"})
        assert last(*self.BEGIN, "00B2080014", protected=protected) == ("", "6982")
        assert last(SELECT_SSSE, "00B2012C12", protected=protected)[1] == "9000"

    def test_a_challenge_is_eight_new_bytes(self) -> None:
        card = sample_card(PROFILE)
        (first, sw), (second, _) = sent(card, "0084000008", "0084000008")
        assert (len(first), sw, first != second) == (16, "9000", True)

    @given(st.lists(st.binary(max_size=40), max_size=20))
    def test_no_sequence_of_bytes_breaks_the_card(self, commands: list[bytes]) -> None:
        """Hostile input: always a status word, never an exception, never more than 256 bytes."""
        card = sample_card(PROFILE)
        for command in [bytes.fromhex(SELECT_SSSE), *commands]:
            answer = card.process(command)
            assert 0x6000 <= answer.sw <= 0x9FFF
            assert len(answer.data) <= 256


class Scripted(Transport):
    """A card that answers as told."""

    def __init__(self, *answers: tuple[str, int]) -> None:
        self.answers = [Response(bytes.fromhex(data), sw) for data, sw in answers]
        self.sent: list[str] = []

    def connect(self) -> bytes:
        return b""

    def disconnect(self) -> None:
        return None

    def state(self) -> str:
        return ""

    def exchange(self, tpdu: bytes) -> Response:
        self.sent.append(tpdu.hex().upper())
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


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


class TestVirtualReader:
    def test_the_whole_card_reads_back_as_it_was_built(self, powered: VirtualTransport) -> None:
        """R-18: what was written is what is read."""
        read: dict[str, bytes] = {}
        for application in PROFILE.applications:
            files = [file for file in application.files if file.fields]
            select_environment(powered, application.aid)
            for file in files:
                select_file(powered, file.file_id)
                read[f"{application.name}/{file.file_id}"] = b"".join(
                    read_tag(powered, f.tag, len(f.initial())) for f in file.fields
                )
        identifier = build_card_identifier("440600", SERIAL)
        assert read == build_chip(SAMPLE_HOLDER, PROFILE, identifier).files
        assert compare(SAMPLE_HOLDER, read, PROFILE, card_identifier=identifier) == []

    def test_an_absent_tag_is_empty_like_4e_of_older_cards(self) -> None:
        files = {"SSSE/EF06": bytes.fromhex("080131")}
        transport = VirtualTransport(VirtualCard(PROFILE, files))
        transport.connect()
        select_environment(transport, SSSE)
        select_file(transport, "EF06")
        assert (read_tag(transport, 0x4E, 20), read_tag(transport, 0x08, 1)) == (b"", files["SSSE/EF06"])

    def test_a_refusal_names_command_and_status_word(self, powered: VirtualTransport) -> None:
        with pytest.raises(CommandRefusedError) as refused:
            select_environment(powered, b"\xd1\x56")
        assert (refused.value.where, refused.value.got) == ("SELECT", "6A82 没有找到文件")

    def test_a_card_that_is_pulled_is_gone_until_it_is_powered_again(self, powered: VirtualTransport) -> None:
        card = sample_card(PROFILE)
        powered.remove()
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

    def test_records_of_each_file_are_whole(self) -> None:
        chip = build_chip(SAMPLE_HOLDER, PROFILE, build_card_identifier("440600", SERIAL))
        assert [tag for tag, _ in decode_records(chip.files["SSSE/EF05"])] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("sw", sorted(MEANINGS))
def test_every_status_word_of_the_card_has_a_meaning(sw: int) -> None:
    assert meaning(sw) == MEANINGS[sw]


def test_tries_left_and_the_unknown_are_told_apart() -> None:
    assert meaning(0x63C2) == "验证失败，还可再试 2 次"
    assert meaning(0x1234) == "未知状态"
