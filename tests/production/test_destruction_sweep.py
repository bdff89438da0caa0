"""What killed processes left goes by itself: stray files, rings without a row, old answers (R-22)."""

from __future__ import annotations

import datetime as dt
from contextlib import ExitStack
from typing import Any

from django.core.files.storage import default_storage
from django.utils import timezone

from orders.models import AccountFile, Package
from portal import keyrings
from portal.core.keystore import KeyPurpose
from portal.files import keystore, store
from portal.models import IdempotencyKey
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
