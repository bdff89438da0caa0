"""Destruction of a signed batch's personal data: rows, keys, files, whatever happens in between (R-22)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from orders.choices import AccountFileStatus, PackageStatus, RecordStatus
from orders.models import AccountFile, AccountRow, CardholderRecord, Package, PackagePhoto
from orders.personal import open_column, open_number, open_problems, read_photo
from orders.services.records import correct_record, return_list
from portal.core.crypto import sm3
from portal.core.keystore import KeyDestroyedError
from portal.core.ziprefusals import ZipMismatchError
from portal.files import keystore
from portal.models import User
from production.models import Batch, BatchItem, Card, DestructionCertificate, MachineFile
from production.services import destruction
from production.services.destruction import (
    ReturnFileMissingError,
    destroy_batch,
)
from tests.production.chain import (
    Chain,
    in_files,
    in_redis,
    in_tables,
    key_files_left,
    sealed_roots,
    settle_destruction,
)
from tests.refusals import refused


def batches() -> list[Batch]:
    return list(Batch.objects.order_by("pk"))


class TestTraces:
    def test_nothing_of_the_people_is_left_anywhere(
        self, chain: Chain, clerk: User, committed: Any, redis_server: Any
    ) -> None:
        """R-22: searched in every column of every table, every file, its name, and all of Redis."""
        records = list(CardholderRecord.objects.filter(status=RecordStatus.ORDERED).select_related("package"))
        assert len(records) == len(chain.accounts) == 18
        photos = [read_photo(record) or b"" for record in records]
        indexes = [bytes(record.number_index) for record in records]
        with committed():
            for batch in batches():
                destroy_batch(batch, actor=clerk)
        settle_destruction(committed)
        assert DestructionCertificate.objects.exclude(signature=b"").count() == 2
        secrets = chain.secrets()
        assert len(secrets) == 72
        assert in_tables(secrets) == set()
        assert in_files(secrets, *sealed_roots()) == set()
        assert in_redis(secrets, redis_server) == set()
        digests = [sm3(photo).hex() for photo in photos] + [photo[800:832].hex() for photo in photos]
        assert in_tables(digests) == set()
        assert not CardholderRecord.objects.filter(number_index__in=indexes).exists()
        assert not AccountRow.objects.filter(number_index__in=indexes).exists()
        assert not PackagePhoto.objects.exists()
        assert not BatchItem.objects.filter(record__isnull=False).exists()
        # What stays for warranty and billing: the slim card, by blind index (D9).
        assert set(map(bytes, Card.objects.values_list("number_index", flat=True))) == set(indexes)

    def test_earlier_copies_of_rows_and_files_cannot_be_read(
        self, chain: Chain, clerk: User, committed: Any, tmp_path: Path
    ) -> None:
        """R-22, architecture §4: a backup of rows and files without the keys is worth nothing."""
        dumped = list(CardholderRecord.objects.filter(status=RecordStatus.ORDERED).select_related("package"))
        produced = BatchItem.objects.values("record__number_index")
        AccountRow.objects.exclude(number_index__in=produced).delete()  # people without a record yet
        accounts = list(AccountRow.objects.select_related("account_file"))
        runs = list(MachineFile.objects.select_related("batch"))
        shutil.copytree(sealed_roots()[0], tmp_path / "backup")
        with committed():
            for batch in batches():
                destroy_batch(batch, actor=clerk)
        settle_destruction(committed)
        shutil.copytree(tmp_path / "backup", sealed_roots()[0], dirs_exist_ok=True)
        for record in dumped:
            for column in ("number", "name", "personal", "account"):
                with pytest.raises(KeyDestroyedError):
                    open_column(record, column)  # type: ignore[arg-type]
            with pytest.raises(KeyDestroyedError):
                read_photo(record)
        for run in runs:
            with pytest.raises(KeyDestroyedError):
                keystore().key(run.batch.key_id)
        emptied = AccountFile.objects.filter(pk__in={row.account_file_id for row in accounts})
        assert list(emptied.values_list("status", flat=True)) == [AccountFileStatus.DESTROYED] * 2
        for row in accounts:
            with pytest.raises(KeyDestroyedError):
                keystore().key(row.account_file.key_id)

    def test_a_batch_takes_its_own_people_only(self, chain: Chain, clerk: User, committed: Any) -> None:
        """R-22: the package and its key stay while another batch of it is made from them."""
        first, second = batches()
        others = BatchItem.objects.filter(batch=second).select_related("record__package")
        with committed():
            destroy_batch(first, actor=clerk)
        package = Package.objects.get()
        assert (package.status, keystore().exists(package.key_id)) == (PackageStatus.VALIDATED, True)
        assert not keystore().exists(first.key_id)
        assert keystore().exists(second.key_id)
        for item in others:
            assert item.record is not None
            assert open_number(item.record) == chain.people[item.record.row_number].number
            assert read_photo(item.record)
        content = DestructionCertificate.objects.get().content
        assert (content["packages"], content["closed_packages"]) == ([package.number], [])
        assert (content["record_count"], content["version_count"]) == (first.quantity,) * 2


class TestWaitingRows:
    def test_rows_that_wait_for_a_correction_are_sealed_anew(
        self, chain: Chain, clerk: User, committed: Any
    ) -> None:
        """R-9, R-22: the package's keys and payload go; returned rows, their findings and photos stay."""
        package = Package.objects.get()
        waiting = CardholderRecord.objects.filter(status=RecordStatus.RETURNED).select_related("package")
        before = {r.pk: (open_number(r), open_problems(r), read_photo(r)) for r in waiting}
        old = [package.content_key_id, package.key_id]
        with committed():
            for batch in batches():
                destroy_batch(batch, actor=clerk)
        settle_destruction(committed)
        closed = Package.objects.get()
        assert (closed.status, closed.content_key_id, closed.stored_name) == ("validated", "", "")
        assert (closed.key_id, keystore().exists(closed.ring_key_id)) == ("", True)
        assert [keystore().exists(key) for key in old] == [False, False]
        assert not default_storage.exists(package.stored_name)
        assert {r.pk: (open_number(r), open_problems(r), read_photo(r)) for r in waiting.all()} == before
        assert sum(photo is not None for _, _, photo in before.values()) == 4
        assert set(waiting.all().values_list("in_ring", flat=True)) == {True}

    def test_a_correction_works_afterwards_with_the_photo_that_was_kept(
        self, chain: Chain, clerk: User, committed: Any
    ) -> None:
        """R-9: 补录 of a row whose package is destroyed; its new version has number and photo."""
        with committed():
            for batch in batches():
                destroy_batch(batch, actor=clerk)
        settle_destruction(committed)
        record = CardholderRecord.objects.select_related("package").get(
            row_number=2, status=RecordStatus.RETURNED
        )
        photo = read_photo(record)
        assert photo
        corrected = correct_record(
            record, changes={"AAC002": chain.people[2].number}, actor=clerk, reason="校验位更正"
        )
        assert (corrected.status, corrected.version) == (RecordStatus.ACCEPTED, 2)
        assert open_number(corrected) == chain.people[2].number
        assert read_photo(corrected) == photo

    def test_the_return_list_is_still_written(
        self, chain: Chain, clerk: User, committed: Any, tmp_path: Path
    ) -> None:
        with committed():
            for batch in batches():
                destroy_batch(batch, actor=clerk)
        settle_destruction(committed)
        assert return_list(Package.objects.get(), tmp_path / "returns.xlsx", actor=clerk) >= 6

    def test_a_photo_that_cannot_be_read_holds_nothing_up(
        self, chain: Chain, clerk: User, committed: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-22: a damaged photo may be why the row was returned; the others are destroyed all the same."""

        def broken(record: CardholderRecord) -> bytes | None:
            raise ZipMismatchError("照片损坏")

        monkeypatch.setattr("orders.services.rekeying.read_photo", broken)
        with committed():
            for batch in batches():
                destroy_batch(batch, actor=clerk)
        settle_destruction(committed)
        assert in_tables(chain.secrets()) == set()
        waiting = CardholderRecord.objects.select_related("package")
        assert {read_photo(record) for record in waiting} == {None}
        assert {open_number(record) for record in waiting} >= {""}

    def test_a_failure_at_the_end_leaves_no_new_key_and_no_new_file(
        self, chain: Chain, clerk: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-22: what was sealed anew must not outlive the transaction that wanted it."""
        first, second = batches()
        destroy_batch(first, actor=clerk)
        files = {path for path in sealed_roots()[0].rglob("*") if path.is_file()}
        keys = key_files_left()

        def fail(*_: Any, **__: Any) -> None:
            raise ReturnFileMissingError("失败")

        monkeypatch.setattr(destruction, "certify_when_gone", fail)
        with refused(ReturnFileMissingError):
            destroy_batch(second, actor=clerk)
        assert {path for path in sealed_roots()[0].rglob("*") if path.is_file()} == files
        assert key_files_left() == keys
