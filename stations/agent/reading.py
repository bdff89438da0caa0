"""Read a card's own and its holder's data, as every counter does first (R-24)."""

from __future__ import annotations

import hmac
import os
import time
from dataclasses import dataclass

from portal.core.errors import PortalError
from production.personalization.chip import ChipValues, parse_chip
from production.personalization.keys import card_factor, city_factor, province_factor
from production.personalization.profile import CardProfile
from stations.transport.base import Transport
from stations.transport.commands import (
    challenge,
    external_authenticate,
    internal_authenticate,
    psam_cryptogram,
    read_tag,
    select_environment,
    select_file,
)

ENVIRONMENT = "SSSE"
FILES = ("SSSE/EF05", "SSSE/EF06")
NEEDED = ("card_identifier", "number", "name")


RANDOM_SIZE = 8


class CardContentError(PortalError):
    """A card that answers, but whose content is not a card's."""

    code = "card_content"


class ForeignCardError(PortalError):
    """A card that cannot prove itself."""

    code = "card_foreign"


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, personal, and how long it took from power-up on."""

    values: ChipValues
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Terminal:
    """The terminal's own card, and the city whose cards it serves: the cards' keys depend on it."""

    psam: Transport
    area: str


def read_card(transport: Transport, profile: CardProfile, terminal: Terminal | None = None) -> Reading:
    """Power the card up, read EF05 and EF06 tag by tag and decode them; the card is powered down after.

    With a terminal the card and the PSAM prove themselves to each other first, as protected files want it.
    """
    started = time.perf_counter()
    factor = card_factor(transport.connect())
    try:
        environment = next(found for found in profile.applications if found.name == ENVIRONMENT)
        select_environment(transport, environment.aid)
        if terminal is not None:
            _prove(transport, profile, terminal, factor)
        values = parse_chip(_read_files(transport, profile), profile)
    finally:
        transport.disconnect()
    absent = [name for name in NEEDED if not values.by_source.get(name)]
    if absent:
        raise CardContentError("卡片缺少数据项", got="、".join(absent))
    return Reading(values, round((time.perf_counter() - started) * 1000))


def _prove(transport: Transport, profile: CardProfile, terminal: Terminal, factor: bytes) -> None:
    """Have the card prove itself to the PSAM and the PSAM to the card; raise CommandRefusedError."""
    factors = factor + city_factor(terminal.area) + province_factor(terminal.area)
    keys = {key.name: key for key in profile.keys if key.application == ENVIRONMENT}
    irk, rk = keys["IRK"], keys.get("RKssse")
    terminal.psam.connect()
    try:
        drawn, text = os.urandom(RANDOM_SIZE), os.urandom(RANDOM_SIZE)
        expected = psam_cryptogram(terminal.psam, irk.usage, irk.psam_id, factors + drawn, text)
        if not hmac.compare_digest(internal_authenticate(transport, irk.key_id, drawn + text), expected):
            raise ForeignCardError("卡片不能证明自己是本市的社会保障卡")
        if rk is not None:
            drawn = challenge(transport)
            proof = psam_cryptogram(terminal.psam, rk.usage, rk.psam_id, factors + drawn, text)
            external_authenticate(transport, rk.key_id, proof + text)
    finally:
        terminal.psam.disconnect()


def _read_files(transport: Transport, profile: CardProfile) -> dict[str, bytes]:
    read: dict[str, bytes] = {}
    for path, file in profile.files():
        if path in FILES:
            select_file(transport, file.file_id)
            read[path] = b"".join(read_tag(transport, f.tag, f.length) for f in file.fields)
    return read
