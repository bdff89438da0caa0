"""Where the card's keys come from: PSAM usage and id of each, and derivation (virtual-card.md §2, §8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stations.virtual.cipher import Algorithm, diversify
from stations.virtual.layout import CardLayout

_TABLE = """
SSSE IRK 67 08, SSSE UKssse 28 12, SSSE BK 28 11, SSSE PUK 28 10, SSSE RK 48 5D, SSSE RKssse 67 00,
DF01 UK1 28 42, DF01 UK2 28 43, DF01 UK3 27 24, DF01 UK4 27 25, DF01 UK5 28 44,
DF02 UK1 27 26, DF02 UK2 28 45, DF02 UK3 28 46, DF02 UK4 27 27, DF02 UK5 27 28,
DF03 LK 28 40, DF03 RK1 67 2B, DF03 RK2 67 2C, DF03 UK1 28 47, DF03 UK2 28 29, DF03 UK3 28 48,
DF04 LK 28 41, DF04 RK1 67 2D, DF04 UK1 28 49, DF04 UK2 27 2A, DF04 UK4 28 54, DF04 UK6 28 5C
"""


@dataclass(frozen=True, slots=True)
class MasterPlace:
    """Usage byte and id of a key in the PSAM."""

    usage: int
    psam_id: int

    @property
    def levels(self) -> int:
        """Count the derivations down to the card: 1 card, 2 city and card, 3 province, city and card."""
        return self.usage >> 5


def _read_table() -> dict[str, MasterPlace]:
    rows = (entry.split() for entry in _TABLE.split(","))
    return {f"{app}/{name}": MasterPlace(int(usage, 16), int(key, 16)) for app, name, usage, key in rows}


MASTER_PLACES: Mapping[str, MasterPlace] = _read_table()
"""By application and name, e.g. `DF03/RK1`; that of RKssse is assumed (A-20)."""


def factors(area: str, card_factor: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the factors of province, city and card for a 6-digit area code."""
    return f"{area[:2]}0000sh".encode(), f"{area}sx".encode(), card_factor


def derive(algorithm: Algorithm, master: bytes, steps: Sequence[bytes]) -> bytes:
    """Go down one level for each factor."""
    for factor in steps:
        master = diversify(algorithm, master, factor)
    return master


def card_keys(
    layout: CardLayout, masters: Mapping[str, bytes], area: str, card_factor: bytes
) -> dict[str, bytes]:
    """Return a card's keys by full name from the masters that the PSAM would hold."""
    steps = factors(area, card_factor)
    found = {}
    for application in layout.applications:
        for key in application.keys:
            name = f"{application.name}/{key.name}"
            if name in MASTER_PLACES:
                levels = MASTER_PLACES[name].levels
                found[name] = derive(layout.algorithm, masters[name], steps[3 - levels :])
    return found
