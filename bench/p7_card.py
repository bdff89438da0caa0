"""P7: one card through everything real but the printer: portal by HTTP, pcscd, vpcd, the agent's own code."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.compare import Bound, Breakdown, Parts
from bench.readers import daemon
from bench.world import open_world
from tests.stations.pcsc import CARD_READER, ROOT, Desk, Pcscd, eventually, free_ports, settle

PACES = {
    "the virtual card as fast as it is": (),
    "20 ms a command, as real cards": ("--fault", "slow=20"),
}
REST_SHARE, MOST_MILLISECONDS, MOST_TRIPS = 0.15, 2000, 4
BLANKS = 60
PATIENCE = 30.0


def comparisons() -> Iterator[Breakdown]:
    """Take whole issuances apart; nothing without pcscd and vpcd."""
    service = daemon()
    if service is None:
        return
    open_world("bench_card")
    desk = CounterDesk(service)
    try:
        for pace, options in PACES.items():
            yield Breakdown(
                "P7",
                f"one card, {pace}",
                "milliseconds",
                lambda options=options: desk.card(options),  # type: ignore[misc]
                _bounds(slow=bool(options)),
            )
    finally:
        desk.close()


def _bounds(*, slow: bool) -> list[Bound]:
    agent = Bound("agent / reader", lambda parts: parts["agent"] / parts["reader"], REST_SHARE)
    trips = Bound("round trips", lambda parts: parts["round trips"], MOST_TRIPS)
    if slow:
        outside = lambda parts: (parts["whole"] - parts["reader"]) / parts["reader"]  # noqa: E731
        return [agent, Bound("all outside the reader / reader", outside, REST_SHARE), trips]
    return [agent, Bound("whole", lambda parts: parts["whole"], MOST_MILLISECONDS), trips]


class CounterDesk:
    """A counter's portal in processes of its own, its reader service, and the agent's parts in this one."""

    def __init__(self, service: Pcscd) -> None:
        from stations.agent.bench import Bench
        from stations.agent.client import PortalClient
        from stations.agent.journal import Journal
        from stations.agent.reader import CardReader
        from stations.agent.reader_process import ReaderPlan
        from stations.printing.virtual import VirtualPrinter
        from tests.stations.counter import make_counter

        self.folder = Path(tempfile.mkdtemp(prefix="portal-bench-"))
        self.counter = make_counter(blanks=BLANKS)
        self.daemon = service
        self.portal, address = _portal()
        client = PortalClient(address, self.counter.station.code, self.counter.credential)
        reader = CardReader(ReaderPlan(name=CARD_READER))
        journal = Journal(self.folder / "journal")
        self.bench = Bench(client, reader, VirtualPrinter(), journal, reader_name=CARD_READER)

    def card(self, options: tuple[str, ...]) -> Parts:
        """Make one card and return where its time went, in milliseconds, as the issuance keeps it."""
        from production.personalization.blank import chip_serial
        from stations.agent.issuing import make_card
        from stations.models import Issuance
        from stations.services.issuance import confirm_look

        issuance = self.counter.start()
        card = Desk(self.daemon.port, "--serial", chip_serial(issuance.card.serial).hex(), *options)
        try:
            settle(card, self.bench.reader.present)
            make_card(self.bench, issuance.pk)
        finally:
            card.kill()
        eventually(lambda: not self.bench.reader.present())
        made = Issuance.objects.get(pk=issuance.pk)
        assert made.is_written, made.reason
        confirm_look(made, good=True, actor=self.counter.operator)
        return _parts(made)

    def close(self) -> None:
        """End everything."""
        self.bench.reader.close()
        self.bench.client.close()
        self.portal.terminate()
        self.portal.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _parts(made: Any) -> Parts:
    network = made.waited_milliseconds - made.portal_milliseconds
    return {
        "whole": made.total_milliseconds,
        "reader": made.reader_milliseconds,
        "agent": made.agent_milliseconds,
        "waited for the portal": made.waited_milliseconds,
        "of it the portal's views": made.portal_milliseconds,
        "of it network, server, middleware": network,
        "round trips": made.round_trips,
    }


def _portal() -> tuple[subprocess.Popen[bytes], str]:
    """Start the web server as the supervisor does, on this benchmark's database; return its address."""
    from django.db import connection

    from portal.supervisor import services

    port = free_ports()
    (web, *_) = services(host="127.0.0.1", port=port, workers=0, station=False)
    url = os.environ["DATABASE_URL"].replace("/portal?", f"/{connection.settings_dict['NAME']}?")
    process = subprocess.Popen(
        web.command, cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    eventually(lambda: _listens(port), PATIENCE)
    return process, f"http://127.0.0.1:{port}"


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
