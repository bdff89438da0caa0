"""Whoever has a card is forgotten at once, though others of package and account file wait (R-22)."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection, transaction

from orders.choices import AccountFileStatus, RecordStatus
from orders.models import AccountFile, AccountRow, CardholderRecord, Package
from orders.personal import (
    KEY_COLUMNS,
    RowKey,
    open_account,
    open_column,
    open_name,
    open_number,
    read_photo,
    row_cipher,
)
from orders.selectors.accounts import open_account_row
from orders.services import rekeying
from orders.services.records import correct_record
from orders.services.rekeying import advance_rekeys, finish_rekey, rekey_part, start_due_rekeys, start_rekey
from portal import keyrings
from portal.core.crypto import TamperedError
from portal.core.key_refusals import KeyDestroyedError
from portal.core.keystore import KeyPurpose
from portal.files import keystore
from portal.models import AuditEntry, Task, User
from portal.samples.photos import draw_bust, encode_to_weight
from production.models import Batch, BatchItem, DestructionCertificate
from production.services.destruction import destroy_batch
from production.services.destruction_certifying import advance_certificates
from tests.production.chain import Chain, key_files_left, sealed_roots, settle_destruction
from tests.production.world import run_queued

WAITING = (RecordStatus.RETURNED, RecordStatus.SUPERSEDED)


def batches() -> list[Batch]:
    return list(Batch.objects.order_by("pk"))


def records_of(batch: Batch) -> list[CardholderRecord]:
    found = CardholderRecord.objects.filter(batch_item__batch=batch).select_related("package")
    return list(found.order_by("pk"))


def plain_rows(batch: Batch) -> list[tuple[RowKey, bytes]]:
    """Return the keys and sealed numbers of a batch's records, as bulk work selects them."""
    found = CardholderRecord.objects.filter(batch_item__batch=batch).order_by("pk")
    return [(RowKey(*key), sealed) for *key, sealed in found.values_list(*KEY_COLUMNS, "number_sealed")]


def accounts_of(batch: Batch) -> list[AccountRow]:
    indexes = BatchItem.objects.filter(batch=batch).values("record__number_index")
    return list(AccountRow.objects.filter(number_index__in=indexes).select_related("account_file"))


def seen(record: CardholderRecord) -> tuple[Any, ...]:
    return open_number(record), open_name(record), open_account(record), read_photo(record)


def assert_unreadable(records: list[CardholderRecord]) -> None:
    """Open rows as an earlier backup holds them, with whatever the key store still has."""
    assert records
    for record in records:
        for column in ("number", "name", "personal", "account"):
            with pytest.raises(KeyDestroyedError):
                open_column(record, column)  # type: ignore[arg-type]
        with pytest.raises(KeyDestroyedError):
            read_photo(record)


class TestPackages:
    def test_the_first_batch_is_forgotten_while_the_second_is_in_production(
        self, chain: Chain, clerk: User, committed: Any, tmp_path: Path
    ) -> None:
        """R-22: rows and photos of an earlier backup do not open; the others' do, under other keys."""
        first, second = batches()
        dumped = records_of(first)
        before = {record.pk: seen(record) for record in records_of(second)}
        package = Package.objects.get()
        old = [package.content_key_id, package.key_id]
        shutil.copytree(sealed_roots()[0], tmp_path / "backup")
        with committed():
            destroy_batch(first, actor=clerk)
        settle_destruction(committed)
        shutil.copytree(tmp_path / "backup", sealed_roots()[0], dirs_exist_ok=True)
        assert [keystore().exists(key) for key in old] == [False, False]
        assert_unreadable(dumped)
        assert {record.pk: seen(record) for record in records_of(second)} == before
        content = DestructionCertificate.objects.exclude(signature=b"").get().content
        assert set(content["keys"]) >= {*old, first.key_id}
        assert (content["packages"], content["closed_packages"]) == ([package.number], [])

    def test_after_the_first_time_nothing_is_sealed_twice(
        self, chain: Chain, clerk: User, committed: Any
    ) -> None:
        """R-22: destroying the second batch only leaves its people out of the ring."""
        first, second = batches()
        with committed():
            destroy_batch(first, actor=clerk)
        settle_destruction(committed)
        dumped, ring = records_of(second), Package.objects.get().ring_key_id
        waiting = CardholderRecord.objects.filter(status__in=WAITING).select_related("package")
        before = {r.pk: (bytes(r.number_sealed or b""), open_number(r), read_photo(r)) for r in waiting}
        with committed():
            destroy_batch(second, actor=clerk)
        assert Task.objects.filter(handler=rekeying.REKEY, status="queued").count() == 0
        assert run_queued() == 1  # the certificate, at once
        package = Package.objects.get()
        assert package.ring_key_id not in {"", ring}
        assert not keystore().exists(ring)
        assert not default_storage.exists(keyrings.ring_name(ring))
        assert_unreadable(dumped)
        fresh = waiting.all()
        assert {r.pk: (bytes(r.number_sealed or b""), open_number(r), read_photo(r)) for r in fresh} == before
        assert DestructionCertificate.objects.filter(signature=b"").count() == 0

    def test_nothing_is_certified_before_the_old_keys_are_gone(
        self, chain: Chain, clerk: User, committed: Any
    ) -> None:
        """R-22: the photos of the delivered lie in the payload until the rest is sealed anew."""
        first = batches()[0]
        with committed():
            destroy_batch(first, actor=clerk)
        assert advance_certificates() == 0
        start_due_rekeys()
        assert advance_certificates() == 0
        with committed():
            run_queued()
        assert not Package.objects.get().key_id
        assert advance_certificates() == 1
        with committed():
            run_queued()
        assert DestructionCertificate.objects.exclude(signature=b"").count() == 1

    def test_what_somebody_holds_in_hand_is_read_where_it_stands_now(
        self, chain: Chain, clerk: User, committed: Any
    ) -> None:
        """R-18: a worker that selected its records before the re-sealing makes right cards after it."""
        first, second = batches()
        held, rows, gone = records_of(second), plain_rows(second), plain_rows(first)
        numbers = [chain.people[record.row_number].number for record in held]
        with committed():
            destroy_batch(first, actor=clerk)
        settle_destruction(committed)
        assert [open_number(record) for record in held] == numbers
        assert [key.open("number", sealed) for key, sealed in rows] == numbers
        for key, sealed in gone:
            with pytest.raises(KeyDestroyedError):
                key.open("number", sealed)
        held, plain = records_of(second), Package.objects.get()
        ring = keyrings.without(plain.ring_key_id, [], KeyPurpose.PACKAGE, "rotated", _kept_undo())
        keystore().destroy(plain.ring_key_id)
        Package.objects.update(ring_key_id=ring)
        assert [open_number(record) for record in held] == numbers
        assert all(read_photo(record) for record in held)

    def test_a_correction_in_a_ring(self, chain: Chain, clerk: User, committed: Any) -> None:
        """R-9: 补录 with a new photo, of a row that is sealed under its own key."""
        with committed():
            destroy_batch(batches()[0], actor=clerk)
        settle_destruction(committed)
        record = CardholderRecord.objects.select_related("package").get(
            row_number=2, status=RecordStatus.RETURNED
        )
        photo = encode_to_weight(draw_bust("corrected"))
        number = chain.people[2].number
        fixed = correct_record(record, changes={"AAC002": number}, photo=photo, actor=clerk, reason="更正")
        assert (open_number(fixed), read_photo(fixed), fixed.in_ring) == (number, photo, True)
        assert fixed.photo_name != record.photo_name


class TestKills:
    def test_a_part_that_dies_leaves_the_rows_as_they_were(
        self, chain: Chain, clerk: User, committed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-22: rows and their place change together; the next worker does the part again."""
        first, second = batches()
        before = {record.pk: seen(record) for record in records_of(second)}
        with committed():
            destroy_batch(first, actor=clerk)
        start_due_rekeys()
        package, real = Package.objects.get(), rekeying.update_from

        def dies(*args: Any) -> int:
            real(*args)
            raise OSError("killed")

        monkeypatch.setattr(rekeying, "update_from", dies)
        with pytest.raises(OSError, match="killed"), transaction.atomic():
            rekey_part(package, 0)
        assert not CardholderRecord.objects.filter(in_ring=True).exists()
        assert not finish_rekey(package, actor=None)
        assert {record.pk: seen(record) for record in records_of(second)} == before
        monkeypatch.setattr(rekeying, "update_from", real)
        assert rekey_part(package, 0) == CardholderRecord.objects.count()
        assert rekey_part(package, 0) == 0
        with committed():
            assert advance_rekeys() == 1
        assert {record.pk: seen(record) for record in records_of(second)} == before

    def test_a_batch_destroyed_half_way_through_the_resealing(
        self, chain: Chain, clerk: User, committed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-22: its people go from the ring and from the rows still to be sealed anew."""
        monkeypatch.setattr(rekeying, "ROWS", 8)
        first, second = batches()
        with committed():
            destroy_batch(first, actor=clerk)
        start_due_rekeys()
        rekey_part(Package.objects.get(), 1)
        dumped = records_of(second)
        assert {record.in_ring for record in dumped} == {True, False}
        with committed():
            destroy_batch(second, actor=clerk)
        settle_destruction(committed)
        assert_unreadable(dumped)
        assert DestructionCertificate.objects.filter(signature=b"").count() == 0
        left = CardholderRecord.objects.select_related("package")
        assert {record.status for record in left} <= set(WAITING)
        assert all(open_number(record) is not None for record in left)

    def test_a_start_that_fails_leaves_no_ring(
        self, chain: Chain, clerk: User, committed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with committed():
            destroy_batch(batches()[0], actor=clerk)
        keys, rings = key_files_left(), set(sealed_roots()[0].glob("rings/*"))

        def dies(*args: Any, **options: Any) -> None:
            raise OSError("killed")

        monkeypatch.setattr(rekeying, "schedule", dies)
        with pytest.raises(OSError, match="killed"):
            start_due_rekeys()
        assert (key_files_left(), set(sealed_roots()[0].glob("rings/*"))) == (keys, rings)
        assert Package.objects.get().ring_key_id == ""

    def test_starting_twice_starts_once(self, chain: Chain, clerk: User, committed: Any) -> None:
        package = Package.objects.get()
        assert not start_rekey(package, actor=None)  # nobody asked
        with committed():
            destroy_batch(batches()[0], actor=clerk)
        assert [start_due_rekeys(), start_due_rekeys()] == [1, 0]
        assert not start_rekey(package, actor=None)
        settle_destruction(committed)
        assert AuditEntry.objects.filter(action="package.rekeyed").count() == 1


class TestAccounts:
    def test_accounts_of_the_delivered_are_forgotten_while_others_rows_stay(
        self, chain: Chain, clerk: User, committed: Any
    ) -> None:
        """R-22: a backup of the bank's rows opens for those who wait, not for those who have their card."""
        first = batches()[0]
        gone = accounts_of(first)
        others = list(
            AccountRow.objects.filter(bank=first.order.bank, is_current=True)
            .exclude(pk__in=[row.pk for row in gone])
            .select_related("account_file")
        )
        before = [open_account_row(row) for row in others]
        assert gone
        assert others
        with committed():
            destroy_batch(first, actor=clerk)
        for row in gone:
            with pytest.raises(KeyDestroyedError):
                open_account_row(row)
        assert [open_account_row(row) for row in others] == before
        file = AccountFile.objects.get(pk=gone[0].account_file_id)
        assert file.status == AccountFileStatus.LOADED


class TestRings:
    def test_slots(self, own_folders: None) -> None:
        """R-22: each slot has its own key; a slot left out, or never drawn, has none."""
        undo = _kept_undo()
        ring = keyrings.NewRing()
        keys = {slot: ring.draw(slot) for slot in (7, 3, 5000)}
        first = ring.write(KeyPurpose.PACKAGE, "r", undo)
        assert len(set(keys.values())) == 3
        blob = keyrings.slot_cipher(first, 7).seal(b"seven", b"c")
        with pytest.raises(TamperedError):
            keyrings.slot_cipher(first, 3).open(blob, b"c")
        for slot in (0, 4, 4999, 5001, 10**6):
            with pytest.raises(KeyDestroyedError):
                keyrings.slot_cipher(first, slot)
        second = keyrings.without(first, [3], KeyPurpose.PACKAGE, "r", undo)
        keystore().destroy(first)
        assert keyrings.slot_cipher(second, 7).open(blob, b"c") == b"seven"
        for key_id, slot in ((second, 3), (first, 7)):
            with pytest.raises(KeyDestroyedError):
                keyrings.slot_cipher(key_id, slot)

    def test_no_cipher_without_a_key(self, chain: Chain) -> None:
        package = Package.objects.get()
        with pytest.raises(Exception, match="密钥"):
            row_cipher(package.pk, package.key_id, "", 1, in_ring=True)
        assert connection.in_atomic_block


def _kept_undo() -> ExitStack:
    return ExitStack()  # never closed: what is written stays
