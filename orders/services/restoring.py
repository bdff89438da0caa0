"""Find the rings again after an older database was restored (R-22).

A ring is written anew with each destruction and its old key destroyed, so a restored database may name a ring
that is gone. The present one holds the same keys of all who were not destroyed since: it is known by opening
what is sealed under it. Those who were destroyed stay unreadable, as they must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from django.core.files.storage import default_storage

from orders.models import AccountFile, AccountRow, CardholderRecord, Package
from orders.personal import unseal
from orders.selectors.accounts import account_context
from portal import keyrings
from portal.audit import unit_of_work
from portal.core.crypto import FieldCipher, TamperedError
from portal.core.key_refusals import KeyDestroyedError, KeyMissingError
from portal.files import keystore
from portal.models import User
from portal.workflow import locked

SAMPLES = 200
_Sample = tuple[int, Callable[[FieldCipher], object]]


@dataclass(slots=True)
class Relinked:
    """How many owners have their ring again, and which have none that opens anything."""

    found: int
    lost: list[str]


def relink_rings() -> Relinked:
    """Give every package and account file whose ring is gone the ring that opens its rows."""
    result = Relinked(0, [])
    broken = [*_without_ring(Package), *_without_ring(AccountFile)]
    if not broken:
        return result
    used = {*_rings_of(Package), *_rings_of(AccountFile)}
    free = [key_id for key_id in _stored_rings() if key_id not in used]
    for owner in broken:
        key_id = next((each for each in free if _opens(each, _samples(owner))), None)
        if key_id is None:
            result.lost.append(str(owner))
            continue
        _relink(owner, key_id)
        free.remove(key_id)
        result.found += 1
    return result


def _rings_of(model: Any) -> Iterable[str]:
    found: Iterable[str] = model.objects.exclude(ring_key_id="").values_list("ring_key_id", flat=True)
    return found


def _without_ring(model: Any) -> list[Any]:
    rows = model.objects.exclude(ring_key_id="").order_by("pk")
    return [row for row in rows if not keystore().exists(row.ring_key_id)]


def _stored_rings() -> list[str]:
    if not default_storage.exists("rings"):
        return []
    names = [PurePosixPath(name).stem for name in default_storage.listdir("rings")[1]]
    return [name for name in sorted(names) if keystore().exists(name)]


def _opens(key_id: str, samples: Iterator[_Sample]) -> bool:
    """Say whether a ring opens any of the samples; each is authenticated, so one is proof."""
    for slot, opened in samples:
        try:
            opened(keyrings.slot_cipher(key_id, slot))
        except (TamperedError, KeyDestroyedError, KeyMissingError):
            continue
        return True
    return False


def _samples(owner: Package | AccountFile) -> Iterator[_Sample]:
    if isinstance(owner, Package):
        records = owner.records.filter(in_ring=True, number_sealed__isnull=False).order_by("pk")[:SAMPLES]
        yield from ((record.row_number, _record_opener(record)) for record in records)
        return
    rows = owner.rows.exclude(account_sealed=b"").order_by("pk")[:SAMPLES]
    yield from ((row.row_number, _row_opener(row)) for row in rows)


def _record_opener(record: CardholderRecord) -> Callable[[FieldCipher], object]:
    blob = bytes(record.number_sealed or b"")
    return lambda cipher: unseal(cipher, record.pk, record.version, "number", blob)


def _row_opener(row: AccountRow) -> Callable[[FieldCipher], object]:
    return lambda cipher: cipher.open(bytes(row.account_sealed), account_context(row.pk))


def _relink(owner: Package | AccountFile, key_id: str) -> None:
    with unit_of_work(User.objects.system()) as work:
        fresh = locked(owner)
        fresh.ring_key_id = key_id
        fresh.save(update_fields=["ring_key_id"])
        work.record(f"{fresh._meta.model_name}.ring_relinked", fresh)
