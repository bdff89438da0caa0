"""What killed processes left goes by itself: stray files, rings without a row, old answers (R-22)."""

from __future__ import annotations

import datetime as dt
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from orders.models import AccountFile, CardholderRecord, Package
from orders.personal import open_number
from orders.services.restoring import relink_rings
from portal import keyrings
from portal.core.key_refusals import KeyDestroyedError
from portal.core.keystore import KeyPurpose
from portal.files import keystore, store
from portal.models import AuditEntry, IdempotencyKey
from production.choices import BatchStatus
from production.models import Batch
from production.services.destruction import destroy_batch
from production.services.destruction_sweep import sweep_leftovers
from tests.production.chain import sealed_roots, settle_destruction

NOW = dt.timedelta(seconds=-5)  # how old a leftover must be: not at all


def stray(name: str) -> str:
    with store(name) as target:
        target.write(b"left")
    return name


def stored_files() -> set[str]:
    root = sealed_roots()[0]
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


class TestLeftovers:
    def test_files_that_no_row_names(self, chain: Any, clerk: Any, committed: Any) -> None:
        """R-22: killed processes leave files; whatever belongs to somebody's record stays."""
        first = Batch.objects.earliest("pk")
        with committed():
            destroy_batch(first, actor=clerk)
        settle_destruction(committed)
        package, before = Package.objects.get(), stored_files()
        strays = [
            stray(f"batches/{first.pk}/pass1/99.machine"),
            stray(f"packages/{package.pk}/{package.ring_key_id}/99.photos"),
            stray(f"packages/{package.pk}/photos/99.bin"),
            stray(".incoming/half-written"),
        ]
        assert sweep_leftovers()["files"] == 0  # young: their transaction may still commit
        swept = sweep_leftovers(NOW)
        assert (swept["files"], swept["spool"]) == (3, 1)
        assert stored_files() == before
        assert not any(map(default_storage.exists, strays))

    def test_files_of_a_batch_that_is_made_stay(self, chain: Any) -> None:
        before = stored_files()
        assert Batch.objects.exclude(status=BatchStatus.DESTROYED).count() == 2
        assert sweep_leftovers(NOW) == {"rings": 0, "files": 0, "spool": 0, "answers": 0}
        assert stored_files() == before

    def test_a_ring_whose_transaction_never_committed(self, chain: Any, clerk: Any, committed: Any) -> None:
        """R-22: file and key; the rings in use stay."""
        undo, ring = ExitStack(), keyrings.NewRing()
        ring.draw(1)
        lost = ring.write(KeyPurpose.PACKAGE, "lost", undo)
        gone = ring.write(KeyPurpose.PACKAGE, "gone", undo)
        keystore().destroy(gone)
        used = set(AccountFile.objects.exclude(ring_key_id="").values_list("ring_key_id", flat=True))
        assert used
        assert sweep_leftovers()["rings"] == 0
        assert sweep_leftovers(NOW)["rings"] == 2
        assert not keystore().exists(lost)
        assert all(map(keystore().exists, used))
        assert {name for name in stored_files() if name.startswith("rings/")} == {
            keyrings.ring_name(key) for key in used
        }

    def test_answers_kept_for_repetitions_go_with_their_time(self, chain: Any, clerk: Any) -> None:
        now = timezone.now()
        for minutes in (-1, 1):
            IdempotencyKey.objects.create(
                user=clerk, key=str(minutes), digest=bytes(32), body={"a": 1},
                expires_at=now + dt.timedelta(minutes=minutes),
            )  # fmt: skip
        assert sweep_leftovers()["answers"] == 1
        assert IdempotencyKey.objects.get().key == "1"


class TestRestored:
    def test_the_present_ring_is_found_again(self, chain: Any, clerk: Any, committed: Any) -> None:
        """R-22: a database of before the second destruction; who was destroyed since stays unreadable."""
        first, second = Batch.objects.order_by("pk")
        with committed():
            destroy_batch(first, actor=clerk)
        settle_destruction(committed)
        package = Package.objects.get()
        files = {file.pk: file.ring_key_id for file in AccountFile.objects.exclude(ring_key_id="")}
        ring = package.ring_key_id
        gone = list(CardholderRecord.objects.filter(batch_item__batch=second).values_list("pk", flat=True))
        dumped = list(CardholderRecord.objects.filter(pk__in=gone).select_related("package"))
        with committed():
            destroy_batch(second, actor=clerk)
        present = Package.objects.get().ring_key_id
        assert present != ring
        Package.objects.update(ring_key_id=ring)  # what the restored rows say
        for pk, key_id in files.items():
            AccountFile.objects.filter(pk=pk, status="loaded").update(ring_key_id=key_id)
        broken = sum(
            not keystore().exists(file.ring_key_id) for file in AccountFile.objects.filter(status="loaded")
        )
        assert broken
        assert sweep_leftovers(NOW)["rings"] == 0
        assert Package.objects.get().ring_key_id == present
        waiting = CardholderRecord.objects.select_related("package")
        assert all(open_number(record) is not None for record in waiting)
        for record in dumped:
            with pytest.raises(KeyDestroyedError):
                open_number(record)
        relinked = AuditEntry.objects.filter(action__endswith=".ring_relinked").count()
        assert relinked == 1 + broken

    def test_rings_are_spared_while_an_owner_has_none(self, chain: Any) -> None:
        """R-22: better a ring too many than one that a restored database still needs."""
        file = AccountFile.objects.exclude(ring_key_id="").earliest("pk")
        AccountFile.objects.filter(pk=file.pk).update(ring_key_id="0" * 32)
        file.rows.all().delete()
        assert relink_rings().lost == [str(file)]
        assert sweep_leftovers(NOW)["rings"] == 0
        assert keystore().exists(file.ring_key_id)
