"""The virtual card's payment application: EMV CPS from INITIALIZE UPDATE to STORE DATA (§7 of its page)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stations.virtual.card import PUBLIC_TEST_KEY, VirtualCard, blank_card, blank_memory
from stations.virtual.cipher import Algorithm, encrypt, encrypt_chained
from stations.virtual.layout import LAYOUTS
from stations.virtual.payment import issuer_keys, retail_mac
from stations.virtual.samples import SERIAL
from tests.card.terminal import Terminal

DES = Algorithm.TRIPLE_DES
DEBIT, CREDIT = "A000000333010101", "A000000333010102"
HOST = bytes.fromhex("A1A2A3A4A5A6A7A8")
RECORD = "700A57080102030405060708"
KEYS = bytes.fromhex("000102030405060708090A0B0C0D0E0F") * 3


class Issuer:
    """The bank's side of CPS, at a card's payment application."""

    def __init__(self, card: VirtualCard, kmc: bytes = PUBLIC_TEST_KEY) -> None:
        self.terminal = Terminal(card)
        self.kmc = kmc
        self.number = 0
        self.chain = bytes(8)
        self.fci = self.terminal.send("00A4040008" + DEBIT)[0]

    def initialize(self) -> str:
        data, sw = self.terminal.send(b"\x80\x50\x00\x00\x08" + HOST)
        answer = bytes.fromhex(data)
        if sw != "9000":
            return sw
        self.counter, self.card_challenge, self.card_cryptogram = answer[12:14], answer[14:20], answer[20:]
        keys = issuer_keys(self.kmc, answer[:10])
        self.enc, self.mac, self.dek = (
            encrypt_chained(DES, key, bytes(8), bytes.fromhex(kind) + self.counter + bytes(12))
            for key, kind in zip(keys, ("0182", "0101", "0181"), strict=True)
        )
        self.number = 0
        return sw

    def cryptogram(self, *parts: bytes) -> bytes:
        return encrypt_chained(DES, self.enc, bytes(8), b"".join(parts) + b"\x80" + bytes(7))[-8:]

    def authenticate(self, level: int = 1) -> str:
        self.chain = bytes(8)
        proof = self.cryptogram(self.counter, self.card_challenge, HOST)
        return self.secured(bytes((0x84, 0x82, level, 0x00)), proof)

    def secured(self, head: bytes, body: bytes) -> str:
        header = head + bytes((len(body) + 8,))
        self.chain = retail_mac(self.mac, self.chain, header + body)
        return self.terminal.sw(header + body + self.chain)

    def store(
        self, groups: str, *, last: bool = False, sealed: bool = False, number: int | None = None
    ) -> str:
        p1 = (0x80 if last else 0) | (0x60 if sealed else 0)
        found = self.secured(
            bytes((0x84, 0xE2, p1, self.number if number is None else number)), bytes.fromhex(groups)
        )
        self.number += 1
        return found

    def begin(self) -> Issuer:
        assert (self.initialize(), self.authenticate()) == ("9000", "9000")
        return self


@pytest.fixture
def card() -> VirtualCard:
    return blank_card(SERIAL)


def group(number: str, content: str) -> str:
    return f"{number}{len(content) // 2:02X}{content}"


class TestSession:
    def test_the_card_proves_itself_first(self, card: VirtualCard) -> None:
        issuer = Issuer(card)
        data, _ = issuer.terminal.send(b"\x80\x50\x00\x00\x08" + HOST)
        assert data[:28] == "622848FFFFFF" + SERIAL[-4:].hex().upper() + "0102" + "0000"
        issuer.initialize()
        assert issuer.card_cryptogram == issuer.cryptogram(HOST, issuer.counter, issuer.card_challenge)

    def test_another_issuers_key_opens_nothing(self, card: VirtualCard) -> None:
        issuer = Issuer(card, kmc=bytes(16))
        issuer.initialize()
        assert issuer.card_cryptogram != issuer.cryptogram(HOST, issuer.counter, issuer.card_challenge)
        assert issuer.authenticate() == "6988"
        assert issuer.authenticate() == "6985"  # the session is over

    def test_a_wrong_host_cryptogram_under_a_right_mac(self, card: VirtualCard) -> None:
        issuer = Issuer(card)
        issuer.initialize()
        assert issuer.secured(b"\x84\x82\x01\x00", bytes(8)) == "6988"

    def test_the_counter_goes_up_with_each_session(self, card: VirtualCard) -> None:
        assert [Issuer(card).begin().counter.hex() for _ in range(3)] == ["0000", "0001", "0002"]

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("8050000007" + "00" * 7, "6700"),
            ("84820100" + "10" + "00" * 16, "6985"),
            ("80E2000005" + "0101020000", "6982"),
            ("80A80000028300", "6985"),
            ("80A80000020000", "6A80"),
            ("80A80100028300", "6A86"),
            ("00B2010C00", "6A83"),
            ("00B2010800", "6A86"),
            ("00D6000001FF", "6D00"),
        ],
    )
    def test_before_a_session(self, card: VirtualCard, command: str, sw: str) -> None:
        assert Issuer(card).terminal.sw(command) == sw

    def test_levels(self, card: VirtualCard) -> None:
        issuer = Issuer(card)
        issuer.initialize()
        assert issuer.authenticate(3) == "6A86"
        issuer.initialize()
        assert issuer.authenticate(0) == "9000"
        plain = group("0101", RECORD)
        assert issuer.terminal.sw(f"80E28000{len(plain) // 2:02X}{plain}") == "9000"

    def test_plain_data_is_refused_where_macs_were_agreed(self, card: VirtualCard) -> None:
        issuer = Issuer(card).begin()
        assert issuer.terminal.sw("80E28000050101020000") == "6982"
        assert card.memory.payment.groups == {}

    def test_a_wrong_mac_ends_the_session(self, card: VirtualCard) -> None:
        issuer = Issuer(card).begin()
        issuer.chain = bytes(8)
        assert [issuer.store(group("0101", RECORD)), issuer.store(group("0101", RECORD))] == ["6988", "6982"]
        assert card.memory.payment.groups == {}

    def test_selecting_ends_the_session(self, card: VirtualCard) -> None:
        issuer = Issuer(card).begin()
        issuer.terminal.select("SSSE")
        issuer.terminal.sw("00A4040008" + DEBIT)
        assert issuer.store(group("0101", RECORD)) == "6982"


class TestStoring:
    def test_from_blank_to_personalised(self, card: VirtualCard) -> None:
        """card.md §2, STORE DATA: records, FCI, AIP and AFL, encrypted keys with their check values, PIN."""
        issuer = Issuer(card).begin()
        sealed = encrypt(DES, issuer.dek, KEYS).hex().upper()
        checks = encrypt(DES, KEYS[:16], bytes(8))[:3].hex().upper() * 3
        options = "82021C0094040801010 0".replace(" ", "")
        assert issuer.store(group("0101", RECORD) + group("9102", "500450424F43870101")) == "9000"
        assert issuer.store(group("9104", options)) == "9000"
        assert issuer.store(group("8000", sealed), sealed=True) == "9000"
        assert issuer.store(group("9000", checks), last=True) == "9000"
        assert card.memory.payment.groups[0x8000] == KEYS
        assert issuer.terminal.send("00B2010C00") == (RECORD, "9000")
        assert issuer.terminal.send("80A80000028300") == (f"77{len(options) // 2:02X}{options}", "9000")
        again = Issuer(card)
        assert again.fci == "6F15" + f"8408{DEBIT}" + "A509500450424F43870101"
        assert [again.initialize(), again.terminal.sw("80E2000000")] == ["6985", "6985"]

    def test_check_values_that_do_not_agree_are_refused_at_the_end(self, card: VirtualCard) -> None:
        issuer = Issuer(card).begin()
        sealed = encrypt(DES, issuer.dek, KEYS).hex().upper()
        assert issuer.store(group("8000", sealed), sealed=True) == "9000"
        assert issuer.store(group("9000", "00" * 9), last=True) == "6A80"
        assert card.memory.payment.personalised is False

    @pytest.mark.parametrize(
        ("groups", "sw"),
        [("0101", "6A80"), ("010105AABB", "6A80"), ("", "6A80"), ("0101FF0003AABB", "6A80")],
    )
    def test_cut_groupings_are_refused(self, card: VirtualCard, groups: str, sw: str) -> None:
        assert Issuer(card).begin().store(groups) == sw
        assert card.memory.payment.groups == {}

    def test_sealed_data_comes_in_whole_blocks(self, card: VirtualCard) -> None:
        assert Issuer(card).begin().store(group("8000", "AA" * 7), sealed=True) == "6A80"

    def test_commands_are_numbered(self, card: VirtualCard) -> None:
        issuer = Issuer(card).begin()
        assert issuer.store(group("0101", RECORD), number=1) == "6A86"
        assert Issuer(card).begin().store(group("0101", RECORD), number=0) == "9000"


class TestDirectories:
    def test_pse_and_ppse_lead_to_the_application(self, card: VirtualCard) -> None:
        terminal = Terminal(card)
        entry = f"61104F08{DEBIT}500450424F43"
        assert terminal.send("00A404000E" + b"1PAY.SYS.DDF01".hex())[1] == "9000"
        assert terminal.send("00B2010C00") == (f"7012{entry}", "9000")
        assert terminal.sw("00B2020C00") == "6A83"
        data, sw = terminal.send("00A404000E" + b"2PAY.SYS.DDF01".hex())
        assert (data[-42:], sw) == (f"BF0C12{entry}", "9000")
        assert terminal.sw("00B2010C00") == "6A83"
        assert terminal.sw("8050000008" + "00" * 8) == "6D00"

    def test_a_credit_card_has_the_credit_application(self) -> None:
        layout = replace(LAYOUTS["sssc-3.0-sm4"], payment=bytes.fromhex(CREDIT))
        memory = blank_memory(SERIAL, layout.code, PUBLIC_TEST_KEY, PUBLIC_TEST_KEY)
        terminal = Terminal(VirtualCard(memory, layout=layout))
        assert [terminal.sw(f"00A4040008{aid}") for aid in (CREDIT, DEBIT)] == ["9000", "6A82"]
