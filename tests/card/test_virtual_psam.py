"""The virtual PSAM, and how card and terminal prove themselves through it (§8 of its page; R-24, R-25)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stations.virtual.cipher import Algorithm
from stations.virtual.faults import CardPulled, parse_fault
from stations.virtual.hierarchy import MASTER_PLACES, card_keys, derive, factors
from stations.virtual.layout import LAYOUTS
from stations.virtual.psam import VirtualPsam
from stations.virtual.samples import AREA, OTHER_AREA, SERIAL, issued_card, other_city_card, sample_masters
from tests.card.terminal import DATA, Terminal

SELECT = "00A4040006D15600000590"
PROCESS = b"\x5c" * 8
PROFILES = ["sssc-3.0-sm4", "sssc-2.0-3des"]


def psam(profile: str = PROFILES[0]) -> Terminal:
    algorithm = LAYOUTS[profile].algorithm
    terminal = Terminal(VirtualPsam(sample_masters(), algorithm=algorithm), algorithm)  # type: ignore[arg-type]
    assert terminal.sw(SELECT) == "9000"
    return terminal


def start(terminal: Terminal, name: str, process_factor: bytes, area: str = AREA) -> str:
    """Start a key: the factors from the card upwards, as many as the key has levels."""
    place = MASTER_PLACES[name]
    chain = list(reversed(factors(area, SERIAL)))[: place.levels]
    body = b"".join(chain) + process_factor
    return terminal.sw(bytes((0xBF, 0xDE, place.usage, place.psam_id, len(body))) + body)


def encrypt(terminal: Terminal) -> bytes:
    data, sw = terminal.send(b"\x80\xfa\x00\x00\x08" + DATA)
    assert sw == "9000"
    return bytes.fromhex(data)


@pytest.mark.parametrize("profile", PROFILES)
class TestBothSides:
    def test_the_card_proves_itself(self, profile: str) -> None:
        card, terminal = Terminal(issued_card(profile=profile)), psam(profile)
        card.select("SSSE")
        assert start(terminal, "SSSE/IRK", PROCESS) == "9000"
        answer = card.send(b"\x00\x88\x00\x00\x10" + PROCESS + DATA)
        assert answer == (encrypt(terminal).hex().upper(), "9000")

    def test_a_card_of_another_city_does_not(self, profile: str) -> None:
        """−21 of the reader conventions: internal authentication fails."""
        card, terminal = Terminal(other_city_card()), psam()
        card.select("SSSE")
        start(terminal, "SSSE/IRK", PROCESS)
        assert card.send(b"\x00\x88\x00\x00\x10" + PROCESS + DATA)[0] != encrypt(terminal).hex().upper()
        start(terminal, "SSSE/IRK", PROCESS, OTHER_AREA)
        assert card.send(b"\x00\x88\x00\x00\x10" + PROCESS + DATA)[0] == encrypt(terminal).hex().upper()

    def test_the_terminal_proves_itself_with_keys_of_each_level(self, profile: str) -> None:
        """Levels 1 (UKssse), 2 (RK of EF0C) and 3 (RK1 of DF03)."""
        card, terminal = Terminal(issued_card(profile=profile)), psam(profile)
        for application, name, key_id in (("SSSE", "UKssse", 4), ("SSSE", "RK", 7), ("DF03", "RK1", 0x84)):
            card.select(application)
            assert start(terminal, f"{application}/{name}", card.challenge()) == "9000"
            cryptogram = encrypt(terminal)
            assert card.sw(bytes((0, 0x82, 0, key_id, 16)) + cryptogram + DATA) == "9000"


class TestTable:
    def test_lengths_of_the_facts(self) -> None:
        """card.md §3: Lc 10 card, 18 card and city, 20 card, city and province."""
        found = {}
        for name in MASTER_PLACES:
            terminal = psam()
            start(terminal, name, PROCESS)
            found[terminal.sent[-1][8:10]] = MASTER_PLACES[name].usage >> 5
        assert found == {"10": 1, "18": 2, "20": 3}

    def test_every_key_of_the_card_is_in_the_table(self) -> None:
        layout = LAYOUTS["sssc-3.0-sm4"]
        names = {f"{a.name}/{key.name}" for a in layout.applications for key in a.keys} - {"MF/KT"}
        assert names == set(MASTER_PLACES) == set(card_keys(layout, sample_masters(), AREA, SERIAL))
        assert len({(p.usage, p.psam_id) for p in MASTER_PLACES.values()}) == len(MASTER_PLACES)

    def test_types_agree_with_the_cards_table(self) -> None:
        """Low five bits of the usage: 7 encryption, 8 MAC and encryption."""
        for application in LAYOUTS["sssc-3.0-sm4"].applications:
            for key in application.keys:
                if application.name != "MF":
                    assert MASTER_PLACES[f"{application.name}/{key.name}"].usage & 0x1F in key.types

    def test_one_level_after_the_other(self) -> None:
        steps = factors(AREA, SERIAL)
        assert steps == (b"440000sh", b"440600sx", SERIAL)
        city = derive(Algorithm.SM4, bytes(16), steps[:2])
        assert derive(Algorithm.SM4, city, steps[2:]) == derive(Algorithm.SM4, bytes(16), steps)


class TestRefusals:
    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("BFDE280810" + "00" * 16, "6A88"),  # no such key
            ("BFDE670810" + "00" * 16, "6A80"),  # three levels need three factors
            ("BFDE281228" + "00" * 40, "6A80"),
            ("BFDE281200", "6A80"),
            ("80FA010008" + "00" * 8, "6A86"),
            ("80FA000008" + "00" * 8, "6985"),  # nothing started
            ("00DE281210" + "00" * 16, "6E00"),
            ("00A4040005D156000005", "6A82"),
            ("00A4000002DDF1", "6A86"),
            ("0084000010", "9000"),  # told 6C08 and sent again
            ("0084010008", "6A86"),
            ("00B0970001", "6A82"),
            ("00B0960600", "6A86"),
            ("00B2010400", "6D00"),
            ("00", "6700"),
        ],
    )
    def test_commands(self, command: str, sw: str) -> None:
        assert psam().sw(command) == sw

    def test_before_selecting_nothing_is_lent(self) -> None:
        terminal = Terminal(VirtualPsam(sample_masters()))  # type: ignore[arg-type]
        assert terminal.sw("BFDE281210" + "00" * 16) == "6985"

    def test_a_failed_start_takes_the_last_one_away(self) -> None:
        terminal = psam()
        start(terminal, "SSSE/UKssse", PROCESS)
        terminal.sw("BFDE289910" + "00" * 16)
        assert terminal.sw(b"\x80\xfa\x00\x00\x08" + DATA) == "6985"
        start(terminal, "SSSE/UKssse", PROCESS)
        assert terminal.sw("80FA000007" + "00" * 7) == "6700"
        terminal.card.power_on()
        assert terminal.sw(b"\x80\xfa\x00\x00\x08" + DATA) == "6985"

    def test_terminal_number_and_serial_are_read(self) -> None:
        terminal = psam()
        assert terminal.send("00B0960006") == ("440600000001", "9000")
        assert terminal.send("00B095000E") == ("0000" + "5053414D00000001" + "01000000", "9000")
        assert terminal.card.atr.hex().upper() == "3B6D000081" + "5053414D" + "5053414D00000001"

    def test_a_psam_may_fail_too(self) -> None:
        terminal = psam()
        terminal.card.faults.add(parse_fault("status@3=6F00"))
        terminal.card.faults.add(parse_fault("pulled@4"))
        assert terminal.sw("0084000008") == "6F00"
        with pytest.raises(CardPulled):
            terminal.sw("0084000008")


@given(st.lists(st.binary(max_size=45), max_size=12))
def test_no_sequence_of_bytes_breaks_the_psam(commands: list[bytes]) -> None:
    """Hostile input: always a status word, never an exception."""
    terminal = psam()
    for command in commands:
        assert 0x6000 <= terminal.raw(command).sw <= 0x9FFF
