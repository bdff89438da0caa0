"""The terminal's side of the virtual card's protocol: secured commands, authentications, initialization."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from stations.transport.base import Response
from stations.virtual.card import PUBLIC_TEST_KEY, VirtualCard, blank_card
from stations.virtual.cipher import Algorithm, authenticate, mac, seal
from stations.virtual.layout import LAYOUTS
from stations.virtual.samples import SERIAL

SSSE = "7378312E73682EC9E7BBE1B1A3D5CF"
AIDS = {"SSSE": SSSE, **{f"DF0{n}": f"D156000005{n - 1:02X}" for n in range(1, 5)}}
NEW_TRANSPORT_KEY = bytes.fromhex("F0E1D2C3B4A5968778695A4B3C2D1E0F")
DATA = bytes.fromhex("1112131415161718")


def key_of(name: str) -> bytes:
    """Return the key that these tests load under a name such as `DF01/UK1`."""
    return hashlib.sha256(name.encode()).digest()[:16]


@dataclass
class Terminal:
    """Speaks T=0 to a card and follows its freshness value."""

    card: VirtualCard
    algorithm: Algorithm = Algorithm.SM4
    start: bytes = b""
    sent: list[str] = field(default_factory=list)

    def raw(self, command: str | bytes) -> Response:
        tpdu = bytes.fromhex(command) if isinstance(command, str) else command
        self.sent.append(tpdu.hex().upper())
        return self.card.process(tpdu)

    def send(self, command: str | bytes) -> tuple[str, str]:
        """Send a command, follow 6Cxx and 61xx, return data and status word as digits."""
        tpdu = bytes.fromhex(command) if isinstance(command, str) else command
        answer = self.raw(tpdu)
        if answer.sw >> 8 == 0x6C:
            answer = self.raw(tpdu[:4] + bytes((answer.sw & 0xFF,)))
        data = answer.data
        while answer.sw >> 8 == 0x61:
            answer = self.raw(bytes((0, 0xC0, 0, 0, answer.sw & 0xFF)))
            data += answer.data
        return data.hex().upper(), f"{answer.sw:04X}"

    def sw(self, command: str | bytes) -> str:
        return self.send(command)[1]

    def select(self, name: str) -> str:
        """Select an application by name; MF by file id."""
        if name == "MF":
            return self.sw("00A40000023F00")
        aid = bytes.fromhex(AIDS.get(name, name))
        return self.sw(bytes((0, 0xA4, 4, 0, len(aid))) + aid)

    def challenge(self) -> bytes:
        got = bytes.fromhex(self.send("0084000008")[0])
        self.start = got.ljust(self.algorithm.block, b"\0")
        return got

    def secured(self, head: str, body: bytes, key: bytes, *, spoil: bool = False) -> str:
        """Send a secured command (CLA INS P1 P2 in head) and return its status word."""
        header = bytes.fromhex(head) + bytes((len(body) + 4,))
        made = mac(self.algorithm, key, self.start or bytes(self.algorithm.block), header + body)
        value = bytes((made.value[0] ^ 1, *made.value[1:])) if spoil else made.value
        sw = self.sw(header + body + value)
        self.start = made.chain if sw == "9000" else b""
        return sw

    def authenticate(self, key_id: int, key: bytes) -> str:
        """Authenticate externally with the present freshness value."""
        made = authenticate(self.algorithm, key, self.start[:8].ljust(8, b"\0"), DATA)
        sw = self.sw(bytes((0, 0x82, 0, key_id, 16)) + made.cryptogram + DATA)
        self.start = made.chain if sw == "9000" else b""
        return sw

    def write_key(
        self,
        key_id: int,
        value: bytes,
        *,
        usage: int = 0x28,
        transport: bytes = PUBLIC_TEST_KEY,
        tries: int = 15,
    ) -> str:
        block = bytes((usage, self.algorithm.value, 1, tries)) + value
        return self.secured(f"84D401{key_id:02X}", seal(self.algorithm, transport, block), transport)

    def set_pin(self, digits: str = "123456") -> str:
        puk = key_of("SSSE/PUK")
        return self.secured("84240001", seal(self.algorithm, puk, bytes.fromhex(digits)), puk)

    def initialise(self, *, close: bool = True, pin: bool = True) -> None:
        """Load every key, set the PIN, replace the transport key: from one challenge."""
        layout = LAYOUTS[self.card.memory.profile]
        self.challenge()
        for application in layout.applications:
            if application.name != "MF" and application.keys:
                assert self.select(application.name) == "9000"
                for key in application.keys:
                    usage = 0x27 if min(key.types) == 7 else 0x28
                    name = f"{application.name}/{key.name}"
                    assert self.write_key(key.key_id, key_of(name), usage=usage) == "9000", name
        if pin:
            self.select("SSSE")
            assert self.set_pin() == "9000"
        if close:
            self.select("MF")
            assert self.write_key(0, NEW_TRANSPORT_KEY, usage=0x08) == "9000"


def personalised(profile: str = "sssc-3.0-sm4") -> Terminal:
    """Return a terminal at an initialised and closed card with the PIN 123456, reset, in SSSE."""
    terminal = Terminal(blank_card(SERIAL, profile=profile), LAYOUTS[profile].algorithm)
    terminal.initialise()
    terminal.card.power_on()
    terminal.select("SSSE")
    return terminal
