"""A supplier's station with a feeder, and its agent in this process: real messages, virtual cards."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
from django.core.cache import caches
from requests.adapters import BaseAdapter
from rest_framework.test import APIClient

from portal.choices import OrganisationKind, Role
from portal.models import Organisation, User
from production.models import Batch, Card
from production.personalization.blank import chip_serial
from stations.agent.bench import Bench
from stations.agent.client import PortalClient
from stations.agent.feeding import feed_batch
from stations.agent.journal import Journal
from stations.agent.reader import ScriptFault, ScriptResult
from stations.agent.reader_process import may_have_been_sent
from stations.models import FeederRun, Station
from stations.printing.printer import Printer
from stations.services.feeding import continue_feeder, start_feeder
from stations.services.registry import Report, enrol_station, note_heartbeat
from stations.transport.base import CardSilentError, NoCardError, ReaderGoneError, TransportError
from stations.transport.virtual import VirtualTransport
from stations.virtual.card import SmartCard, blank_card
from stations.virtual.faults import parse_fault
from tests.production.world import World, build_world

READERS = {"readers": [{"name": "送卡器", "card": "none"}], "printer": None}
PRINTER = {"name": "P", "state": "idle", "reasons": [], "supplies": []}


class Killed(BaseException):
    """What kill -9 is to the code it hits."""


class Direct(BaseAdapter):
    """Carries the agent's requests to the portal's views without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.lost: list[str] = []  # paths whose next answer does not arrive

    def send(self, request: Any, **_options: Any) -> requests.Response:  # type: ignore[override]
        """Ask the view; the answer of a lost path is thrown away after the view did its work."""
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=request.headers["Authorization"])
        body = json.loads(request.body) if request.body else None
        call = client.get if request.method == "GET" else client.post
        found = call(request.path_url, body, format="json")
        self.sent.append(request.path_url)
        if part := next((part for part in self.lost if part in request.path_url), ""):
            self.lost.remove(part)
            raise requests.ConnectionError
        answer = requests.Response()
        answer.status_code, answer.raw = found.status_code, io.BytesIO(found.content)
        answer.headers.update(found.headers)
        return answer

    def close(self) -> None:
        """Do nothing."""


def direct_client(code: str, credential: str) -> tuple[PortalClient, Direct]:
    """Return the agent's own client over such an adapter."""
    client, direct = PortalClient("http://127.0.0.1", code, credential, patience=3), Direct()
    client._session.mount("http://", direct)
    return client, direct


@dataclass
class Plant:
    """A supplier with stations and the people who run them."""

    world: World
    station: Station
    credential: str = field(repr=False)
    security: User
    direct: Direct = field(default_factory=Direct)

    def batch(self, count: int, **options: Any) -> Batch:
        """Return a prepared batch."""
        return self.world.prepared(count, **options)

    def start(self, batch: Batch) -> FeederRun:
        """Start a batch here as its operator does."""
        return start_feeder(batch, station=self.station, actor=self.world.operator)

    def again(self, run: FeederRun, feeder: Hopper, printer: Printer | None = None) -> FeederRun:
        """Have the operator go on and the agent make what is left."""
        return self.feed(continue_feeder(run, actor=self.world.operator), feeder, printer)

    def another(self, code: str, *, operator: Organisation | None = None, has_feeder: bool = True) -> Station:
        """Return one more station that reports its reader."""
        made = Station.objects.create(
            code=code, name=f"{code} 工位", place="佛山", operator=operator or self.station.operator,
            has_feeder=has_feeder,
        )  # fmt: skip
        made, _ = enrol_station(made, actor=self.security)
        report(made)
        return made

    def bench(self, hopper: Hopper, printer: Printer | None = None, journal: Journal | None = None) -> Bench:
        """Return what the station's agent works with."""
        client, self.direct = direct_client(self.station.code, self.credential)
        reader: Any = hopper
        return Bench(client, reader, printer, journal or Journal(None), card_seconds=0.3, print_seconds=2)

    def feed(self, run: FeederRun, hopper: Hopper, printer: Printer | None = None) -> FeederRun:
        """Have the agent make the run's cards; return the run as it stands then."""
        feed_batch(self.bench(hopper, printer), run.pk)
        run.refresh_from_db()
        return run


@dataclass
class Hopper:
    """A reader whose hopper moves when the card is powered down; a pause stands between two cards."""

    cards: list[SmartCard]
    gone_at: int = -1  # the reader is unplugged when so many cards were taken
    kill_at: tuple[int, int] | None = None  # the agent dies at this command of that card
    taken: list[SmartCard] = field(default_factory=list)
    connect_microseconds: int = 0
    virtual: bool = False
    trouble: str = ""
    on_release: Callable[[], Any] | None = None
    on_command: tuple[int, int, Callable[[], Any]] | None = None

    def __post_init__(self) -> None:
        self._transport = VirtualTransport(None)
        self._waiting = list(self.cards)
        self._empty_looks = 0
        self._commands = 0
        self._in: SmartCard | None = None

    def feed(self, serial: str) -> bool:
        """Leave it to the hopper."""
        return False

    def present(self) -> bool:
        """Bring the next card once the last one was seen to be gone."""
        if self._in is None and len(self.taken) == self.gone_at:
            raise ReaderGoneError("读写器已拔出")
        if self._in is None and self._empty_looks and self._waiting:
            self._put(self._waiting.pop(0))
        self._empty_looks = 0 if self._in else self._empty_looks + 1
        return self._in is not None

    def connect(self) -> bytes:
        """Power the card up."""
        if self._in is None:
            raise NoCardError("读写器中没有卡片")
        self._commands = 0
        return self._transport.connect()

    def release(self) -> None:
        """Power the card down: the hopper moves."""
        self._transport.disconnect()
        self._in, self._empty_looks = None, 0
        if self.on_release is not None:
            then, self.on_release = self.on_release, None
            then()

    def run(
        self,
        script: Sequence[tuple[bytes, frozenset[int]]],
        *,
        command_seconds: float,
        total_seconds: float,
        progress: Callable[[int], None],
        changes_from: int,
    ) -> ScriptResult:
        """Send a script as the reader's process does, each answer by itself."""
        result = ScriptResult()
        progress(0)
        for at, (apdu, accepted) in enumerate(script):
            self._commands += 1
            place = (len(self.taken), self._commands)
            if self.kill_at == place:
                raise Killed
            if self.on_command and self.on_command[:2] == place:
                self.on_command[2]()
            try:
                answer = self._transport.transmit(apdu)
            except TransportError as exc:
                result.fault = ScriptFault(exc.code, exc.message, at, may_have_been_sent(exc))
                return result
            result.answers.append((answer.data, answer.sw, answer.microseconds))
            progress(min(at + 1, len(script) - 1))
            if answer.sw not in accepted:
                break
        return result

    def _put(self, card: SmartCard) -> None:
        self._in = card
        self.taken.append(card)
        self._transport.insert(card)


class MuteCard:
    """A blank without a living chip."""

    atr = b""

    def power_on(self) -> bytes:
        """Say nothing."""
        raise CardSilentError("卡片没有应答")


def blanks(batch: Batch, faults: dict[int, str] | None = None) -> list[SmartCard]:
    """Return the waiting blanks of a batch in its order; `faults` by place, from 0."""
    waiting = Card.objects.filter(batch=batch, outcome="pending").order_by("item__sequence")
    chosen = faults or {}
    return [
        blank_card(chip_serial(serial), faults=[parse_fault(chosen[place])] if place in chosen else [])
        for place, serial in enumerate(waiting.values_list("serial", flat=True))
    ]


def hopper(batch: Batch, faults: dict[int, str] | None = None, **options: Any) -> Hopper:
    """Return a feeder that holds the batch's blanks."""
    return Hopper(blanks(batch, faults), **options)


def report(station: Station, devices: dict[str, Any] | None = None) -> None:
    """Have a station's agent report its devices."""
    note_heartbeat(station, Report("送卡器：无卡", "未配置", "1", devices or READERS))


def outcomes(batch: Batch) -> list[str]:
    """Return the batch's outcomes in its order, every try."""
    return list(
        Card.objects.filter(batch=batch)
        .order_by("item__sequence", "attempt")
        .values_list("outcome", flat=True)
    )


def make_plant() -> Plant:
    """Set a plant with one station up, nobody of which has used up a limit of requests."""
    for name in ("limits", "limits_of_process"):
        caches[name].clear()
    world = build_world()
    purchaser, supplier = world.clerk.organisation, world.operator.organisation
    assert purchaser is not None
    assert supplier is not None
    assert supplier.kind == OrganisationKind.SUPPLIER
    security = User.objects.create(
        username="security", organisation=purchaser, roles=[Role.SECURITY_ADMINISTRATOR]
    )
    station = Station.objects.create(
        code="p-1", name="一号工位", place="佛山", operator=supplier, has_feeder=True
    )
    station, credential = enrol_station(station, actor=security)
    report(station)
    return Plant(world, station, credential, security)
