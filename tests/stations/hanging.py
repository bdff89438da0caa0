"""A reader's process whose driver never returns from the second order on."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

from stations.agent.reader_process import ReaderPlan


def hang(link: Connection, plan: ReaderPlan, parent: int) -> None:
    """Answer one order, one command of a script, and then never again."""
    link.recv()
    link.send(("value", [{"name": "hanging", "card": "present"}]))
    name, _ = link.recv()
    if name == "run":
        link.send(("answers", [(b"", 0x9000, 1)]))
    time.sleep(3600)


def crash(link: Connection, plan: ReaderPlan, parent: int) -> None:
    """End as a fault in a driver does."""
    link.recv()
    link.send(("value", []))
    link.recv()
