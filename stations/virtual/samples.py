"""Cards as they lie about: blank, issued, used, of another city, of another kind, locked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stations.transport.base import Response
from stations.virtual.card import PUBLIC_TEST_KEY, VirtualCard, blank_memory
from stations.virtual.chip import TRANSPORT_PLACE
from stations.virtual.faults import Fault
from stations.virtual.hierarchy import MASTER_PLACES, card_keys
from stations.virtual.layout import LAYOUTS, CardLayout, Structure, place
from stations.virtual.memory import PERSONALISED, Memory, StoredKey, StoredPin, file_path

SERIAL = bytes.fromhex("5649525400000001")
AREA, OTHER_AREA = "440600", "440300"
PIN = bytes.fromhex("123456")
KEY_TRIES = 15
RESOURCE = bytes.fromhex("D156000005")
NAME_SIZE = 30


@dataclass(frozen=True, slots=True)
class SampleHolder:
    """An invented person and card; dates as YYYYMMDD, the number's check digit wrong on purpose."""

    number: str = field(default="440600190001010005", repr=False)
    name: str = field(default="虚拟·测试卡", repr=False)
    sex: str = "1"
    ethnicity: str = "01"
    birth_area: str = AREA
    birth_on: str = field(default="19000101", repr=False)
    card_number: str = "V00000001"
    issue_on: str = "20260101"
    expires_on: str = "20360101"
    initialiser: str = "440600000001"
    area: str = AREA


SAMPLE_HOLDER = SampleHolder()


def sample_masters(seed: str = "virtual") -> dict[str, bytes]:
    """Return invented masters by full name; everybody can make those of a seed: they protect nothing."""
    return {name: hashlib.sha256(f"{seed} {name}".encode()).digest()[:16] for name in MASTER_PLACES}


def issued_card(
    serial: bytes = SERIAL,
    *,
    profile: str = "sssc-3.0-sm4",
    holder: SampleHolder = SAMPLE_HOLDER,
    masters: Mapping[str, bytes] | None = None,
    faults: Iterable[Fault] = (),
) -> VirtualCard:
    """Return a personalised card: keys of the holder's city, data, PIN 123456."""
    return VirtualCard(issued_memory(serial, profile, holder, masters or sample_masters()), faults=faults)


def issued_memory(serial: bytes, profile: str, holder: SampleHolder, masters: Mapping[str, bytes]) -> Memory:
    """Return the memory of a personalised card."""
    layout = LAYOUTS[profile]
    memory = blank_memory(serial, profile, PUBLIC_TEST_KEY, PUBLIC_TEST_KEY)
    keys = card_keys(layout, masters, holder.area, serial)
    for application in layout.applications:
        for key in application.keys:
            value = keys.get(f"{application.name}/{key.name}")
            if value is not None:
                usage = MASTER_PLACES[f"{application.name}/{key.name}"].usage
                stored = StoredKey(usage, layout.algorithm, 1, KEY_TRIES, KEY_TRIES, value)
                memory.keys[place(application.name, key.key_id)] = stored
    memory.keys[TRANSPORT_PLACE].value = hashlib.sha256(b"replaced" + serial).digest()[:16]
    memory.pin, memory.state = StoredPin(PIN), PERSONALISED
    _write_holder(memory, layout, holder)
    return memory


def wrong_type_card() -> ForeignCard:
    """Return a card of another kind."""
    return ForeignCard()


def used_card(serial: bytes = SERIAL) -> VirtualCard:
    """Return a card that somebody has already."""
    return issued_card(serial)


def other_city_card(serial: bytes = SERIAL) -> VirtualCard:
    """Return a personalised card of another city."""
    return issued_card(serial, holder=SampleHolder(birth_area=OTHER_AREA, area=OTHER_AREA))


def locked_pin_card(serial: bytes = SERIAL) -> VirtualCard:
    """Return a personalised card whose PIN has no try left."""
    card = issued_card(serial)
    card.memory.pin = StoredPin(PIN, tries=0)
    return card


def sample_card(*, protected: bool = False) -> VirtualCard:
    """Return the invented person's card: of 2.0 and so freely read, or of 3.0, read after RKssse."""
    return issued_card(profile="sssc-3.0-sm4" if protected else "sssc-2.0-3des")


class ForeignCard:
    """A card of another kind: it answers, but has nothing that a social security card has."""

    atr = bytes.fromhex("3B6500002063CB6A00")

    def power_on(self) -> bytes:
        """Return its own ATR."""
        return self.atr

    def process(self, tpdu: bytes) -> Response:
        """Find no application."""
        selecting = tpdu[1:2] == b"\xa4"
        return Response(b"", 0x6A82 if selecting else 0x6D00)


def _write_holder(memory: Memory, layout: CardLayout, holder: SampleHolder) -> None:
    identifier = bytes.fromhex(holder.area) + RESOURCE + memory.serial
    name, extension = _split(holder.name)
    version = "3.00" if layout.announces else "2.00"
    texts: dict[int, bytes] = {
        0x01: identifier,
        0x03: version.encode(),
        0x04: bytes.fromhex(holder.initialiser),
        0x05: bytes.fromhex(holder.issue_on),
        0x06: bytes.fromhex(holder.expires_on),
        0x07: holder.card_number.encode(),
        0x08: holder.number.encode(),
        0x09: name,
        0x4E: extension,
        0x0A: holder.sex.encode(),
        0x0B: bytes.fromhex(holder.ethnicity),
        0x0C: bytes.fromhex(holder.birth_area),
        0x0D: bytes.fromhex(holder.birth_on),
    }
    for file in layout.application("SSSE").files:
        if file.structure is Structure.RECORDS:
            path = file_path("SSSE", file.fid)
            memory.files[path] = [
                texts.get(tag, b"").ljust(length, bytes((padding,))) for tag, length, padding in file.records
            ]


def _split(name: str) -> tuple[bytes, bytes]:
    """Fill tag 09 with whole characters; the rest goes to 4E."""
    first = b""
    for position, character in enumerate(name):
        encoded = character.encode("gb18030")
        if len(first) + len(encoded) > NAME_SIZE:
            return first, name[position:].encode("gb18030")
        first += encoded
    return first, b""
