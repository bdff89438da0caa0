"""Files of the virtual card: structures, every access rule, cyclic files, torn writes (§4 of its page)."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stations.virtual.card import VirtualCard, blank_card
from stations.virtual.faults import parse_fault
from stations.virtual.layout import LAYOUTS, ApplicationLayout, FileLayout, Structure
from stations.virtual.samples import SERIAL
from tests.card.terminal import NEW_TRANSPORT_KEY, Terminal, key_of, personalised

SM4, DES = "sssc-3.0-sm4", "sssc-2.0-3des"
PIN = "0020000003123456"


def prove(terminal: Terminal, application: str, name: str) -> str:
    """Authenticate a key of the selected application, or verify the PIN."""
    if name == "PIN":
        return terminal.sw(PIN)
    terminal.challenge()
    key = LAYOUTS[terminal.card.memory.profile].application(application).key(name)
    assert key is not None
    return terminal.authenticate(key.key_id, key_of(f"{application}/{name}"))


def read(terminal: Terminal, file: FileLayout) -> str:
    """Try to read a file's beginning and return the status word."""
    terminal.sw(f"00A4020002{file.fid:04X}")
    return terminal.sw("00B0000004" if file.structure is Structure.TRANSPARENT else "00B2010400")


def write(terminal: Terminal, application: str, file: FileLayout, *, secured: bool) -> str:
    """Try to write a file's first record or first bytes and return the status word."""
    terminal.sw(f"00A4020002{file.fid:04X}")
    if file.structure is Structure.TRANSPARENT:
        head, body = "D60000", b"new!"
    elif file.structure is Structure.CYCLIC:
        head, body = "E20000", b"n" * file.size
    else:
        tag, length, _ = file.records[0]
        head, body = "DC0104", bytes((tag, length)) + b"1" * length
    if not secured:
        return terminal.sw(bytes.fromhex("00" + head) + bytes((len(body),)) + body)
    terminal.challenge()
    return terminal.secured("84" + head, body, key_of(f"{application}/{file.write}"))


def every_file() -> list[object]:
    return [
        pytest.param(profile, application, file, id=f"{profile}-{application.name}-{file.fid:04X}")
        for profile in LAYOUTS
        for application in LAYOUTS[profile].applications
        for file in application.files
        if application.name != "ADF1"
    ]


@pytest.mark.parametrize(("profile", "application", "file"), every_file())
class TestAccess:
    def test_reading_needs_exactly_what_the_rule_names(
        self, profile: str, application: ApplicationLayout, file: FileLayout
    ) -> None:
        """card.md §3: each file, with every subset of what its rule names."""
        names = sorted(frozenset().union(*file.read))
        for given_ in product((False, True), repeat=len(names)):
            terminal = personalised(profile)
            terminal.select(application.name)
            held = {name for name, use in zip(names, given_, strict=True) if use}
            for name in sorted(held):
                assert prove(terminal, application.name, name) == "9000"
            allowed = any(alternative <= held for alternative in file.read)
            empty = file.structure is Structure.CYCLIC
            assert read(terminal, file) == ("6982" if not allowed else "6A83" if empty else "9000")

    def test_writing_needs_the_files_key_plain_or_as_mac(
        self, profile: str, application: ApplicationLayout, file: FileLayout
    ) -> None:
        """card.md §3 and A-11: refused unproven, with PIN only, after another key; then done both ways."""
        terminal = personalised(profile)
        terminal.select(application.name)
        before = list(terminal.card.memory.files[f"{application.name}/{file.fid:04X}"])
        assert write(terminal, application.name, file, secured=False) == "6982"
        terminal.sw(PIN)
        other = next(
            key.name for key in application.keys if key.name not in {file.write, "IRK", "BK", "PUK", "LK"}
        )
        assert prove(terminal, application.name, other) == "9000"
        assert write(terminal, application.name, file, secured=False) == "6982"
        assert terminal.card.memory.files[f"{application.name}/{file.fid:04X}"] == before
        assert write(terminal, application.name, file, secured=True) == "9000"
        assert prove(terminal, application.name, file.write) == "9000"
        assert write(terminal, application.name, file, secured=False) == "9000"
        assert terminal.card.memory.files[f"{application.name}/{file.fid:04X}"] != before


class TestRules:
    def test_rules_of_the_facts_are_in_the_table(self) -> None:
        """card.md §3, typed again: what the layout must say."""
        rules = {
            (application.name, f"{file.fid:04X}"): {" ".join(sorted(a)) for a in file.read}
            for application in LAYOUTS[SM4].applications
            for file in application.files
            if file.read != (frozenset(),)
        }
        assert rules == {
            ("SSSE", "EF05"): {"RKssse"},
            ("SSSE", "EF06"): {"RKssse"},
            ("SSSE", "EF07"): {"RKssse"},
            ("SSSE", "EF0C"): {"RK"},
            ("DF01", "EF05"): {"PIN"},
            ("DF01", "EF07"): {"PIN", "UK2"},
            ("DF01", "EF09"): {"PIN", "UK2"},
            ("DF03", "EF05"): {"PIN RK1"},
            ("DF03", "EF07"): {"PIN RK1"},
            ("DF04", "EF06"): {"PIN RK1"},
        }

    def test_proofs_end_with_the_application_but_the_pin_lasts(self) -> None:
        """A-1."""
        terminal = personalised()
        terminal.select("DF03")
        terminal.sw(PIN)
        prove(terminal, "DF03", "RK1")
        file = LAYOUTS[SM4].application("DF03").files[0]
        assert read(terminal, file) == "9000"
        terminal.select("DF03")
        assert read(terminal, file) == "6982"
        prove(terminal, "DF03", "RK1")
        assert read(terminal, file) == "9000"
        terminal.card.power_on()
        terminal.select("DF03")
        prove(terminal, "DF03", "RK1")
        assert read(terminal, file) == "6982"

    def test_certificates_are_written_under_the_transport_key(self) -> None:
        terminal = personalised()
        adf = "53532E434552542E41444631"
        terminal.select(adf)
        terminal.sw("00A40200020018")
        assert terminal.sw("00D600000430820000") == "6982"
        terminal.select("MF")
        terminal.challenge()
        assert terminal.authenticate(0, NEW_TRANSPORT_KEY) == "9000"
        terminal.select(adf)
        terminal.sw("00A40200020018")
        assert terminal.sw("00D600000430820000") == "9000"
        assert terminal.send("00B0000004") == ("30820000", "9000")


@pytest.fixture
def open_card() -> Terminal:
    """Return a terminal at a 2.0 card, in SSSE, with UKssse proven."""
    terminal = personalised(DES)
    terminal.select("SSSE")
    prove(terminal, "SSSE", "UKssse")
    return terminal


class TestRecords:
    def test_the_published_update_by_tag_with_short_id(self, open_card: Terminal) -> None:
        """card.md §2: `00DC0830140812…`."""
        number = b"440600190001010005".hex()
        assert open_card.sw("00DC083014" + "0812" + number) == "9000"
        assert open_card.send("00B2080014") == ("0812" + number.upper(), "9000")
        assert open_card.send("00B2013414") == ("0812" + number.upper(), "9000")

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("00DC0130030A0131", "6A88"),  # no such tag
            ("00DC0034030A0131", "6A83"),  # records count from 1
            ("00DC1034030A0131", "6A83"),
            ("00DC0A30030B0131", "6A80"),  # another tag inside
            ("00DC0A3003090131", "6A80"),
            ("00DC0A30040A0231FF", "6A80"),  # another length inside
            ("00DC0A30040A0131FF", "6700"),  # more than the record
            ("00DC0A30020A01", "6700"),
            ("00DC0A32030A0131", "6A86"),
            ("00DC0AF8030A0131", "6A82"),  # no such short id
            ("00DC0A38030A0131", "6981"),  # EF07 has no records
            ("00E20000010A", "6981"),  # nor is EF06 cyclic
            ("00D60000010A", "6981"),
            ("00B0000001", "6981"),
            ("00B2000400", "6A83"),
            ("00B2070400", "6A83"),  # a 2.0 card has six: no 4E
            ("00B24E0016", "6A88"),
            ("00B2010200", "6A86"),
        ],
    )
    def test_what_is_refused_changes_nothing(self, open_card: Terminal, command: str, sw: str) -> None:
        open_card.sw("00A4020002EF06")
        before = dict(open_card.card.memory.files)
        assert open_card.sw(command) == sw
        assert open_card.card.memory.files == before

    @pytest.mark.parametrize("asked", ["00", "01", "13", "FF"])
    def test_another_length_is_told_the_right_one(self, open_card: Terminal, asked: str) -> None:
        open_card.sw("00A4020002EF06")
        assert open_card.raw(f"00B20800{asked}").sw == 0x6C14

    def test_a_blank_reads_as_padding(self) -> None:
        """cn is padded with F, an with 00 (card.md §1)."""
        terminal = Terminal(blank_card(SERIAL, profile=DES))
        terminal.select("SSSE")
        terminal.sw("00A4020002EF06")
        found = [terminal.send(f"00B2{n:02X}0400")[0] for n in range(1, 7)]
        assert found == [
            "0812" + "00" * 18,
            "091E" + "00" * 30,
            "0A0100",
            "0B01FF",
            "0C03FFFFFF",
            "0D04FFFFFFFF",
        ]

    @given(st.data())
    def test_any_record_of_any_file_reads_as_written(self, data: st.DataObject) -> None:
        """By number and by tag, plain and secured, the two ways give the same bytes; its neighbours stay."""
        terminal = personalised(DES)
        name = data.draw(st.sampled_from(["SSSE", "DF01", "DF02", "DF03", "DF04"]))
        files = [f for f in LAYOUTS[DES].application(name).files if f.read == (frozenset(),) and f.records]
        file = data.draw(st.sampled_from(files))
        index = data.draw(st.integers(0, len(file.records) - 1))
        tag, length, _ = file.records[index]
        content = bytes((tag, length)) + data.draw(st.binary(min_size=length, max_size=length))
        terminal.select(name)
        terminal.sw(f"00A4020002{file.fid:04X}")
        before = list(terminal.card.memory.files[f"{name}/{file.fid:04X}"])
        terminal.challenge()
        by = data.draw(st.sampled_from([f"{tag:02X}00", f"{index + 1:02X}04"]))
        assert terminal.secured(f"84DC{by}", content, key_of(f"{name}/{file.write}")) == "9000"
        for way in (f"{tag:02X}00", f"{index + 1:02X}04"):
            assert terminal.send(f"00B2{way}00") == (content.hex().upper(), "9000")
        before[index] = content[2:]
        assert terminal.card.memory.files[f"{name}/{file.fid:04X}"] == before

    def test_nested_tags_are_one_record(self) -> None:
        """DF01 EF15: 40 { 57 58 59 } has 52 bytes."""
        terminal = personalised()
        terminal.select("DF01")
        terminal.sw("00A4020002EF15")
        assert terminal.raw("00B2400000").sw == 0x6C36
        assert terminal.sw("00B2570005") == "6A88"


class TestBodies:
    @given(st.integers(0, 4095), st.binary(min_size=1, max_size=255))
    def test_what_is_written_is_read(self, offset: int, content: bytes) -> None:
        """R-24: up to 255 bytes a command, large files block-wise."""
        terminal = personalised(DES)
        terminal.select("SSSE")
        prove(terminal, "SSSE", "UKssse")
        terminal.sw("00A4020002EF08")
        place = offset.to_bytes(2)
        sw = terminal.sw(b"\x00\xd6" + place + bytes((len(content),)) + content)
        fits = offset + len(content) <= 4096
        assert sw == ("9000" if fits else "6700")
        left = min(4096 - offset, 255)
        data, sw = terminal.send(b"\x00\xb0" + place + b"\x00")
        assert (len(data) // 2, sw) == (left, "9000")
        wanted = content if fits else bytes(left)
        assert bytes.fromhex(data)[: len(content)] == wanted[:left]

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("00B0100000", "6A86"),  # EF08 has 4096 bytes
            ("00B00FFF02", "6C01"),
            ("00B0E00001", "6A86"),
            ("00B0910001", "6A82"),
            ("00D6100001FF", "6A86"),
            ("00D60FFF02FFFF", "6700"),
            ("00D6000000", "6700"),
        ],
    )
    def test_offsets_and_lengths(self, open_card: Terminal, command: str, sw: str) -> None:
        open_card.sw("00A4020002EF08")
        assert f"{open_card.raw(command).sw:04X}" == sw

    def test_a_short_id_in_p1_selects(self, open_card: Terminal) -> None:
        assert open_card.sw("00D6880002ABCD") == "9000"
        assert open_card.send("00B0000003") == ("ABCD00", "9000")

    def test_without_a_file_nothing_is_read(self, open_card: Terminal) -> None:
        assert open_card.sw("00B0000001") == "6986"


class TestCyclic:
    def test_ten_records_the_newest_first_and_none_by_tag(self) -> None:
        """DF02 EF16, cyclic 18 bytes (A-12)."""
        terminal = personalised()
        terminal.select("DF02")
        prove(terminal, "DF02", "UK2")
        terminal.sw("00A4020002EF16")
        for number in range(12):
            assert terminal.sw("00E2000012" + f"{number:02X}" * 18) == "9000"
        assert terminal.send("00B2010412") == ("0B" * 18, "9000")
        assert terminal.send("00B20A0412") == ("02" * 18, "9000")
        assert terminal.sw("00B20B0412") == "6A83"
        assert terminal.sw("00B2010012") == "6981"
        assert terminal.sw("00DC010412" + "00" * 18) == "6981"
        assert terminal.sw("00E2000011" + "00" * 17) == "6700"


class TestMemoryFault:
    def test_a_torn_record_keeps_the_first_half_of_the_new_bytes(self) -> None:
        """§9: 6581, half of the new bytes over the old ones."""
        card = blank_card(SERIAL, profile=DES)
        terminal = Terminal(card, LAYOUTS[DES].algorithm)
        terminal.initialise()
        terminal.select("SSSE")
        prove(terminal, "SSSE", "UKssse")
        card.faults.add(parse_fault(f"memory@{len(terminal.sent) + 1}"))
        assert terminal.sw("00DC0D30060D0419900102") == "6581"
        assert terminal.send("00B20D3006") == ("0D041990FFFF", "9000")
        assert terminal.sw("00DC0D30060D0419900102") == "9000"

    def test_keys_states_and_counters_are_never_torn(self) -> None:
        card = blank_card(SERIAL)
        terminal = Terminal(card)
        terminal.challenge()
        terminal.select("SSSE")
        card.faults.add(parse_fault(f"memory@{len(terminal.sent) + 1}"))
        before = card.memory.to_bytes()
        assert terminal.write_key(0x04, key_of("SSSE/UKssse")) == "6581"
        assert card.memory.to_bytes() == before
        assert terminal.write_key(0x04, key_of("SSSE/UKssse")) == "6984"  # the chain is broken

    def test_reading_is_not_hit(self) -> None:
        card: VirtualCard = blank_card(SERIAL, profile=DES, faults=[parse_fault("memory@3")])
        terminal = Terminal(card)
        terminal.select("SSSE")
        assert terminal.sw("00B2083414") == "6A83"
