"""Card data packages of invented people, written as a stream and sealed (architecture §6, R-8)."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import IO, BinaryIO, Final, Literal

from portal.core.crypto import Sm2PrivateKey, Sm2PublicKey
from portal.core.seal import seal_package
from portal.samples.banks import BANKS, BankSpec
from portal.samples.faults import Draft, Expectation, FaultPlan, Scene, draft_of, spoil
from portal.samples.people import COLUMNS, SamplePerson, people
from portal.samples.photos import DRAWINGS, PhotoBook

Encoding = Literal["utf-8", "gb18030"]

MANIFEST: Final = "manifest.json"
RECORDS: Final = "records.csv"
PHOTO_FOLDER: Final = "photos"
FORMAT: Final = "sscard-package"
FORMAT_VERSION: Final = 1
# One row in 40: so the 2,000 of the demo hold every fault.
FAULT_RATE: Final = 0.025


@dataclass(frozen=True, slots=True)
class PackageHead:
    """What the manifest says besides the counts; `created_at` carries its time zone."""

    package_number: str
    sender: str
    recipient: str
    created_at: datetime
    encoding: Encoding = "utf-8"

    def manifest(self, record_count: int, photo_count: int) -> dict[str, object]:
        """Return the content of manifest.json."""
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "package_number": self.package_number,
            "sender": self.sender,
            "recipient": self.recipient,
            "created_at": self.created_at.isoformat(),
            "encoding": self.encoding,
            "columns": list(COLUMNS),
            "record_count": record_count,
            "photo_count": photo_count,
        }


@dataclass(slots=True)
class SampleReport:
    """How many rows were written, and which of them must come back."""

    count: int = 0
    photo_count: int = 0
    bad: list[Expectation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """Which invented people a package holds: the same order gives the same bytes again."""

    count: int
    seed: int = 1
    start: int = 0
    fault_rate: float = FAULT_RATE
    banks: Sequence[BankSpec] = BANKS
    issue_date: date = date(2026, 11, 23)
    drawings: int = DRAWINGS

    def people(self) -> Iterator[SamplePerson]:
        """Yield the people afresh."""
        return people(self.count, self.seed, self.banks, issue_date=self.issue_date, start=self.start)


class InnerZip:
    """The content of a package: photos are stored, the table waits in an unlinked spool until the end."""

    def __init__(self, target: BinaryIO, head: PackageHead, spool: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._head = head
        self._spool = spool
        self._text = io.TextIOWrapper(spool, encoding=head.encoding, newline="", write_through=False)
        self._table = csv.writer(self._text)
        self._table.writerow(COLUMNS)
        self._stamp = head.created_at.timetuple()[:6]
        self.photo_count = 0
        self.record_count = 0

    def add(self, draft: Draft) -> None:
        """Write one row and its photo."""
        self._table.writerow(draft.cells)
        self.record_count += 1
        if draft.photo is not None:
            self._zip.writestr(self._member(f"{PHOTO_FOLDER}/{draft.photo_number}.jpg"), draft.photo)
            self.photo_count += 1

    def close(self) -> None:
        """Write table and manifest and the ZIP's directory."""
        self._text.flush()
        self._spool.seek(0)
        records = self._member(RECORDS, zipfile.ZIP_DEFLATED)
        with self._zip.open(records, "w", force_zip64=True) as member:
            shutil.copyfileobj(self._spool, member, 1 << 20)
        self._text.detach()
        manifest = self._head.manifest(self.record_count, self.photo_count)
        text = json.dumps(manifest, ensure_ascii=False, indent=1)
        self._zip.writestr(self._member(MANIFEST), text.encode("utf-8"))
        self._zip.close()

    def _member(self, name: str, compression: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(name, self._stamp)
        entry.compress_type = compression
        return entry


def write_inner_zip(target: BinaryIO, order: SampleOrder, head: PackageHead) -> SampleReport:
    """Write the unsealed content; memory does not grow with the rows but for the ZIP's own directory."""
    report = SampleReport()
    with tempfile.TemporaryFile() as spool:
        inner = InnerZip(target, head, spool)
        for draft in _drafts(order, report):
            inner.add(draft)
        inner.close()
    report.count, report.photo_count = inner.record_count, inner.photo_count
    return report


def _drafts(order: SampleOrder, report: SampleReport) -> Iterator[Draft]:
    """Yield rows with photos, the chosen ones spoiled, and note each fault in the report."""
    rng = random.Random(f"faults:{order.seed}:{order.start}")
    plan, book = FaultPlan(order.fault_rate, rng), PhotoBook(order.seed, order.drawings)
    scene = Scene(rng, order.banks, order.issue_date)
    for place, person in enumerate(order.people()):
        draft = draft_of(person, place + 1, book.photo(person.index), scene)
        fault = plan.fault_for(place, person, first=scene.previous is None)
        if fault is None:
            scene.previous = person
        else:
            report.bad.append(spoil(fault, draft, place + 1))
        yield draft


def make_package(
    path: Path,
    order: SampleOrder,
    head: PackageHead,
    *,
    sender_key: Sm2PrivateKey,
    recipient_key: Sm2PublicKey,
) -> SampleReport:
    """Write a sealed package; its plain content only ever exists in a file without a name."""
    with tempfile.TemporaryFile(dir=path.parent) as plain, path.open("wb") as target:
        report = write_inner_zip(plain, order, head)
        plain.seek(0)
        seal_into(plain, target, head, sender_key=sender_key, recipient_key=recipient_key)
    return report


def seal_into(
    plain: BinaryIO,
    target: BinaryIO,
    head: PackageHead,
    *,
    sender_key: Sm2PrivateKey,
    recipient_key: Sm2PublicKey,
) -> None:
    """Seal what `plain` holds from its current place on."""
    seal_package(
        plain,
        target,
        sender=head.sender,
        sender_key=sender_key,
        recipient=head.recipient,
        recipient_key=recipient_key,
        package_number=head.package_number,
        created_at=head.created_at,
    )
