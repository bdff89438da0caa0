"""The virtual card's PIN: first one, tries, unblocking, change (§5 of its page)."""

from __future__ import annotations

import pytest

from stations.virtual.card import blank_card
from stations.virtual.cipher import Algorithm, seal
from stations.virtual.samples import SERIAL
from tests.card.terminal import Terminal, key_of, personalised


class TestPin:
    RIGHT, WRONG = "0020000003123456", "0020000003654321"

    def test_a_blank_has_none_and_gets_its_first_under_puk(self) -> None:
        terminal = Terminal(blank_card(SERIAL))
        terminal.initialise(pin=False, close=False)
        terminal.select("SSSE")
        assert terminal.sw(self.RIGHT) == "6A88"
        assert terminal.set_pin() == "9000"
        assert terminal.sw(self.RIGHT) == "9000"

    def test_tries_run_down_and_puk_gives_them_back(self) -> None:
        terminal = personalised()
        found = [terminal.sw(self.WRONG) for _ in range(6)]
        assert found == ["63C5", "63C4", "63C3", "63C2", "63C1", "63C0"]
        assert [terminal.sw(self.RIGHT), terminal.sw("00200000")] == ["6983", "6983"]
        terminal.challenge()
        assert terminal.secured("84240000", b"", key_of("SSSE/PUK")) == "9000"
        assert terminal.sw("00200000") == "63C6"
        assert [terminal.sw(self.RIGHT), terminal.sw("0020000000")] == ["9000", "9000"]

    def test_reset_sets_another(self) -> None:
        terminal = personalised()
        terminal.challenge()
        assert terminal.set_pin("98765F") == "9000"
        assert [terminal.sw(self.RIGHT), terminal.sw("002000000398765F")] == ["63C5", "9000"]

    @pytest.mark.parametrize("value", ["12", "1F2345", "12345678901234", "ABCDEF", "FFFFFF"])
    def test_what_is_no_pin_is_not_set(self, value: str) -> None:
        terminal = personalised()
        terminal.challenge()
        assert terminal.set_pin(value) == "6A80"
        assert terminal.sw(self.RIGHT) == "9000"

    def test_a_wrong_puk_resets_nothing(self) -> None:
        terminal = personalised()
        terminal.challenge()
        sealed = seal(Algorithm.SM4, key_of("wrong"), bytes.fromhex("111111"))
        assert terminal.secured("84240001", sealed, key_of("wrong")) == "6988"
        assert terminal.sw(self.RIGHT) == "9000"

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("805E010007123456FF112233", "9000"),
            ("805E010007654321FF112233", "63C5"),
            ("805E010007123456FFFFFFFF", "6A80"),
            ("805E010003123456", "6A80"),
            ("805E000007123456FF112233", "6A86"),
            ("005E010007123456FF112233", "6E00"),
            ("0020000103123456", "6A86"),
            ("8424000204" + "00" * 4, "6A86"),
        ],
    )
    def test_change(self, command: str, sw: str) -> None:
        terminal = personalised()
        assert terminal.sw(command) == sw
        assert terminal.sw("0020000003112233") == (
            "9000" if sw == "9000" else "63C4" if "63" in sw else "63C5"
        )

    def test_the_pin_lasts_over_applications_until_reset(self) -> None:
        terminal = personalised()
        assert terminal.sw(self.RIGHT) == "9000"
        terminal.select("DF04")
        assert terminal.sw("00200000") == "9000"
        terminal.card.power_on()
        terminal.select("SSSE")
        assert terminal.sw("00200000") == "63C6"

    def test_a_wrong_pin_takes_the_proof_away(self) -> None:
        terminal = personalised()
        terminal.sw(self.RIGHT)
        terminal.sw(self.WRONG)
        assert terminal.sw("00200000") == "63C5"

    @pytest.mark.parametrize(
        ("name", "sw"), [("MF", "6A88"), ("504B492EC9E7BBE1B1A3D5CF", "6A88"), ("DF01", "9000")]
    )
    def test_where_a_pin_is_known(self, name: str, sw: str) -> None:
        terminal = personalised()
        terminal.select(name)
        assert terminal.sw(self.RIGHT) == sw

    def test_puk_is_in_the_environment_only(self) -> None:
        terminal = personalised()
        terminal.select("DF01")
        terminal.challenge()
        assert terminal.secured("84240000", b"", key_of("SSSE/PUK")) == "6A88"
