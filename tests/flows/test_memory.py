"""Bulk work streams: what five times the rows take more of memory is a fraction of what the process holds.

The kernel's own high-water mark counts, so what C libraries hold is seen too.
"""

from __future__ import annotations

import csv
import gc
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from orders.choices import PackageStatus
from orders.services.records import return_list
from portal.core import clock
from portal.samples.package import SampleOrder
from portal.samples.people import COLUMNS
from tests.orders.intake.world import World, make_world, run_tasks
from tests.production.light import light_packed
from tests.production.world import build_world

# A worker holds about 195 MB and may hold 400 MB (the issue's bound); five times the rows may take a fifth
# more. Measured is what the work adds, for this process holds a test session besides.
WORKER = 195 << 10  # KiB
ADDED = (400 << 10) - WORKER
GROWTH = 0.20 * WORKER
FEW, MANY = 1000, 5000
_LINE = r"^{}:\s+(\d+) kB$"


def peak_of(work: Callable[[], object]) -> int:
    """Return the most memory this process held during the work beyond what it held before, in KiB."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the mark back to the present
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    found = re.search(_LINE.format(name), Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1])


def assert_flat(few: int, many: int) -> None:
    """Check the issue's two bounds."""
    assert many < ADDED
    assert many - few < GROWTH


@pytest.fixture
def world(transactional_db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> World:
    from portal import queue

    monkeypatch.setattr(queue, "wake", lambda tasks: None)
    return make_world()


def without_photos(world: World, count: int, start: int) -> bytes:
    """Seal rows whose photos are missing: the finished cards among them are all returned."""
    order, head = SampleOrder(count, start=start, issue_date=clock.today()), world.head(f"P-{start}")
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    writer.writerows(person.row(seq) for seq, person in enumerate(order.people(), 1))
    manifest = json.dumps(head.manifest(count, 0)).encode()
    members = {"records.csv": table.getvalue().encode(), "manifest.json": manifest}
    return world.container_of(members, head.package_number)


def taken_in(world: World, container: bytes, folder: Path) -> None:
    """Receive, open, check in chunks, and write the list of returns."""
    package = world.receive(container)
    run_tasks()
    package.refresh_from_db()
    assert package.status == PackageStatus.VALIDATED
    lines = return_list(package, folder / "returns.xlsx", actor=world.clerk)
    assert lines >= package.returned_count > package.record_count / 3


def test_intake_and_its_returns_stream(world: World, tmp_path: Path) -> None:
    """Issue: below 400 MB, and not with the size of the package."""
    warm, few, many = (without_photos(world, *size) for size in ((50, 0), (FEW, 1000), (MANY, 10_000)))
    taken_in(world, warm, tmp_path)
    peaks = [peak_of(partial(taken_in, world, container, tmp_path)) for container in (few, many)]
    assert_flat(*peaks)


@pytest.mark.timeout(900)  # thousands of cards, on whatever machine
@pytest.mark.django_db
def test_making_and_listing_cards_streams(own_folders: None) -> None:
    """Issue: the same for a batch from its preparation to the delivery lists."""
    world = build_world()
    light_packed(world, 50)
    batches = {count: world.released(count, blanks=count + 10) for count in (FEW, MANY)}
    peaks = [peak_of(partial(light_packed, world, count, batch=batches[count])) for count in (FEW, MANY)]
    assert_flat(*peaks)
