"""What a card version has: applications, files, access conditions, keys (virtual-card.md §3 to §5).

Typed from the card's facts, not taken from the portal's card profile, so that the two can disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain

from stations.virtual.cipher import Algorithm

Condition = tuple[frozenset[str], ...]
"""Alternatives, each a set of what must all be given: `PIN` or names of keys; one empty set means free."""

FREE: Condition = (frozenset(),)
TRANSPORT = "KT"
ENCRYPTION_KEY, MAC_KEY = 7, 8


class Structure(Enum):
    """How a file is addressed."""

    RECORDS = "records"
    CYCLIC = "cyclic"
    TRANSPARENT = "transparent"


@dataclass(frozen=True, slots=True)
class FileLayout:
    """One EF: `records` are tag, length and padding byte each; `size` is that of a body or cyclic record."""

    fid: int
    structure: Structure
    read: Condition
    write: str
    records: tuple[tuple[int, int, int], ...] = ()
    size: int = 0

    def blank(self) -> list[bytes]:
        """Return the content that the maker leaves."""
        if self.structure is Structure.RECORDS:
            return [bytes((padding,)) * length for _, length, padding in self.records]
        return [] if self.structure is Structure.CYCLIC else [bytes(self.size)]


@dataclass(frozen=True, slots=True)
class KeyLayout:
    """One key of an application; `types` are the key types that its place accepts."""

    name: str
    key_id: int
    types: frozenset[int]


@dataclass(frozen=True, slots=True)
class ApplicationLayout:
    """One application with its files and keys; `fid` 0 means none."""

    name: str
    aid: bytes
    fid: int
    files: tuple[FileLayout, ...]
    keys: tuple[KeyLayout, ...] = ()
    locked_by: str = ""

    def key(self, name: str) -> KeyLayout | None:
        """Return a key by its name."""
        return next((key for key in self.keys if key.name == name), None)

    def key_at(self, key_id: int) -> KeyLayout | None:
        """Return a key by its id."""
        return next((key for key in self.keys if key.key_id == key_id), None)


@dataclass(frozen=True, slots=True)
class CardLayout:
    """A card version; `chaining` as in A-7, `announces` whether the FCI names the algorithm."""

    code: str
    algorithm: Algorithm
    applications: tuple[ApplicationLayout, ...]
    announces: bool = True
    chaining: bool = True
    payment: bytes = bytes.fromhex("A000000333010101")

    def application(self, name: str) -> ApplicationLayout:
        """Return an application by its name; raise KeyError."""
        return {application.name: application for application in self.applications}[name]

    def key_places(self) -> frozenset[str]:
        """Name every key an initialised card has, as `SSSE/04`; the transport key is not among them."""
        return frozenset(
            place(application.name, key.key_id)
            for application in self.applications
            if application.name != "MF"
            for key in application.keys
        )


def place(application: str, key_id: int) -> str:
    """Return where a key lies, e.g. `DF03/84`."""
    return f"{application}/{key_id:02X}"


def condition(text: str) -> Condition:
    """Read `PIN and RK1`, `PIN or UK2`, a single name, or nothing for free."""
    if not text:
        return FREE
    return tuple(frozenset(part.split(" and ")) for part in text.split(" or "))


def _records(fid: int, spec: str, write: str, read: str = "") -> FileLayout:
    """Read `TAG:length` in the record order; n after the length means cn, padded F."""
    found = []
    for item in spec.split():
        tag, _, length = item.partition(":")
        found.append((int(tag, 16), int(length.rstrip("n")), 0xFF if length.endswith("n") else 0x00))
    return FileLayout(fid, Structure.RECORDS, condition(read), write, tuple(found))


def _body(fid: int, size: int, write: str, read: str = "") -> FileLayout:
    return FileLayout(fid, Structure.TRANSPARENT, condition(read), write, size=size)


def _cyclic(fid: int, size: int, write: str) -> FileLayout:
    return FileLayout(fid, Structure.CYCLIC, FREE, write, size=size)


def _keys(spec: str) -> tuple[KeyLayout, ...]:
    """Read `NAME:id:type`; the type may be left out where the facts name none."""
    found = []
    for item in spec.split():
        name, key_id, *types = item.split(":")
        allowed = frozenset(int(kind) for kind in types) or frozenset({ENCRYPTION_KEY, MAC_KEY})
        found.append(KeyLayout(name, int(key_id, 16), allowed))
    return tuple(found)


def _social_environment(*, third: bool) -> ApplicationLayout:
    """Return SSSE; a third-generation card has tag 4E, RKssse, and reads EF05 to EF07 only after it."""
    guard = "RKssse" if third else ""
    holder = f"08:18 09:30 {'4E:20 ' if third else ''}0A:1 0B:1n 0C:3n 0D:4n"
    files = (
        _records(0xEF05, "01:16n 02:1 03:4 04:12n 05:4n 06:4n 07:9", "UKssse", guard),
        _records(0xEF06, holder, "UKssse", guard),
        _body(0xEF07, 1024, "UKssse", guard),
        _body(0xEF08, 4096, "UKssse"),
        _body(0xEF0C, 64, "UKssse", "RK"),
        _records(0xEF0D, "EA:12 EB:3n EC:1 ED:1", "UKssse"),
    )
    keys = "IRK:00:7 UKssse:04:8 BK:05:8 PUK:06:8 RK:07:8" + (" RKssse:0A" if third else "")
    aid = bytes.fromhex("7378312E73682EC9E7BBE1B1A3D5CF")
    return ApplicationLayout("SSSE", aid, 0xDDF1, files, _keys(keys), locked_by="BK")


def _public() -> ApplicationLayout:
    files = (
        _records(0xEF05, "20:2 21:80 0E:3n", "UK1", "PIN"),
        _records(0xEF06, "23:80 24:3n 28:15 2C:50 2D:15", "UK1"),
        _records(0xEF07, "29:1", "UK1", "PIN or UK2"),
        _records(0xEF08, "2B:1", "UK1"),
        _records(0xEF09, "2E:70 30:9 32:2", "UK1", "PIN or UK2"),
        _records(0xEF0A, "37:3 38:2 39:4n", "UK1"),
        _records(0xEF15, "2A:1n 40:52", "UK1"),
        *(_body(fid, 128, "UK1") for fid in range(0xEF16, 0xEF1B)),
    )
    keys = _keys("UK1:83:8 UK2:84:8 UK3:85:7 UK4:86:7 UK5:87:8")
    return ApplicationLayout("DF01", bytes.fromhex("D15600000500"), 0xDF01, files, keys)


def _employment() -> ApplicationLayout:
    files = (
        _records(0xEF05, "42:3 41:3n 43:3 44:3", "UK2"),
        _records(0xEF06, "4C:4n 4B:5 4D:3n 60:4n 4F:6 50:3n 3A:7", "UK2"),
        _cyclic(0xEF07, 85, "UK2"),
        _records(0xEF09, "55:16 56:70 96:4n 97:3n", "UK2"),
        _records(0xEF15, "0F:4n 1F:3n 99:3", "UK2"),
        _cyclic(0xEF16, 18, "UK2"),
    )
    keys = _keys("UK1:83:7 UK2:84:8 UK3:85:8 UK4:86:7 UK5:87:7")
    return ApplicationLayout("DF02", bytes.fromhex("D15600000501"), 0xDF02, files, keys)


def _insurance_one() -> ApplicationLayout:
    files = (
        _records(0xEF05, "61:3n 98:4n 62:4n 63:3 64:3 65:3 66:3", "UK1", "PIN and RK1"),
        _records(0xEF06, "45:20 46:2 47:2 48:1 49:1 67:4n 6B:60 4A:1", "UK1"),
        _records(0xEF07, "70:3 71:3n 6E:4n 6C:4n 6F:4n 73:4n", "UK1", "PIN and RK1"),
    )
    keys = _keys("LK:83:8 RK1:84:7 RK2:85:7 UK1:86:8 UK2:87:8 UK3:88:8")
    return ApplicationLayout("DF03", bytes.fromhex("D15600000502"), 0xDF03, files, keys, locked_by="LK")


def _insurance_two() -> ApplicationLayout:
    nine = " ".join(f"{tag}:9" for tag in "83 86 89 7D 7E 7F 8D 8E".split())
    files = (
        _records(0xEF05, f"81:8 84:3n 87:17 8C:1n 80:4n 8B:29 8A:15 {nine} 8F:1", "UK1"),
        _records(0xEF06, "90:1 92:4n 93:2", "UK1", "PIN and RK1"),
    )
    keys = _keys("LK:83:8 RK1:84:7 UK1:85:8 UK2:86:7 UK4:88:8 UK6:87:8")
    return ApplicationLayout("DF04", bytes.fromhex("D15600000503"), 0xDF04, files, keys, locked_by="LK")


def _certificates() -> tuple[ApplicationLayout, ...]:
    environment = ApplicationLayout("PKI", bytes.fromhex("504B492EC9E7BBE1B1A3D5CF"), 0, ())
    files = tuple(_body(fid, size, TRANSPORT) for fid, size in ((0x12, 256), (0x18, 2048), (0x19, 2048)))
    return environment, ApplicationLayout("ADF1", bytes.fromhex("53532E434552542E41444631"), 0, files)


def _layout(code: str, algorithm: Algorithm, *, third: bool) -> CardLayout:
    master = ApplicationLayout("MF", b"", 0x3F00, (), _keys(f"{TRANSPORT}:00:8"))
    social = (_social_environment(third=third), _public(), _employment(), _insurance_one(), _insurance_two())
    others = _certificates() if third else ()
    return CardLayout(code, algorithm, tuple(chain((master,), social, others)), announces=third)


LAYOUTS: Mapping[str, CardLayout] = {
    "sssc-3.0-sm4": _layout("sssc-3.0-sm4", Algorithm.SM4, third=True),
    "sssc-2.0-3des": _layout("sssc-2.0-3des", Algorithm.TRIPLE_DES, third=False),
}
CYCLIC_RECORDS = 10
