"""From an issuance to what is written to its card: opened from the sealed machine file, never kept (R-25)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from orders.models import CardholderRecord
from orders.personal import read_photo
from portal.core.errors import InputRefusedError
from portal.core.keystore import KeyMissingError
from portal.files import cipher, keystore, read_sealed
from production.files import line_cipher
from production.models import Card
from production.personalization.chip import ChipContent
from production.personalization.keys import card_factor, diversify, split_block
from production.personalization.machinefile import (
    MachineCard,
    MachineFileError,
    MachineFileReader,
    MachineHeader,
)
from production.personalization.profile import load_profile
from production.personalization.scripts import CardJob
from production.services.machine_files import renderer
from production.services.payment import payment_of
from stations.models import Issuance, Station

TRANSPORT = "transport"
PUBLIC_TRANSPORT_KEY = bytes(range(0x40, 0x50))
"""What makers leave on test blanks (GlobalPlatform's public key): never accepted in production (R-25)."""


class TransportKeyMissingError(InputRefusedError):
    """A lot whose maker's transport key nobody imported."""

    code = "transport_key_missing"


def card_job(issuance: Issuance) -> CardJob:
    """Open everything about the issuance's card."""
    card = issuance.card
    made, header = _machine_card(card)
    chip = ChipContent.from_bytes(made.chip)
    # The version the card was prepared for, should CARD_PROFILE have changed since.
    profile = load_profile(chip.profile_code)
    return CardJob(
        profile=profile,
        chip=chip,
        keys=split_block(tuple(header.key_names), made.keys),
        atr=bytes.fromhex(card.atr),
        city_code=settings.CITY_CODE,
        transport_key=lot_transport_key(card),
        new_transport_key=own_transport_key(card, profile.algorithm),
        photo=_photo(card.item.record),
        payment=payment_of(card),
        pin=settings.CARD_INITIAL_PIN,
        accept_test_keys=not settings.PRODUCTION,
    )


def face_of(issuance: Issuance) -> bytes:
    """Return the rendered back of the issuance's card."""
    return _machine_card(issuance.card)[0].face


def front_of(issuance: Issuance) -> bytes:
    """Return the front that belongs to the back: of the layout the card was prepared with; nobody's data."""
    return front(_machine_card(issuance.card)[1].face_template)


@lru_cache(maxsize=4)
def front(template: str) -> bytes:
    """Return the front of a layout as JPEG at 300 DPI, the same for all its cards."""
    return renderer(template).render_front()


def sides_to_print(issuance: Issuance) -> list[str]:
    """Return the sides a printer is to print, in the order of its pages (R-17)."""
    return ["front", "back"] if issuance.prints_front else ["back"]


def sides_at(station: Station) -> list[str]:
    """Return the sides a station's printer prints of its next cards: the front may come printed."""
    return ["back"] if station.front_is_preprinted else ["front", "back"]


def print_order(issuance: Issuance) -> dict[str, Any]:
    """Return what the agent is told to print: one card, as one job."""
    return {"sides": sides_to_print(issuance), "copies": 1}


def _machine_card(card: Card) -> tuple[MachineCard, MachineHeader]:
    run = card.machine_file
    place = _places(run.stored_name, run.batch.key_id, bytes(run.digest or b"")).get(card.serial)
    if place is None:
        raise MachineFileError("机器文件中没有这张白卡", where=card.serial)
    with read_sealed(run.stored_name, run.batch.key_id) as sealed:
        reader = MachineFileReader(io.BufferedReader(sealed), line_cipher(run.batch))
        return reader.card_at(place), reader.header


@lru_cache(maxsize=16)
def _places(name: str, key_id: str, _digest: bytes) -> Mapping[str, int]:
    """Return where the cards of a machine file stand; a feeder asks for each of up to 200 four times."""
    with read_sealed(name, key_id) as sealed:
        return MachineFileReader(io.BufferedReader(sealed), cipher(key_id)).places()


def _photo(record: CardholderRecord | None) -> bytes:
    return (read_photo(record) if record is not None else None) or b""


def lot_transport_key(card: Card) -> bytes:
    """Return the key that the maker left on a lot's blanks; imported by two people as `transport-<lot>`."""
    try:
        return keystore().master_key(f"{TRANSPORT}-{card.lot.number}")
    except KeyMissingError:
        if settings.PRODUCTION:
            raise TransportKeyMissingError(_("该白卡批的传输密钥尚未导入"), where=card.lot.number) from None
        return PUBLIC_TRANSPORT_KEY


def own_transport_key(card: Card, algorithm: str = "sm4") -> bytes:
    """Return the key that replaces it on this one card, derived from our own master (R-25)."""
    store = keystore()
    try:
        master = store.master_key(TRANSPORT)
    except KeyMissingError:
        if settings.PRODUCTION:
            raise
        store.generate_test_masters([TRANSPORT])
        master = store.master_key(TRANSPORT)
    return diversify(master, card_factor(bytes.fromhex(card.atr)), algorithm)
