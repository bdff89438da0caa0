"""Keys of the virtual card: chain, authentications, WRITE KEY, life cycle, PIN (virtual-card.md §2, §5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stations.virtual.card import PUBLIC_TEST_KEY, VirtualCard, blank_card, blank_memory
from stations.virtual.cipher import Algorithm, authenticate, seal
from stations.virtual.layout import LAYOUTS
from stations.virtual.samples import SERIAL, issued_card, sample_masters
from tests.card.terminal import DATA, NEW_TRANSPORT_KEY, Terminal, key_of, personalised

SM4, DES = "sssc-3.0-sm4", "sssc-2.0-3des"
PROFILES = [SM4, DES]


def at_blank(profile: str = SM4) -> Terminal:
    terminal = Terminal(blank_card(SERIAL, profile=profile), LAYOUTS[profile].algorithm)
    terminal.select("SSSE")
    terminal.challenge()
    return terminal


def state(terminal: Terminal) -> str:
    """Return tag 8A of the environment's FCI."""
    data, _ = terminal.send("00A404000F7378312E73682EC9E7BBE1B1A3D5CF")
    return data.partition("8A01")[2][:2]


class TestChallenge:
    def test_what_needs_a_challenge_and_has_none(self) -> None:
        terminal = Terminal(blank_card(SERIAL))
        terminal.select("SSSE")
        assert terminal.write_key(4, key_of("x")) == "6984"
        ready = personalised()
        assert ready.authenticate(4, key_of("SSSE/UKssse")) == "6984"

    @pytest.mark.parametrize("profile", PROFILES)
    def test_one_challenge_opens_a_whole_script(self, profile: str) -> None:
        """A-7: each secured command goes on from the last one's block, over keys and applications."""
        terminal = at_blank(profile)
        terminal.sent.clear()
        terminal.initialise()
        assert terminal.authenticate(0, NEW_TRANSPORT_KEY) == "9000"
        terminal.select("SSSE")
        assert terminal.authenticate(4, key_of("SSSE/UKssse")) == "9000"
        terminal.sw("00A4020002EF06")
        assert terminal.secured("84DC0A00", b"\x0a\x012", key_of("SSSE/UKssse")) == "9000"
        assert terminal.sent.count("0084000008") == 1

    def test_a_failure_ends_the_chain(self) -> None:
        terminal = personalised()
        terminal.challenge()
        start = terminal.start
        assert terminal.authenticate(4, key_of("wrong")) == "63CE"
        terminal.start = start
        assert terminal.authenticate(4, key_of("SSSE/UKssse")) == "6984"

    def test_nothing_can_be_replayed(self) -> None:
        terminal = personalised()
        terminal.sw("00A4020002EF06")
        terminal.challenge()
        assert terminal.secured("84DC0A00", b"\x0a\x012", key_of("SSSE/UKssse")) == "9000"
        again = terminal.sent[-1]
        assert terminal.sw(again) == "6988"
        terminal.challenge()
        assert terminal.sw(again) == "6988"

    def test_a_reset_forgets_the_challenge(self) -> None:
        terminal = personalised()
        terminal.challenge()
        terminal.card.power_on()
        terminal.select("SSSE")
        assert terminal.authenticate(4, key_of("SSSE/UKssse")) == "6984"

    def test_without_chaining_each_command_needs_its_own(self) -> None:
        """The classic card: the same commands with a GET CHALLENGE before each."""
        layout = replace(LAYOUTS[SM4], chaining=False)
        card = VirtualCard(blank_memory(SERIAL, SM4, PUBLIC_TEST_KEY, PUBLIC_TEST_KEY), layout=layout)
        terminal = Terminal(card)
        terminal.select("SSSE")
        terminal.challenge()
        assert terminal.write_key(4, key_of("a")) == "9000"
        assert terminal.write_key(5, key_of("b")) == "6984"
        terminal.challenge()
        assert terminal.write_key(5, key_of("b")) == "9000"
        terminal.challenge()
        assert [terminal.authenticate(4, key_of("a")) for _ in range(2)] == ["9000", "6984"]


class TestAuthentication:
    @pytest.mark.parametrize("profile", PROFILES)
    def test_the_card_proves_its_irk(self, profile: str) -> None:
        """card.md §3: `00 88 00 keyid 10 factor data`."""
        terminal = personalised(profile)
        factor = b"\x21" * 8
        made = authenticate(terminal.algorithm, key_of("SSSE/IRK"), factor, DATA)
        assert terminal.raw(b"\x00\x88\x00\x00\x10" + factor + DATA).sw == 0x6108
        assert terminal.send(b"\x00\x88\x00\x00\x10" + factor + DATA) == (
            made.cryptogram.hex().upper(),
            "9000",
        )

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("0088000410" + "00" * 16, "6985"),  # only IRK answers
            ("0088009910" + "00" * 16, "6A88"),
            ("0088010010" + "00" * 16, "6A86"),
            ("008800000F" + "00" * 15, "6700"),
            ("0082000010" + "00" * 16, "6985"),  # IRK, BK and PUK do not authenticate the terminal
            ("0082000510" + "00" * 16, "6985"),
            ("0082000610" + "00" * 16, "6985"),
            ("0082000910" + "00" * 16, "6A88"),
            ("0082010410" + "00" * 16, "6A86"),
            ("0082000408" + "00" * 8, "6700"),
        ],
    )
    def test_what_is_refused(self, command: str, sw: str) -> None:
        terminal = personalised()
        terminal.challenge()
        assert terminal.sw(command) == sw

    def test_tries_run_down_to_the_lock_and_a_success_gives_them_back(self) -> None:
        """63Cx, then 6983 also for the right key."""
        terminal = personalised()
        wrong = []
        for _ in range(3):
            terminal.challenge()
            wrong.append(terminal.authenticate(4, key_of("wrong")))
        terminal.challenge()
        right = terminal.authenticate(4, key_of("SSSE/UKssse"))
        for _ in range(15):
            terminal.challenge()
            wrong.append(terminal.authenticate(4, key_of("wrong")))
        terminal.challenge()
        locked = terminal.authenticate(4, key_of("SSSE/UKssse"))
        assert (wrong[:3], right, wrong[-1], locked) == (["63CE", "63CD", "63CC"], "9000", "63C0", "6983")

    def test_a_failure_takes_the_proof_away(self) -> None:
        terminal = personalised(DES)
        terminal.challenge()
        terminal.authenticate(4, key_of("SSSE/UKssse"))
        terminal.challenge()
        terminal.authenticate(4, key_of("wrong"))
        assert terminal.sw("00DC0A30030A0131") == "6982"

    def test_a_key_proves_itself_in_its_own_application_only(self) -> None:
        terminal = personalised()
        terminal.select("DF02")
        terminal.challenge()
        assert terminal.authenticate(0x83, key_of("DF01/UK1")) == "63CE"

    def test_keys_of_another_city_open_nothing(self) -> None:
        """R-25: a city's keys are its own."""
        terminal = Terminal(issued_card(masters=sample_masters()))
        terminal.select("SSSE")
        terminal.challenge()
        assert terminal.authenticate(4, sample_masters("other")["SSSE/UKssse"]) == "63CE"


class TestMac:
    def test_a_wrong_mac_takes_a_try_and_changes_nothing(self) -> None:
        terminal = personalised()
        before = dict(terminal.card.memory.files)
        found = []
        for _ in range(16):
            terminal.sw("00A4020002EF06")
            terminal.challenge()
            found.append(terminal.secured("84DC0A00", b"\x0a\x012", key_of("SSSE/UKssse"), spoil=True))
        assert found == ["6988"] * 15 + ["6983"]
        assert terminal.card.memory.files == before

    def test_a_changed_header_or_byte_is_noticed(self) -> None:
        """A-5: the MAC covers CLA, INS, P1, P2, Lc and data."""
        terminal = personalised()
        terminal.sw("00A4020002EF06")
        terminal.challenge()
        terminal.secured("84DC0A00", b"\x0a\x012", key_of("SSSE/UKssse"), spoil=True)
        whole = bytearray.fromhex(terminal.sent[-1])
        whole[-4] ^= 1
        for at in (0, 2, 3, 7):
            terminal.challenge()
            changed = bytearray(whole)
            changed[at] ^= {0: 0x80, 2: 0x01, 3: 0x04, 7: 0x01}[at]
            assert terminal.sw(bytes(changed)) == "6988"

    def test_a_key_of_type_7_makes_no_mac(self) -> None:
        """card.md §3: type 7 encrypts, type 8 makes MACs as well."""
        layout = LAYOUTS[SM4]
        df02 = layout.application("DF02")
        file = replace(df02.files[0], write="UK1")
        changed = replace(df02, files=(file, *df02.files[1:]))
        rest = tuple(changed if one.name == "DF02" else one for one in layout.applications)
        memory = personalised().card.memory
        terminal = Terminal(VirtualCard(memory, layout=replace(layout, applications=rest)))
        terminal.select("DF02")
        terminal.sw("00A4020002EF05")
        terminal.challenge()
        assert terminal.secured("84DC4200", b"\x42\x03abc", key_of("DF02/UK1")) == "9406"

    def test_before_its_key_is_there_a_file_has_no_mac(self) -> None:
        terminal = at_blank()
        terminal.sw("00A4020002EF06")
        terminal.challenge()
        assert terminal.secured("84DC0A00", b"\x0a\x012", key_of("SSSE/UKssse")) == "9406"
        assert terminal.sw("84DC0A000100") == "6700"

    def test_both_classes_with_a_mac_are_taken(self) -> None:
        terminal = personalised()
        terminal.sw("00A4020002EF06")
        terminal.challenge()
        assert terminal.secured("04DC0A00", b"\x0a\x011", key_of("SSSE/UKssse")) == "9000"
        assert terminal.secured("84DC0A00", b"\x0a\x012", key_of("SSSE/UKssse")) == "9000"


class TestWriteKey:
    def block(self, terminal: Terminal, **changes: int) -> bytes:
        fields = {"usage": 0x28, "algorithm": terminal.algorithm.value, "version": 1, "tries": 15} | changes
        return bytes(fields.values()) + key_of("k")

    @pytest.mark.parametrize(
        "changes",
        [
            {"usage": 0x27},  # UKssse is of type 8
            {"usage": 0x08 | 0x10},
            {"algorithm": 2},
            {"version": 0},
            {"tries": 0},
            {"tries": 16},
        ],
    )
    @pytest.mark.parametrize("profile", PROFILES)
    def test_a_wrong_block_is_refused(self, profile: str, changes: dict[str, int]) -> None:
        terminal = at_blank(profile)
        sealed = seal(terminal.algorithm, PUBLIC_TEST_KEY, self.block(terminal, **changes))
        assert terminal.secured("84D40104", sealed, PUBLIC_TEST_KEY) == "6A80"
        assert set(terminal.card.memory.keys) == {"MF/00"}

    @pytest.mark.parametrize("plain", [b"", b"short", bytes(20) + b"\x01"])
    def test_a_block_of_another_length_is_refused(self, plain: bytes) -> None:
        terminal = at_blank()
        sealed = seal(Algorithm.SM4, PUBLIC_TEST_KEY, plain)
        assert terminal.secured("84D40104", sealed, PUBLIC_TEST_KEY) == "6A80"

    def test_bad_padding_and_broken_blocks_are_refused(self) -> None:
        terminal = at_blank()
        assert terminal.secured("84D40104", b"\x11" * 32, PUBLIC_TEST_KEY) == "6A80"
        terminal.challenge()
        assert terminal.secured("84D40104", b"\x11" * 31, PUBLIC_TEST_KEY) == "6A80"
        terminal.challenge()
        assert terminal.secured("84D40104", b"", PUBLIC_TEST_KEY) == "6A80"

    @pytest.mark.parametrize(
        ("head", "sw"),
        [("80D40104", "6987"), ("84D40004", "6A86"), ("84D40199", "6A88"), ("84D4010A", "9000")],
    )
    def test_class_parameters_and_id(self, head: str, sw: str) -> None:
        terminal = at_blank()
        sealed = seal(Algorithm.SM4, PUBLIC_TEST_KEY, self.block(terminal))
        assert terminal.secured(head, sealed, PUBLIC_TEST_KEY) == sw

    def test_another_transport_key_loads_nothing(self) -> None:
        """A blank of another lot."""
        terminal = Terminal(blank_card(SERIAL, transport_key=key_of("lot")))
        terminal.select("SSSE")
        terminal.challenge()
        assert terminal.write_key(4, key_of("k")) == "6988"
        terminal.challenge()
        assert terminal.write_key(4, key_of("k"), transport=key_of("lot")) == "9000"

    def test_a_new_card_has_keys_loaded_again_until_it_is_closed(self) -> None:
        terminal = at_blank()
        assert terminal.write_key(4, key_of("first")) == "9000"
        assert terminal.write_key(4, key_of("SSSE/UKssse")) == "9000"
        assert terminal.authenticate(4, key_of("SSSE/UKssse")) == "9000"


class TestLifeCycle:
    @pytest.mark.parametrize("profile", PROFILES)
    def test_blank_initialised_personalised(self, profile: str) -> None:
        """R-25: initialization ends with the transport key's replacement, and the default is dead."""
        terminal = Terminal(blank_card(SERIAL, profile=profile), LAYOUTS[profile].algorithm)
        seen = [state(terminal)]
        terminal.initialise(close=False)
        seen.append(state(terminal))
        terminal.select("MF")
        assert terminal.write_key(0, NEW_TRANSPORT_KEY, usage=0x08) == "9000"
        assert terminal.authenticate(0, NEW_TRANSPORT_KEY) == "9000"
        assert terminal.authenticate(0, PUBLIC_TEST_KEY) == "63CE"
        seen.append(state(terminal))
        assert seen == ["01", "03", "05"]

    def test_the_end_needs_every_key_and_another_transport_key(self) -> None:
        terminal = at_blank()
        terminal.select("MF")
        assert terminal.write_key(0, NEW_TRANSPORT_KEY, usage=0x08) == "6985"
        terminal.initialise(close=False)
        terminal.select("MF")
        assert terminal.write_key(0, PUBLIC_TEST_KEY, usage=0x08) == "6A80"
        terminal.challenge()
        assert terminal.write_key(0, NEW_TRANSPORT_KEY, usage=0x07) == "6A80"
        assert state(terminal) == "03"

    def test_a_personalised_card_takes_no_keys(self) -> None:
        """R-25: nobody loads keys into a card that is out."""
        terminal = personalised()
        before = terminal.card.memory.to_bytes()
        for transport in (PUBLIC_TEST_KEY, NEW_TRANSPORT_KEY):
            terminal.challenge()
            assert terminal.write_key(4, key_of("mine"), transport=transport) == "6985"
        assert terminal.card.memory.to_bytes() == before

    def test_the_default_transport_key_replaces_nothing_any_more(self) -> None:
        terminal = personalised()
        terminal.select("MF")
        terminal.challenge()
        assert terminal.write_key(0, key_of("mine"), usage=0x08) == "6988"

    @pytest.mark.parametrize("name", ["DF03", "DF04"])
    def test_an_application_is_blocked_and_unblocked_under_its_lock_key(self, name: str) -> None:
        terminal = personalised()
        terminal.select(name)
        terminal.challenge()
        assert terminal.secured("841E0000", b"", key_of(f"{name}/LK")) == "9000"
        terminal.sw("00A4020002EF06")
        assert terminal.sw("00B2010416") == "9303"
        terminal.select("DF01")
        terminal.sw("00A4020002EF08")
        assert terminal.sw("00B22B0003") == "9000"
        terminal.select(name)
        terminal.challenge()
        assert terminal.secured("84180000", b"", key_of(f"{name}/LK")) == "9000"
        terminal.sw("00A4020002EF06")
        assert terminal.sw("00B2010400") in {"9000", "6982"}

    def test_a_blocked_environment_blocks_all_its_applications(self) -> None:
        terminal = personalised()
        terminal.challenge()
        assert terminal.secured("841E0000", b"", key_of("SSSE/BK")) == "9000"
        assert state(terminal) == "04"
        terminal.select("DF01")
        assert terminal.sw("0020000003123456") == "9303"
        terminal.challenge()
        assert terminal.authenticate(0x83, key_of("DF01/UK1")) == "9303"
        terminal.select("SSSE")
        terminal.challenge()
        assert terminal.secured("84180000", b"", key_of("SSSE/BK")) == "9000"
        assert state(terminal) == "05"

    def test_a_blocked_card_is_blocked_for_ever(self) -> None:
        terminal = personalised()
        terminal.challenge()
        assert terminal.secured("84160000", b"", key_of("SSSE/BK")) == "9000"
        assert state(terminal) == "0C"
        assert terminal.sw("0084000008") == "9303"
        assert terminal.secured("84180000", b"", key_of("SSSE/BK")) == "9303"
        assert terminal.sw("00A4040008A000000333010101") == "9000"
        assert terminal.sw("8050000008" + "00" * 8) == "9303"

    @pytest.mark.parametrize(
        ("name", "head", "body", "sw"),
        [
            ("DF01", "841E0000", b"", "6A88"),  # no lock key
            ("DF03", "84160000", b"", "6A88"),  # a card is blocked from SSSE
            ("SSSE", "841E0100", b"", "6A86"),
            ("SSSE", "841E0000", b"x", "6700"),
        ],
    )
    def test_what_blocks_nothing(self, name: str, head: str, body: bytes, sw: str) -> None:
        terminal = personalised()
        terminal.select(name)
        terminal.challenge()
        assert terminal.secured(head, body, key_of("SSSE/BK")) == sw
        assert state(terminal) == "05"


def test_secrets_do_not_show(capsys: pytest.CaptureFixture[str]) -> None:
    """R-45: no key, PIN or person in a repr."""
    memory = issued_card().memory
    shown = repr(memory) + repr(list(memory.keys.values())) + repr(memory.pin) + repr(memory.payment)
    for secret in (*(key.value for key in memory.keys.values()), b"\x12\x34\x56", b"440600190001010005"):
        assert repr(secret)[2:-1] not in shown
