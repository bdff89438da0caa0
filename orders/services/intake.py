"""Open a package and check its rows in chunks; in = accepted + returned, always (R-8, R-9).

Each step runs inside the transaction that also marks its task done, so a killed worker leaves nothing or
everything of a chunk; whoever runs it again finds the chunk there or gone.
"""

from __future__ import annotations

from functools import partial

from django.db import connection, transaction
from django.utils import timezone

from orders.choices import PackageStatus, RecordStatus
from orders.models import CardholderRecord, IntakeChunk, Package
from orders.payloads import payload_reader
from orders.services.chunks import Cut, cut_rows, open_chunk
from orders.services.drafts import Draft, examine, insert_drafts, load_rules, places_of
from orders.services.packages import refuse_package
from orders.services.refusals import EmptyPackageError
from orders.services.unpacking import check_count, read_manifest, register_photos
from portal.core.crypto import TamperedError
from portal.core.errors import InputRefusedError
from portal.models import User
from portal.queue import schedule
from portal.workflow import locked, move

CHECK_CHUNK = "orders.jobs.check_chunk"
BULK_QUEUE = "bulk"
_OPEN_RECORDS_LOCK = 0x4F50454E  # "OPEN"


@transaction.atomic
def open_package(package: Package, *, actor: User | None) -> Package:
    """Look into a received package: cut it into chunks and schedule their checks, or refuse it whole."""
    package = locked(package)
    if package.status != PackageStatus.RECEIVED:
        return package
    try:
        with transaction.atomic():
            cut = _cut(package)
    except (InputRefusedError, TamperedError) as exc:
        return refuse_package(package, exc, actor=actor)
    opened = move(package, PackageStatus.VALIDATING, actor=actor, record_count=cut.rows)
    schedule(CHECK_CHUNK, opened, actor=actor, parts=range(cut.parts), queue=BULK_QUEUE)
    return opened


def _cut(package: Package) -> Cut:
    payload = payload_reader(package)
    payload.check()  # every chunk, before a byte is parsed: the sender may have signed a broken one
    members = register_photos(package, payload)
    manifest = read_manifest(package, payload, members)
    cut = cut_rows(package, payload, members, manifest)
    if not cut.rows:
        raise EmptyPackageError("数据包内没有记录", expected="至少一条记录")
    check_count("记录", manifest.record_count, cut.rows)
    return cut


@transaction.atomic
def check_chunk(package: Package, part: int) -> None:
    """Check the rows of one chunk and write a record for each: accepted, or returned with its problems."""
    chunk = IntakeChunk.objects.select_for_update().filter(package=package, part=part).first()
    if chunk is None:
        return
    drafts = _examined(package, chunk)
    hold_open_records()
    insert_drafts(package, drafts)
    chunk.delete()
    transaction.on_commit(partial(advance_package, package), robust=True)


def hold_open_records() -> None:
    """Let one transaction at a time add open records, to its end.

    Two chunks that hold the same people in another order would otherwise wait for each other.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_OPEN_RECORDS_LOCK])


def _examined(package: Package, chunk: IntakeChunk) -> list[Draft]:
    rows = open_chunk(package, chunk)
    rules = load_rules()
    indexes = [bytes.fromhex(row.number_index) for row in rows]
    places = places_of(package, indexes)
    payload = payload_reader(package)
    return [
        examine(payload, row, index, places.get(index), rules)
        for row, index in zip(rows, indexes, strict=True)
    ]


def advance_package(package: Package) -> Package:
    """Close the validation when no chunk is left; calling it any number of times is harmless."""
    with transaction.atomic():
        package = locked(package)
        if package.status != PackageStatus.VALIDATING or package.chunks.exists():
            return package
        accepted, returned = count_records(package)
        system = User.objects.system()
        return move(
            package,
            PackageStatus.VALIDATED,
            actor=system,
            accepted_count=accepted,
            returned_count=returned,
            validated_at=timezone.now(),
            details={"accepted": accepted, "returned": returned},
        )


def count_records(package: Package) -> tuple[int, int]:
    """Count the newest versions: accepted (or further) and returned."""
    newest = CardholderRecord.objects.filter(package=package).exclude(status=RecordStatus.SUPERSEDED)
    returned = newest.filter(status=RecordStatus.RETURNED).count()
    return newest.count() - returned, returned
