"""The virtual card's transport and selection, byte for byte (virtual-card.md §1 and §3)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stations.virtual.card import blank_card
from stations.virtual.cipher import Algorithm
from stations.virtual.samples import issued_card, sample_card
from tests.card.terminal import AIDS, SSSE, Terminal

SELECT_SSSE = "00A404000F" + SSSE
ROOT = Path(__file__).parents[2]


def last(*commands: str, profile: str = "sssc-2.0-3des") -> tuple[str, str]:
    """Return data and status word of the last command, without follow-ups."""
    card = issued_card(profile=profile)
    answers = [card.process(bytes.fromhex(command)) for command in commands]
    return answers[-1].data.hex().upper(), f"{answers[-1].sw:04X}"


class TestIndependence:
    def test_the_card_shares_no_code_with_personalization_and_needs_no_django(self) -> None:
        """A shared mistake must show: nothing of the portal's TLV, keys or ciphers is loaded, no database."""
        program = (
            "import sys, stations.virtual.samples, stations.virtual.psam;"
            "print([m for m in sys.modules if m.startswith(('production', 'django', 'psycopg', 'gmssl',"
            " 'portal.core.crypto', 'portal.core.names'))])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.strip() == "[]"


class TestAtr:
    def test_the_atr_names_its_thirteen_historical_bytes_and_ends_in_the_cards_factor(self) -> None:
        """The card factor of diversification is the last eight bytes of the ATR (card.md §3); T=0 only."""
        atr = blank_card(bytes.fromhex("0000000A00000007")).power_on()
        assert atr.hex().upper() == "3B6D000081535343200000000A00000007"
        assert (atr[1] & 0x0F, atr[1] & 0x80, len(atr)) == (13, 0, 4 + 13)

    def test_a_serial_has_eight_bytes(self) -> None:
        with pytest.raises(ValueError, match="8 bytes"):
            blank_card(b"\1" * 7)


class TestFlow:
    def test_the_environment_answers_61xx_and_its_fci_names_sm4(self) -> None:
        """FCI carries 9F0C 03 86 01 03 (card.md §2), the life cycle stands in 8A."""
        fci = "6F1C840F" + SSSE + "8A0105A506" + "9F0C03860103"
        card = issued_card()
        answers = [card.process(bytes.fromhex(c)) for c in (SELECT_SSSE, "00C000001E")]
        assert [(a.data.hex().upper(), f"{a.sw:04X}") for a in answers] == [("", "611E"), (fci, "9000")]

    def test_a_2_0_card_announces_no_algorithm(self) -> None:
        """Absent 9F0C: 3DES (card.md §2)."""
        assert Terminal(sample_card()).send(SELECT_SSSE) == ("6F14840F" + SSSE + "8A0105", "9000")

    def test_get_response_gives_parts_says_the_length_and_ends(self) -> None:
        card = issued_card()
        sent = [SELECT_SSSE, "00C0000000", "00C00000FF", "00C000001A", "00C0000004", "00C0000004"]
        got = [f"{card.process(bytes.fromhex(command)).sw:04X}" for command in sent]
        assert got == ["611E", "6C1E", "6C1E", "6104", "9000", "6985"]

    def test_an_answer_not_fetched_at_once_is_gone(self) -> None:
        assert last(SELECT_SSSE, "00A4020002EF05", "00C000001B") == ("", "6985")

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("80A4040000", "6E00"),  # a class this instruction does not have
            ("70A4040000", "6E00"),
            ("70FF000000", "6E00"),
            ("00FF000000", "6D00"),
            ("00A404", "6700"),
            ("", "6700"),
            ("00A40400", "6A82"),  # four bytes: P3 is 00
            ("00A4020005EF05", "6700"),  # Lc and data differ
            ("00A4020002EF0500", "6700"),  # T=0 has no Le after data
            ("008400000800", "6700"),
            ("0084000000", "6C08"),
            ("0084010008", "6A86"),
        ],
    )
    def test_form_of_a_command(self, command: str, sw: str) -> None:
        assert last(command)[1] == sw


class TestSelect:
    @pytest.mark.parametrize(
        ("commands", "sw"),
        [
            (["00A4040005D156000009"], "6A82"),
            (["00A4040004D1560000"], "6A82"),  # shorter than five bytes
            ([SELECT_SSSE, "00A4020002EF99"], "6A82"),
            (["00A4020002EF05"], "6A82"),  # a file before its application
            ([SELECT_SSSE, "00A4000002EF05"], "9000"),
            ([SELECT_SSSE, "00A4050002EF05"], "6A86"),
            ([SELECT_SSSE, "00A4000202EF05"], "6A86"),  # "next" is for names
            ([SELECT_SSSE, "00A4020003EF0500"], "6A86"),
            (["00A4000002DDF1", "00A4000002DF03"], "610D"),
            (["00A4000002DF03"], "6A82"),  # not from the MF
            ([SELECT_SSSE, "00A4020002DF01"], "6A82"),  # P1 02 finds files only
            (["00A4040C0F" + SSSE], "9000"),  # no FCI wanted
            (["00A4000000"], "6109"),
            (["00A4000002DDF1", "00A4000002DF03", "00A4030000"], "6116"),  # the parent
            (["00A40400" + "0E" + b"1PAY.SYS.DDF01".hex()], "6117"),
            (["00A4040008A000000333010102"], "6A82"),  # this card has the debit application
        ],
    )
    def test_what_can_and_cannot_be_selected(self, commands: list[str], sw: str) -> None:
        assert last(*commands)[1] == sw

    @pytest.mark.parametrize("name", ["SSSE", "DF01", "DF02", "DF03", "DF04"])
    @pytest.mark.parametrize("profile", ["sssc-2.0-3des", "sssc-3.0-sm4"])
    def test_every_application_has_its_name_in_its_fci(self, name: str, profile: str) -> None:
        """card.md §1."""
        aid = AIDS[name]
        data, sw = Terminal(issued_card(profile=profile)).send(f"00A40400{len(aid) // 2:02X}{aid}")
        assert (data[4 : 8 + len(aid)], sw) == (f"84{len(aid) // 2:02X}{aid}", "9000")

    def test_3_0_cards_have_the_certificates_environment_and_2_0_cards_not(self) -> None:
        pki, adf = "504B492EC9E7BBE1B1A3D5CF", "53532E434552542E41444631"
        new, old = (Terminal(issued_card(profile=profile)) for profile in ("sssc-3.0-sm4", "sssc-2.0-3des"))
        assert [card.sw(f"00A404000C{aid}") for card in (new, old) for aid in (pki, adf)] == [
            "9000", "9000", "6A82", "6A82",
        ]  # fmt: skip

    def test_the_challenge_of_the_certificates_environment_has_sixteen_bytes(self) -> None:
        terminal = Terminal(issued_card())
        terminal.sw("00A404000C504B492EC9E7BBE1B1A3D5CF")
        assert [len(terminal.send("0084000008")[0]), terminal.sw("0084000010")] == [32, "9000"]

    def test_the_beginning_of_a_name_goes_through_the_applications_that_fit(self) -> None:
        terminal = Terminal(sample_card())
        begun = [terminal.send("00A4040005D156000005")[0][4:20]]
        begun += [terminal.send("00A4040205D156000005")[0][4:20] for _ in range(3)]
        assert begun == [f"8406D156000005{n:02X}" for n in range(4)]
        assert terminal.sw("00A4040205D156000005") == "6A82"

    def test_selecting_an_application_forgets_the_file(self) -> None:
        assert last(SELECT_SSSE, "00A4020002EF05", SELECT_SSSE, "00B2010000")[1] == "6986"

    def test_power_up_forgets_everything(self) -> None:
        card = sample_card()
        terminal = Terminal(card)
        terminal.sw(SELECT_SSSE)
        terminal.sw("00A4020002EF05")
        card.power_on()
        assert terminal.sw("00B2010006") == "6986"

    def test_a_challenge_is_eight_new_bytes(self) -> None:
        terminal = Terminal(sample_card())
        first, second = terminal.challenge(), terminal.challenge()
        assert (len(first), first != second) == (8, True)


@given(st.lists(st.binary(max_size=40), max_size=20), st.sampled_from(Algorithm))
def test_no_sequence_of_bytes_breaks_the_card(commands: list[bytes], algorithm: Algorithm) -> None:
    """Hostile input: always a status word, never an exception, never more than 255 bytes."""
    profile = "sssc-3.0-sm4" if algorithm is Algorithm.SM4 else "sssc-2.0-3des"
    card = issued_card(profile=profile)
    for command in [bytes.fromhex(SELECT_SSSE), *commands]:
        answer = card.process(command)
        assert 0x6000 <= answer.sw <= 0x9FFF
        assert len(answer.data) <= 255


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0x00, 0x04, 0x80, 0x84]),
            st.sampled_from(bytes.fromhex("A4B2B0DCD6E2848882D4205E2450A8")),
            st.integers(0, 255),
            st.integers(0, 255),
            st.binary(max_size=24),
        ),
        max_size=12,
    ),
    st.sampled_from([*AIDS.values(), "A000000333010101", "325041592E5359532E4444463031"]),
)
def test_known_instructions_with_any_parameters_do_not_either(
    commands: list[tuple[int, int, int, int, bytes]], aid: str
) -> None:
    terminal = Terminal(issued_card())
    terminal.sw(f"00A40400{len(aid) // 2:02X}{aid}")
    for cla, ins, p1, p2, body in commands:
        answer = terminal.raw(bytes((cla, ins, p1, p2, len(body))) + body)
        assert 0x6000 <= answer.sw <= 0x9FFF


@given(st.lists(st.integers(1, 255), max_size=30))
def test_an_answer_fetched_in_any_parts_is_the_same(parts: list[int]) -> None:
    """T=0: 61xx says what is left after each GET RESPONSE; asking for more is told the right length."""
    whole = Terminal(issued_card()).send(SELECT_SSSE)[0]
    card = issued_card()
    answer = card.process(bytes.fromhex(SELECT_SSSE))
    fetched = b""
    for asked in [*parts, *[1] * 30]:
        if answer.sw >> 8 != 0x61:
            break
        left = answer.sw & 0xFF
        given_ = card.process(bytes((0, 0xC0, 0, 0, asked)))
        if asked > left:
            assert (given_.data, given_.sw) == (b"", 0x6C00 | left)
            continue
        answer = given_
        fetched += answer.data
    assert (fetched.hex().upper(), answer.sw) == (whole, 0x9000)
