"""What to look for after a batch's destruction: its people's values and photos, sealed before it (R-22)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orders.models import CardholderRecord
from orders.personal import open_account, open_name, open_number, open_personal, read_photo
from portal.audit import unit_of_work
from portal.core.errors import PortalError
from portal.models import User
from portal.roles import require
from portal.services.probes import write_probe
from production.models import Batch


class NothingToProbeError(PortalError):
    """A batch whose people's data is destroyed already."""

    code = "nothing_to_probe"


def write_batch_probe(batch: Batch, path: Path, *, actor: User) -> int:
    """Write number, name, card number, account and photo of a batch's people to a new sealed file.

    Returns how many people. Reading them is an event; the file opens with the portal's key store only.
    """
    require(actor, "production.destroy_batch", batch)
    people = CardholderRecord.objects.filter(batch_item__batch=batch).select_related("package").order_by("pk")
    count = people.count()
    if not count:
        raise NothingToProbeError("该批次没有留存的个人数据", where=batch.number)
    with unit_of_work(actor) as work:
        write_probe(path, _items(people.iterator(chunk_size=500)))
        work.record("batch.probe_written", batch, people=count)
    return count


def _items(people: Iterator[CardholderRecord]) -> Iterator[tuple[str, str | bytes]]:
    for place, record in enumerate(people, 1):
        yield f"第 {place} 人 社会保障号码", open_number(record)
        yield f"第 {place} 人 姓名", open_name(record)
        yield f"第 {place} 人 社保卡号", open_personal(record).card_number
        yield f"第 {place} 人 银行账号", open_account(record)
        if photo := read_photo(record):
            yield f"第 {place} 人 照片", photo
