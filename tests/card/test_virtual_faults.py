"""Faults, images and sorts of virtual cards, and the program that plugs them in (§9 of its page)."""

from __future__ import annotations

import argparse
import io
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stations.virtual.card import VirtualCard, blank_card
from stations.virtual.cipher import Algorithm
from stations.virtual.faults import CardPulled, CardSilent, Fault, parse_fault
from stations.virtual.layout import LAYOUTS
from stations.virtual.memory import ImageError, Memory
from stations.virtual.program import Control, OptionError, add_options, keep_image, main, run
from stations.virtual.samples import (
    SERIAL,
    SampleHolder,
    issued_card,
    locked_pin_card,
    other_city_card,
    used_card,
    wrong_type_card,
)
from tests.card.terminal import PUBLIC_TEST_KEY, SSSE, Terminal

CHALLENGE = bytes.fromhex("0084000008")


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("mute@1", Fault("mute", 1)),
            ("pulled@12", Fault("pulled", 12)),
            ("pulled-after@3", Fault("pulled-after", 3)),
            ("memory@7", Fault("memory", 7)),
            ("status@3=6a82", Fault("status", 3, 0x6A82)),
            ("slow=20", Fault("slow", 20)),
        ],
    )
    def test_faults_are_read(self, text: str, fault: Fault) -> None:
        assert parse_fault(text) == fault

    @pytest.mark.parametrize(
        "text",
        ["", "mute", "mute@0", "mute@-1", "status@3", "mute@3=9000", "slow", "slow@3", "eat@1", "used"],
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match="not a fault"):
            parse_fault(text)

    def test_a_mute_card_answers_again_after_power(self) -> None:
        card = blank_card(SERIAL, faults=[parse_fault("mute@2")])
        assert card.process(CHALLENGE).sw == 0x9000
        for _ in range(2):
            with pytest.raises(CardSilent):
                card.process(CHALLENGE)
        card.power_on()
        assert [card.process(CHALLENGE).sw for _ in range(3)] == [0x9000] * 3

    def test_a_status_word_instead_of_the_command(self) -> None:
        card = blank_card(SERIAL, faults=[parse_fault("status@1=6F00")])
        assert [card.process(CHALLENGE).sw for _ in range(2)] == [0x6F00, 0x9000]

    def test_a_slow_card_takes_its_time(self) -> None:
        card = blank_card(SERIAL, faults=[parse_fault("slow=20")])
        begun = time.perf_counter()
        card.process(CHALLENGE)
        assert time.perf_counter() - begun >= 0.02

    @pytest.mark.parametrize(("fault", "done"), [("pulled", False), ("pulled-after", True)])
    def test_a_pulled_card_has_all_of_a_command_or_nothing(self, fault: str, done: bool) -> None:
        """Exactly once: whether the command was carried out shows only when the card is read again."""
        kept: list[bytes] = []
        memory = Memory.from_bytes(blank_card(SERIAL).memory.to_bytes())
        card = VirtualCard(memory, keep=kept.append)
        terminal = Terminal(card)
        terminal.select("SSSE")
        terminal.challenge()
        card.faults.add(parse_fault(f"{fault}@{len(terminal.sent) + 1}"))
        with pytest.raises(CardPulled):
            terminal.write_key(4, bytes(16))
        assert ("SSSE/04" in card.memory.keys) is done
        assert len(kept) == int(done)
        if done:
            assert "SSSE/04" in Memory.from_bytes(kept[0]).keys


class TestImage:
    @pytest.mark.parametrize("profile", LAYOUTS)
    def test_an_image_is_the_whole_card(self, profile: str) -> None:
        terminal = Terminal(blank_card(SERIAL, profile=profile), LAYOUTS[profile].algorithm)
        terminal.initialise()
        terminal.card.memory.payment.groups[0x0101] = b"\x70\x00"
        image = terminal.card.memory.to_bytes()
        again = Memory.from_bytes(image)
        assert again == terminal.card.memory
        assert again.to_bytes() == image

    @given(st.binary(max_size=80))
    def test_another_files_content_is_no_image(self, raw: bytes) -> None:
        with pytest.raises(ImageError):
            Memory.from_bytes(raw)

    @pytest.mark.parametrize("changed", [b'"format":2', b'"serial":"zz"', b'"keys":[]', b'"payment":{}'])
    def test_a_damaged_image_is_refused(self, changed: bytes) -> None:
        name = changed.partition(b":")[0]
        image = blank_card(SERIAL).memory.to_bytes()
        before, _, after = image.partition(name + b":")
        damaged = before + changed + b',"x":' + after
        with pytest.raises(ImageError):
            Memory.from_bytes(damaged)

    def test_reading_and_refusals_write_nothing(self) -> None:
        kept: list[bytes] = []
        card = VirtualCard(issued_card(profile="sssc-2.0-3des").memory, keep=kept.append)
        terminal = Terminal(card, Algorithm.TRIPLE_DES)
        terminal.select("SSSE")
        assert terminal.sw("00B2083014") == "9000"
        assert terminal.sw("00DC0A30030A0131") == "6982"
        assert kept == []
        assert terminal.sw("0020000003000000") == "63C5"
        assert Memory.from_bytes(kept[0]).pin == card.memory.pin

    def test_a_file_is_replaced_whole_and_private(self, tmp_path: Path) -> None:
        target = tmp_path / "card.image"
        for content in (b"one", b"two"):
            keep_image(target, content)
        assert target.read_bytes() == b"two"
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert list(tmp_path.iterdir()) == [target]


class TestSorts:
    def read(self, card: VirtualCard, command: str) -> str:
        terminal = Terminal(card, Algorithm.TRIPLE_DES)
        terminal.sw("00A404000F" + SSSE)
        return terminal.send(command)[0]

    def test_a_wrong_card_has_no_social_security(self) -> None:
        card = wrong_type_card()
        assert card.power_on() != issued_card().atr
        assert card.process(bytes.fromhex("00A404000F" + SSSE)).sw == 0x6A82
        assert card.process(CHALLENGE).sw == 0x6D00

    def test_a_used_card_says_so(self) -> None:
        assert self.read(used_card(), "00A404000F" + SSSE).partition("8A01")[2][:2] == "05"

    def test_a_card_of_another_city_carries_its_code(self) -> None:
        """卡识别码 begins with the city."""
        memory = other_city_card().memory
        assert memory.files["SSSE/EF05"][0].hex().upper() == "440300D156000005" + SERIAL.hex().upper()

    def test_a_locked_pin_stays_locked(self) -> None:
        terminal = Terminal(locked_pin_card())
        terminal.select("SSSE")
        assert terminal.sw("0020000003123456") == "6983"

    @pytest.mark.parametrize("length", [1, 15, 16, 25])
    def test_a_long_name_is_never_split_within_a_character(self, length: int) -> None:
        """card.md §1: 30 + 20 bytes."""
        name = ("䶮" + "欧" * 24)[:length]
        memory = issued_card(holder=SampleHolder(name=name)).memory
        first, rest = memory.files["SSSE/EF06"][1], memory.files["SSSE/EF06"][2]
        assert first.rstrip(b"\0").decode("gb18030") + rest.rstrip(b"\0").decode("gb18030") == name


class TestProgram:
    def options(self, *arguments: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        add_options(parser)
        return parser.parse_args(["--port", "9", *arguments])

    def serve(self, *arguments: str, orders: str = "quit\n") -> list[str]:
        """Run in this thread's place with orders that end it, and return the replies."""
        replies = io.StringIO()
        assert run(self.options(*arguments), orders=io.StringIO(orders), replies=replies) == 0
        return replies.getvalue().splitlines()

    def test_each_slot_says_its_card(self) -> None:
        lines = self.serve("--serial", "0000000A00000007", "--slots", "2", "--psam")
        assert lines == [
            "slot 9 3B6D000081535343200000000A00000007",
            "slot 10 3B6D000081535343200000000A00000008",
            "slot 11 3B6D0000815053414D5053414D00000001",
            "ok quit",
        ]

    def test_serials_are_random_and_unique(self) -> None:
        first, second = (self.serve()[0] for _ in range(2))
        assert first != second

    def test_orders(self) -> None:
        orders = "pull\ninsert\nnew\nfault mute@3\nfault eat@3\npull 7\n\ndance\nquit\n"
        lines = self.serve(orders=orders)[1:]
        assert lines[:4] == ["ok pull", "ok insert", "ok new", "ok fault"]
        assert [line.split()[0] for line in lines[4:]] == ["error", "error", "error", "error", "ok"]

    def test_an_image_is_begun_and_taken_up_again(self, tmp_path: Path) -> None:
        image = tmp_path / "card"
        first = self.serve("--image", str(image))
        assert stat.S_IMODE(image.stat().st_mode) == 0o600
        assert self.serve("--image", str(image)) == first
        assert Memory.from_bytes(image.read_bytes()).serial.hex().upper() == first[0][-16:]

    @pytest.mark.parametrize("sort", ["wrong-type", "used", "test-key", "other-city", "locked-pin"])
    def test_sorts_of_cards(self, sort: str) -> None:
        assert self.serve("--fault", sort)[0].startswith("slot 9 3B6")

    def test_a_lots_transport_key_comes_from_a_file(self, tmp_path: Path) -> None:
        file, image = tmp_path / "key", tmp_path / "card"
        file.write_text("F0" * 16 + "\n")
        self.serve("--transport-key-file", str(file), "--image", str(image))
        key = Memory.from_bytes(image.read_bytes()).keys["MF/00"].value
        assert key == b"\xf0" * 16 != PUBLIC_TEST_KEY

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--serial", "12"),
            ("--serial", "zz" * 8),
            ("--fault", "eat@1"),
            ("--fault", "used", "--fault", "wrong-type"),
            ("--transport-key-file", "/nonexistent"),
            ("--transport-key-file", __file__),
            ("--image", __file__),
        ],
    )
    def test_bad_options_are_named(self, arguments: tuple[str, ...]) -> None:
        with pytest.raises(OptionError, match=arguments[0]):
            run(self.options(*arguments), orders=io.StringIO(), replies=io.StringIO())
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2

    def test_no_order_line_ends_the_control_thread(self) -> None:
        replies = io.StringIO()
        Control([], None, threading.Event(), replies).listen(["pull 1 2 3\n", "fault\n", "insert x\n"])  # type: ignore[arg-type]
        assert [line.split()[0] for line in replies.getvalue().splitlines()] == ["error"] * 3
