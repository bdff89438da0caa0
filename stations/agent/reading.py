"""Read a card's own and its holder's data, as every counter does first (R-24)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from portal.core.errors import PortalError
from production.personalization.chip import ChipValues, parse_chip
from production.personalization.profile import CardProfile
from stations.transport.base import Transport
from stations.transport.commands import read_tag, select_environment, select_file

ENVIRONMENT = "SSSE"
FILES = ("SSSE/EF05", "SSSE/EF06")
NEEDED = ("card_identifier", "number", "name")


class CardContentError(PortalError):
    """A card that answers, but whose content is not a card's."""

    code = "card_content"


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, personal, and how long it took from power-up on."""

    values: ChipValues
    milliseconds: int


def read_card(transport: Transport, profile: CardProfile) -> Reading:
    """Power the card up, read EF05 and EF06 tag by tag and decode them; the card is powered down after."""
    started = time.perf_counter()
    transport.connect()
    try:
        values = parse_chip(_read_files(transport, profile), profile)
    finally:
        transport.disconnect()
    absent = [name for name in NEEDED if not values.by_source.get(name)]
    if absent:
        raise CardContentError("卡片缺少数据项", got="、".join(absent))
    return Reading(values, round((time.perf_counter() - started) * 1000))


def _read_files(transport: Transport, profile: CardProfile) -> dict[str, bytes]:
    environment = next(found for found in profile.applications if found.name == ENVIRONMENT)
    select_environment(transport, environment.aid)
    read: dict[str, bytes] = {}
    for path, file in profile.files():
        if path in FILES:
            select_file(transport, file.file_id)
            read[path] = b"".join(read_tag(transport, f.tag, f.length) for f in file.fields)
    return read
