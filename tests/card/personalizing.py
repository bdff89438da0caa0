"""One card's personalization without a portal: a job, a virtual card, and the scripts run on it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from portal.samples.photos import draw_bust, encode_to_weight
from production.personalization.card_work import CardJob, CardResponse
from production.personalization.chip import build_chip
from production.personalization.holder import CardHolder, build_card_identifier
from production.personalization.keys import card_factor, city_keys, derive_card_keys
from production.personalization.payment import PaymentData
from production.personalization.payment_data import (
    PaymentAccount,
    build_payment,
    parse_bank_groups,
    sample_bank_groups,
)
from production.personalization.profile import CardProfile, load_profile
from production.personalization.script_commands import Script
from production.personalization.scripts import identify, personalize
from stations.transport.virtual import VirtualTransport
from stations.virtual.card import SmartCard, blank_card
from tests.production.personalization.people import HOLDER

PROFILES = ("sssc-3.0-sm4", "sssc-2.0-3des")
SERIAL = bytes.fromhex("0000000A00000007")
KT, OWN_KT, KMC = (bytes(range(n, n + 16)) for n in (0x10, 0xA0, 0x60))
ATR = bytes.fromhex("3B6D00008153534320") + SERIAL
BANK_MASTERS = {"kmc": KMC, "ac": bytes(range(16)), "mac": bytes(range(1, 17)), "enc": bytes(range(2, 18))}


@functools.cache
def photo() -> bytes:
    """Return an invented face as a record holds it."""
    return encode_to_weight(draw_bust("personalization"))


def payment(account: str = "6228480012345678") -> PaymentData:
    """Return an invented bank's data for one account."""
    groups = parse_bank_groups(sample_bank_groups("B01"))
    own = PaymentAccount(account, HOLDER.issue_on, HOLDER.expires_on)
    return build_payment(groups, own, BANK_MASTERS)


@functools.cache
def card_keys(code: str, serial: bytes, city: str) -> Mapping[str, bytes]:
    """Return all keys of one card, from masters that these tests made up."""
    profile = load_profile(code)
    masters = {key.full_name: sha256(key.full_name.encode()).digest()[:16] for key in profile.keys}
    at_city = city_keys(masters, profile, city)
    return derive_card_keys(at_city, [card_factor(ATR[:9] + serial)], profile.algorithm).of(0)


def make_job(code: str = PROFILES[0], person: CardHolder = HOLDER, **changes: Any) -> CardJob:
    """Return the job of a person's card, without photo and payment application unless given."""
    profile: CardProfile = load_profile(code)
    job = CardJob(
        profile=profile,
        chip=build_chip(person, profile, build_card_identifier("440600", SERIAL)),
        keys=card_keys(code, SERIAL, "440600"),
        atr=ATR,
        city_code="440600",
        transport_key=KT,
        new_transport_key=OWN_KT,
        pin="123456",
    )
    return dataclasses.replace(job, **changes)


def make_blank(code: str = PROFILES[0], **options: Any) -> SmartCard:
    """Return the blank that `make_job` expects."""
    return blank_card(SERIAL, profile=code, **({"transport_key": KT, "kmc": KMC} | options))


def powered(card: SmartCard) -> VirtualTransport:
    """Return a reader with the card in it, powered up."""
    transport = VirtualTransport(card)
    transport.connect()
    return transport


def run(transport: VirtualTransport, script: Script) -> list[CardResponse]:
    """Send a script as an agent does: it stops at the first status word that is not expected."""
    responses = []
    for command in script:
        answer = transport.transmit(command.apdu)
        responses.append(CardResponse(answer.data, answer.sw))
        if answer.sw not in command.expect:
            break
    return responses


@dataclasses.dataclass
class Made:
    """A card with its second script, what was remembered of it and what the card answered."""

    job: CardJob
    card: SmartCard
    script: Script
    memory: bytes
    responses: list[CardResponse]


def make_card(job: CardJob, card: SmartCard | None = None) -> Made:
    """Personalize a blank as far as it goes."""
    card = card or make_blank(job.profile.code)
    transport = powered(card)
    first, memory = identify(job)
    script, memory = personalize(job, memory, run(transport, first))
    responses = run(transport, script)
    transport.disconnect()
    return Made(job, card, script, memory, responses)
