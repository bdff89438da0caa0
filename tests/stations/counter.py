"""A counter of a bank with people, blanks and matched records, and an agent that makes cards in process."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rest_framework.test import APIClient

from orders.choices import RecordStatus
from orders.models import CardholderRecord, SupplierChoice
from portal.choices import Role
from portal.core.clock import today
from portal.models import User
from production.personalization.blank import chip_serial
from stations.models import Issuance, Station, StationBlank
from stations.services.blanks import decide_blanks, request_blanks
from stations.services.issuance import start_issuance
from stations.services.registry import enrol_station
from stations.transport.base import CardPulledError, CardSilentError, TransportError
from stations.transport.virtual import VirtualTransport
from stations.virtual.card import VirtualCard, blank_card
from stations.virtual.faults import Fault
from tests.production.world import World, build_world


@dataclass
class Counter:
    """A station run by the bank, with blanks in its drawer."""

    world: World
    station: Station
    credential: str = field(repr=False)
    operator: User
    supervisor: User
    security: User
    blanks: list[str]

    def record(self, count: int = 1) -> CardholderRecord:
        """Return a matched record that waits for its order; the last of `count`."""
        order = self.world.order(count)
        records = CardholderRecord.objects.filter(order=order)
        ids = list(records.values_list("pk", flat=True))
        records.update(status=RecordStatus.MATCHED, order=None)
        order.delete()
        return CardholderRecord.objects.select_related("package").get(pk=ids[-1])

    def blank(self) -> str:
        """Return the serial of the next unused blank."""
        return (
            StationBlank.objects.filter(status="available")
            .order_by("serial")
            .values_list("serial", flat=True)[0]
        )

    def start(self, record: CardholderRecord | None = None, serial: str | None = None) -> Issuance:
        """Start a card as the operator does."""
        return start_issuance(
            record or self.record(), station=self.station, serial=serial or self.blank(), actor=self.operator
        )

    def agent(self) -> Agent:
        """Return an agent of this station."""
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Station {self.station.code}:{self.credential}")
        return Agent(client)


@dataclass
class Agent:
    """What a station's agent does, by the real API and a virtual card, without process, queue or printer."""

    client: APIClient
    card: VirtualCard | None = None
    faulted: dict[str, Any] | None = None

    def post(self, issuance: Issuance, path: str, body: dict[str, Any]) -> Any:
        """Send one message and return its answer."""
        return self.client.post(f"/api/v1/station/issuances/{issuance.pk}/{path}", body, format="json")

    def insert(self, serial: str, *, faults: Iterable[Fault] = ()) -> VirtualCard:
        """Put a new blank with this serial into the reader."""
        self.card = blank_card(chip_serial(serial), faults=faults)
        return self.card

    def make(self, issuance: Issuance) -> dict[str, Any]:
        """Carry the whole exchange out and return the last answer."""
        assert self.card is not None
        transport = VirtualTransport(self.card)
        atr = transport.connect()
        answer = self.post(issuance, "begin", {"reader": "v", "atr": atr.hex()}).json()
        while "commands" in answer:
            body = self._run(transport, answer["commands"])
            answer = self.post(issuance, f"steps/{answer['step']}", body).json()
        transport.disconnect()
        return dict(answer)

    def _run(self, transport: VirtualTransport, commands: list[dict[str, Any]]) -> dict[str, Any]:
        responses: list[dict[str, Any]] = []
        for at, command in enumerate(commands):
            try:
                answer = transport.transmit(bytes.fromhex(command["apdu"]))
            except TransportError as exc:
                sent = isinstance(exc, CardPulledError | CardSilentError)
                fault = {"code": exc.code, "text": exc.message, "at": at, "sent": sent}
                return {"responses": responses, "fault": fault}
            responses.append(
                {
                    "answer": answer.data.hex(),
                    "sw": f"{answer.sw:04X}",
                    "reader_us": answer.microseconds,
                }
            )
            if f"{answer.sw:04X}" not in command["expect"]:
                break
        return {"responses": responses, "fault": None}

    def faces(self, issuance: Issuance) -> dict[str, bytes]:
        """Return the sides that the agent gets to print, in their order."""
        answer = self.client.get(f"/api/v1/station/issuances/{issuance.pk}/faces").json()
        return {each["side"]: b64decode(each["jpeg"]) for each in answer["faces"]}

    def print(self, issuance: Issuance, *states: str) -> Any:
        """Report the states of the print job, one after the other."""
        answer = None
        for state in states:
            answer = self.post(issuance, "print", {"state": state, "job_id": 7, "reasons": []})
        return answer


def make_counter(blanks: int = 6) -> Counter:
    """Set the counter up."""
    world = build_world()
    purchaser = world.clerk.organisation
    assert purchaser is not None
    station = Station.objects.create(code="c-1", name="一号柜台", place="佛山", operator=world.bank)
    security = _user("security", purchaser, Role.SECURITY_ADMINISTRATOR)
    station, credential = enrol_station(station, actor=security)
    supervisor = _user("supervisor", world.bank, Role.COUNTER_SUPERVISOR)
    operator = _user("counter", world.bank, Role.COUNTER_OPERATOR)
    SupplierChoice.objects.create(
        bank=world.bank, contract=world.contract, valid_from=today(), chosen_by=world.clerk
    )
    lot = world.lot(100, prefix="CT26A")
    request = request_blanks(station, lot, blanks, actor=supervisor)
    decide_blanks(request, approve=True, actor=world.keeper)
    serials = list(StationBlank.objects.order_by("serial").values_list("serial", flat=True))
    return Counter(world, station, credential, operator, supervisor, security, serials)


def commands_of(answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the phases of all commands."""
    for answer in answers:
        yield from (command["phase"] for command in answer.get("commands", []))


def _user(name: str, organisation: Any, role: Role) -> User:
    return User.objects.create(username=name, organisation=organisation, roles=[role])
