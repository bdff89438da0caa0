"""Faults of real parts while a card is made: every card ends good, rejected or unknown (D8, R-21)."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis as redis_client
from django.conf import settings

from portal.embedded import redis_program
from production.choices import Outcome
from production.models import Card
from stations.choices import IssuanceStatus, PrintState
from stations.models import Issuance, Station
from stations.services.desk import obstacles
from stations.services.issuance import ask_to_resolve, confirm_look
from tests.stations.pcsc import CARD_READER, PSAM_READER, Desk, Pcscd
from tests.stations.shop import Shop, shop

__all__ = ["shop"]
Plug = Callable[..., Desk]
REAL = ("--reader", CARD_READER, "--printer", "ipp://127.0.0.1:9/ipp/print")  # nobody prints at port 9
OUTAGE_SECONDS = 30
SLOW = ("--fault", "slow=30")  # a real card's pace: time to break something


def in_the_middle(shop: Shop, issuance: Issuance) -> None:
    """Wait until the agent's second script has come some way, by its journal."""
    journal = Path(f"{shop.credential}.journal")

    def written() -> bool:
        words = journal.read_text().split()
        return len(words) == 3 and words[:2] == [str(issuance.pk), "2"] and int(words[2]) > 20

    shop.until(written)


def settled(issuance: Issuance) -> tuple[str, str]:
    """Return how issuance and card stand."""
    fresh = Issuance.objects.get(pk=issuance.pk)
    return str(fresh.status), str(Card.objects.values_list("outcome", flat=True).get(pk=fresh.card_id))


def test_a_card_that_is_pulled_while_it_is_written_is_unknown_until_it_is_read_again(
    shop: Shop, plug: Plug
) -> None:
    """D8: the read-back decides; a card that was not finished is rejected."""
    serial, chip = shop.blank()
    desk = plug("--serial", chip, "--fault", "pulled@120")
    shop.start_agent(*REAL)
    issuance = shop.reaches(shop.counter.start(serial=serial), IssuanceStatus.UNKNOWN)
    assert (issuance.reason, Card.objects.get().outcome) == ("card_pulled", Outcome.UNKNOWN)
    desk.order("insert")
    ask_to_resolve(issuance, actor=shop.counter.operator)
    shop.reaches(issuance, IssuanceStatus.REJECTED)
    assert settled(issuance) == (IssuanceStatus.REJECTED, Outcome.REJECTED)


def test_an_agent_that_was_killed_tells_at_its_next_start(shop: Shop, plug: Plug) -> None:
    """D8: kill -9 in the middle: the card is unknown at the next start, not when it is swept."""
    serial, chip = shop.blank()
    plug("--serial", chip, *SLOW)
    agent = shop.start_agent(*REAL)
    issuance = shop.counter.start(serial=serial)
    in_the_middle(shop, issuance)
    shop.kill(agent)
    assert settled(issuance) == (IssuanceStatus.RUNNING, Outcome.PENDING)
    journal = Path(f"{shop.credential}.journal")
    assert (journal.stat().st_mode & 0o777, len(journal.read_bytes())) == (0o600, 64)
    shop.start_agent(*REAL)
    issuance = shop.reaches(issuance, IssuanceStatus.UNKNOWN)
    assert issuance.reason == "agent_restarted"
    ask_to_resolve(issuance, actor=shop.counter.operator)
    shop.reaches(issuance, IssuanceStatus.REJECTED)
    assert settled(issuance) == (IssuanceStatus.REJECTED, Outcome.REJECTED)


def test_pcscd_dies_in_the_middle_and_comes_back(shop: Shop, plug: Plug, pcscd: Pcscd) -> None:
    """The agent lives through it: it says what is wrong and reads the card when the service is back."""
    serial, chip = shop.blank()
    plug("--serial", chip, *SLOW)
    shop.start_agent(*REAL)
    issuance = shop.counter.start(serial=serial)
    in_the_middle(shop, issuance)
    pcscd.stop()
    try:
        issuance = shop.reaches(issuance, IssuanceStatus.UNKNOWN)
        shop.until(lambda: "pcscd" in Station.objects.get().reader_state)
        assert Station.objects.get().report["readers"] == []
    finally:
        pcscd.start()
    shop.until(
        lambda: (
            {"name": CARD_READER, "card": "present", "used": True} in Station.objects.get().report["readers"]
        )
    )
    ask_to_resolve(issuance, actor=shop.counter.operator)
    shop.reaches(issuance, IssuanceStatus.REJECTED)


class Line:
    """The network between agent and portal, which can be cut."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._far = (parts.hostname or "", parts.port or 80)
        self._links: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self._serve()

    def cut(self) -> None:
        """End every connection and take no new one."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            link.close()
        self._links.clear()

    def mend(self) -> None:
        """Take connections again."""
        self._listener = socket.create_server(self.address)
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._far)
            self._links += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(one: socket.socket, other: socket.socket) -> None:
    try:
        while part := one.recv(65536):
            other.sendall(part)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_a_portal_that_is_away_for_half_a_minute_costs_time_only(shop: Shop, plug: Plug) -> None:
    """The agent says the same again until it is answered: the card is finished and nothing is done twice."""
    serial, chip = shop.blank()
    plug("--serial", chip, *SLOW)
    line = Line(shop.url)
    shop.start_agent(*REAL, url=line.url)
    issuance = shop.counter.start(serial=serial)
    in_the_middle(shop, issuance)
    line.cut()
    threading.Event().wait(OUTAGE_SECONDS)
    assert settled(issuance) == (IssuanceStatus.RUNNING, Outcome.PENDING)
    line.mend()
    issuance = shop.reaches(issuance, IssuanceStatus.AWAITING_LOOK)
    assert (issuance.is_written, issuance.print_state) == (True, PrintState.NOT_SUBMITTED)
    waited, total = issuance.waited_milliseconds or 0, issuance.total_milliseconds or 0
    assert 15_000 < waited < total
    assert issuance.round_trips == 4
    assert (issuance.agent_milliseconds or 0) <= 0.15 * (issuance.reader_milliseconds or 0)
    line.cut()


def test_two_cards_are_touched_by_nobody_until_one_is_taken_away(shop: Shop, plug: Plug) -> None:
    """The wrong one of two could be written: the agent waits, and says so in its report."""
    serial, chip = shop.blank()
    desk = plug("--serial", chip, "--psam")
    shop.start_agent(*REAL[2:])  # no reader is named
    two = [{"name": name, "card": "present", "used": True} for name in (CARD_READER, PSAM_READER)]
    shop.until(lambda: Station.objects.get().report["readers"] == two)
    assert [found.stops for found in obstacles(Station.objects.get())] == [True, True]  # and no printer
    issuance = shop.counter.start(serial=serial)
    threading.Event().wait(2)
    issuance.refresh_from_db()
    assert (issuance.status, issuance.step, issuance.reason) == (IssuanceStatus.QUEUED, 0, "")
    desk.order("pull 1")
    issuance = shop.reaches(issuance, IssuanceStatus.AWAITING_LOOK)
    assert issuance.is_written


class OwnRedis:
    """A Redis of this test's own, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty."""
        command = [str(redis_program()), "--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, env=os.environ
            )
        for _ in range(200):
            try:
                with redis_client.Redis.from_url(self.url) as link:
                    link.ping()
            except redis_client.RedisError:
                threading.Event().wait(0.05)
            else:
                return
        raise AssertionError("redis does not start")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    made = OwnRedis(folder)
    made.start()
    yield made
    made.stop()


def test_a_redis_that_loses_everything_is_come_back_to(
    shop: Shop, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D7: Redis holds wake-ups only; heartbeats go on without it and the next card is made."""
    monkeypatch.setattr(settings, "REDIS_URL", own_redis.url)
    shop.start_agent("--virtual", redis=own_redis.url)
    own_redis.stop()
    seen = Station.objects.get().last_seen_at
    shop.until(lambda: Station.objects.get().last_seen_at > seen)
    noticed = re.compile(
        "could not connect to Redis|queue cannot be reached"
    )  # by RQ's own retries, or by ours
    shop.until(lambda: noticed.search(shop.log.read_text()) is not None)
    own_redis.start()
    issuance = shop.reaches(shop.counter.start(), IssuanceStatus.AWAITING_LOOK)
    done = confirm_look(issuance, good=True, actor=shop.counter.operator)
    assert settled(done) == (IssuanceStatus.GOOD, Outcome.GOOD)
