"""A counter whose agent reports, and the browser of its operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.test import Client

from orders.models import CardholderRecord
from orders.personal import open_name, open_number
from portal.core.clock import today
from portal.samples.banks import BankSpec
from portal.samples.people import SamplePerson, people
from portal.samples.photos import draw_bust, encode_to_weight
from stations.models import Issuance, Station
from stations.services.cases import CasePerson
from stations.services.registry import Report, note_heartbeat
from tests.portal.desk import sign_in
from tests.production.world import BANK, POINTS
from tests.stations.counter import Counter

READER = {"name": "ACS ACR39U 00 00", "card": "none"}
PRINTER: dict[str, Any] = {
    "name": "card", "state": "idle", "reasons": [], "supplies": [{"name": "YMCKO", "level": 80}],
}  # fmt: skip
ADDRESS = "/admin/counter/"


def report(station: Station, **devices: Any) -> None:
    """Let the station's agent report, all well unless told otherwise."""
    said = {"readers": [READER], "printer": PRINTER, "running": None, **devices}
    note_heartbeat(station, Report("就绪", "就绪", "1.0", devices=said))
    station.refresh_from_db()


def browser_of(counter: Counter, *, user: Any = None) -> Client:
    """Return the browser of the counter's operator, its station reporting."""
    report(counter.station)
    return sign_in(user or counter.operator)


def number_and_name(record: CardholderRecord) -> tuple[str, str]:
    """Return what the person says at the counter."""
    return open_number(record), open_name(record)


def found(client: Client, record: CardholderRecord) -> Any:
    """Look for the record's person; return the page where the blank is chosen."""
    return client.post(f"{ADDRESS}find/", {"number": number_and_name(record)[0], "name": ""})


def started(client: Client, record: CardholderRecord, serial: str) -> Any:
    """Find the person and start a card on a blank."""
    token = found(client, record).context["token"]
    return client.post(f"{ADDRESS}start/", {"person": token, "serial": serial})


def made(counter: Counter, issuance: Issuance, *states: str) -> Issuance:
    """Let the agent in process make the card and report its print job."""
    agent = counter.agent()
    agent.insert(issuance.card.serial)
    agent.make(issuance)
    agent.print(issuance, *(states or ("submitted", "processing", "completed")))
    issuance.refresh_from_db()
    return issuance


def newcomer(place: int = 900_001) -> SamplePerson:
    """Return an invented person of whom the programme has no record."""
    (person,) = people(1, 7, [BankSpec(BANK, "工商银行", POINTS)], issue_date=today(), start=place)
    return replace(person, card_kind="finished")


def photo() -> bytes:
    """Return a photo as cards take it."""
    return encode_to_weight(draw_bust("newcomer"))


def entered(place: int = 900_001, **changes: str) -> CasePerson:
    """Return what a counter enters for a newcomer, changed as told."""
    codes = (
        "seq AAC002 AAC003 AAC004 AAC005 AAC006 AAC058 AAB301 AAE008 branch employer_code employer_name "
        "issue_kind card_kind AAZ500 issue_date expiry_date"
    ).split()
    row = dict(zip(codes, newcomer(place).row(1), strict=True))
    del row["seq"]
    return CasePerson({**row, **changes}, photo(), "6222021234567890123")
