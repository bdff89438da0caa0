"""The main job on a few invented people of two banks, from the sealed package to the return files."""

from __future__ import annotations

import base64
import logging
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from django.conf import settings
from django.db import connection
from rich.console import Console

from orders.models import CardholderRecord
from orders.personal import open_account
from orders.services.rekeying import advance_rekeys, start_due_rekeys
from portal.management.commands.demo import STEPS
from portal.management.demo import steps
from portal.management.demo.programme import set_up
from portal.management.demo.workers import Crew
from portal.samples.banks import BANKS
from portal.samples.package import SampleOrder
from portal.samples.people import SamplePerson
from production.models import BatchItem
from production.services.destruction_certifying import advance_certificates
from tests.architecture.programme_run import folders, work_off
from tests.production.world import run_queued

RECORDS = 24
ENCODINGS = ("utf-8", "gb18030", "utf-16-le")
SHORTEST = 6
FAULT_RATE = 0.25
WHOLE_JOB = tuple(step for _label, step in STEPS)
TO_RETURN = WHOLE_JOB[: WHOLE_JOB.index(steps.destroy)]

N = TypeVar("N", str, bytes)


@dataclass
class Chain:
    """A run of the demo's steps: its folder, its people by row, and what the log said."""

    demo: steps.Demo
    people: dict[int, SamplePerson]
    accounts: dict[int, str]
    log: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Return where files, keys and the demo's own outputs stand."""
        return self.demo.folder

    def secrets(self) -> list[str]:
        """Return what must not be readable of the people in batches: number, name, card number, account."""
        persons = [self.people[row] for row in self.accounts]
        plain = [value for person in persons for value in (person.number, person.name, person.card_number)]
        return [*plain, *self.accounts.values()]


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """Collect every record of every logger, formatted with its exception."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, keep = logging.getLogger(), Keep(logging.DEBUG)
    keep.setFormatter(logging.Formatter("%(name)s %(message)s"))
    level = root.level
    root.addHandler(keep)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(keep)


def run_chain(folder: Path, jobs: Iterable[Any] = TO_RETURN, *, records: int = RECORDS) -> Chain:
    """Run the steps in this process, with a quarter of the rows spoiled."""
    programme = set_up(blanks_needed=10 * records)
    (folder / "accounts").mkdir()
    demo = steps.Demo(programme, folder, records, Console(quiet=True), Crew(0))
    order = partial(SampleOrder, fault_rate=FAULT_RATE, banks=BANKS[:2])
    with (
        mock.patch.object(steps, "wait_for", work_off),
        mock.patch.object(steps, "SampleOrder", order),
        everything_logged() as log,
    ):
        accounts = {}
        for step in jobs:
            step(demo)
            # Read where they stand sealed: the files the banks sent have eighteen layouts.
            accounts = accounts or _accounts() if demo.batch_ids else accounts
    drawn = order(count=records, issue_date=steps.today()).people()
    return Chain(demo, dict(enumerate(drawn, 1)), accounts, log)


def _accounts() -> dict[int, str]:
    items = BatchItem.objects.filter(record__isnull=False).select_related("record__package")
    return {item.record.row_number: open_account(item.record) for item in items if item.record}


def own_copy(chain: Chain, folder: Path, settings_fixture: Any) -> None:
    """Give one test its own copy of the files and keys the chain left."""
    shutil.copytree(chain.folder, folder)
    for name, value in folders(folder).items():
        setattr(settings_fixture, name, value)


def spellings(text: str | bytes) -> set[bytes]:
    """Return the bytes a text, or a key, may stand as: three encodings, each plain, in hex and in Base64.

    Forms of fewer than six bytes are left out: ciphertext holds each of them somewhere by chance.
    """
    raw = {text} if isinstance(text, bytes) else {text.encode(code, "replace") for code in ENCODINGS}
    raw = {form for form in raw if len(form) >= SHORTEST}
    hexadecimal = {form.hex().encode() for form in raw}
    return {*raw, *hexadecimal, *(form.upper() for form in hexadecimal), *_in_base64(raw)}


def _in_base64(raw: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what each value looks like inside a longer Base64 text, at any of its three places in a group."""
    for form in raw:
        for before in range(3):
            whole = base64.b64encode(bytes(before) + form)
            first, last = (before * 4 + 2) // 3, (before + len(form)) * 8 // 6
            yield whole[first:last]


def in_tables(needles: Iterable[N]) -> set[tuple[str, N]]:
    """Return table and needle wherever a needle stands in any column, as text or as bytes."""
    wanted = {needle: _in_json(needle) for needle in needles}
    found = set()
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" t')
            text = "\n".join(row for (row,) in cursor.fetchall())
            found |= {(table, needle) for needle, forms in wanted.items() if any(f in text for f in forms)}
    return found


def _in_json(needle: str | bytes) -> list[str]:
    """Return how a value shows in a row as JSON: bytes columns are hexadecimal there."""
    forms = spellings(needle)
    texts = [form.decode("ascii") for form in forms if form.isascii()]
    return [*texts, *([needle] if isinstance(needle, str) else []), *(form.hex() for form in forms)]


def in_files(needles: Iterable[N], *roots: Path) -> set[tuple[str, N]]:
    """Return file and needle wherever a stored file, or its name, holds a needle."""
    wanted = {needle: spellings(needle) for needle in needles}
    found = set()
    for root in roots:
        for path in (path for path in root.rglob("*") if path.is_file()):
            content = path.read_bytes() + str(path).encode()
            found |= {(path.name, n) for n, forms in wanted.items() if any(f in content for f in forms)}
    return found


def in_redis(needles: Iterable[N], client: Any) -> set[N]:
    """Return the needles that stand anywhere in Redis; RQ's compressed job data included."""
    content = b"\n".join(_redis_values(client))
    return {needle for needle in needles if any(form in content for form in spellings(needle))}


def _redis_values(client: Any) -> Iterator[bytes]:
    readers = {
        b"hash": lambda key: [part for pair in client.hgetall(key).items() for part in pair],
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"string": lambda key: [client.get(key)],
        b"stream": lambda key: [str(client.xrange(key)).encode()],
    }
    for key in client.scan_iter():
        yield key
        for value in readers[client.type(key)](key):
            yield value
            try:
                yield zlib.decompress(value)
            except zlib.error:
                continue


def sealed_roots() -> list[Path]:
    """Return the folders of stored files and of keys."""
    return [Path(settings.FILES_DIR), Path(settings.KEYSTORE_DIR), Path(settings.INTAKE_DIR)]


def key_files_left() -> set[str]:
    """Return the names of the files that hold keys."""
    return {path.name for path in Path(settings.KEYSTORE_DIR).glob("*.key")}


def records_as_dumped() -> list[CardholderRecord]:
    """Return the rows as an earlier backup would hold them."""
    return list(CardholderRecord.objects.select_related("package").order_by("pk"))


def settle_destruction(committed: Callable[[], AbstractContextManager[Any]]) -> None:
    """Do what the scheduler does after a destruction, the pause over, until nothing is left to do."""
    for step in (start_due_rekeys, run_queued, advance_rekeys, advance_certificates, run_queued):
        with committed():
            step()
