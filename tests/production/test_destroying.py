"""Destroying batch by batch: the package with its last one, kills in between, who may and when (R-22)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from orders.choices import PackageStatus
from orders.models import CardholderRecord, Package
from portal.choices import Role
from portal.core import key_files
from portal.core.errors import PermissionRefusedError, TransitionRefusedError
from portal.files import keystore
from portal.models import AuditEntry, PendingRemoval, Task, User
from portal.removal import remove_pending
from production.choices import BatchStatus
from production.models import Batch, DestructionCertificate, ReturnFile
from production.services import destruction_certifying
from production.services.destruction import ReturnFileMissingError, destroy_batch
from production.services.destruction_certifying import CERTIFY, NotGoneError, certify
from stations.models import EmergencyCase, Station
from tests.production.chain import key_files_left
from tests.production.light import light_dispatched, light_signed
from tests.production.world import World, build_world, run_queued
from tests.refusals import actions, refused


@pytest.fixture
def world(db: None) -> World:
    made = build_world()
    Package.objects.update(status=PackageStatus.VALIDATED)
    return made


@pytest.fixture
def bank(world: World) -> User:
    return User.objects.create(username="bank", organisation=world.bank, roles=[Role.BANK_CLERK])


def returned(world: World, bank: User, count: int = 3) -> Batch:
    """Return a signed batch whose return file stands."""
    batch = light_signed(world, count, bank)
    ReturnFile.objects.create(
        batch=batch, stored_name="r", card_count=count, failed_count=0, digest=bytes(32)
    )  # fmt: skip
    return batch


def paper(batch: Batch) -> DestructionCertificate:
    return DestructionCertificate.objects.get(batch=batch)


class TestLastBatch:
    def test_the_last_record_takes_its_package_along(self, world: World, bank: User, committed: Any) -> None:
        """R-22."""
        first, second = returned(world, bank), returned(world, bank)
        with committed():
            destroy_batch(first, actor=world.clerk)
        assert Package.objects.get().status == PackageStatus.VALIDATED
        key = Package.objects.get().key_id
        with committed():
            destroy_batch(second, actor=world.clerk)
        package = Package.objects.get()
        assert (package.status, package.key_id, package.destroyed_at is not None) == ("destroyed", "", True)
        assert not keystore().exists(key)
        assert not CardholderRecord.objects.exists()
        run_queued()
        content = DestructionCertificate.objects.get(batch=second).content
        assert content["closed_packages"] == ["P-1"]
        assert content["keys"] == sorted([second.key_id, key])

    def test_a_package_that_is_still_checked_stays(self, world: World, bank: User, committed: Any) -> None:
        """R-22: rows may be waiting in chunks that no record shows."""
        batch = returned(world, bank)
        Package.objects.update(status=PackageStatus.VALIDATING)
        with committed():
            destroy_batch(batch, actor=world.clerk)
        assert keystore().exists(Package.objects.get().key_id)


class TestReferences:
    def test_rows_of_other_apps_that_name_a_person_stay_without(
        self, world: World, bank: User, committed: Any
    ) -> None:
        """R-22: a counter's emergency case outlives the record that was made of it."""
        batch = returned(world, bank)
        record = CardholderRecord.objects.filter(batch_item__batch=batch).earliest("pk")
        station = Station.objects.create(code="c-1", name="柜台", place="佛山", operator=world.bank)
        EmergencyCase.objects.create(
            station=station, bank=world.bank, number_index=record.number_index, reason="急需",
            requested_by=bank, record=record,
        )  # fmt: skip
        with committed():
            destroy_batch(batch, actor=world.clerk)
        assert EmergencyCase.objects.get().record is None
        assert not CardholderRecord.objects.exists()


class TestKills:
    def test_what_a_kill_after_the_commit_leaves_is_removed_later(
        self, world: World, bank: User, django_capture_on_commit_callbacks: Any
    ) -> None:
        """R-22: the note of what must go was committed with the rows; the sweeper finishes."""
        batch = returned(world, bank)
        lists = list(batch.deliveries.values_list("list_name", flat=True))
        with django_capture_on_commit_callbacks(execute=False):
            destroy_batch(batch, actor=world.clerk)
        assert keystore().exists(batch.key_id)
        assert all(map(default_storage.exists, lists))
        noted = PendingRemoval.objects.count()
        assert noted == 5  # two keys, two lists, the shared photo
        assert remove_pending() == noted
        assert not keystore().exists(batch.key_id)
        assert not any(map(default_storage.exists, lists))
        assert (PendingRemoval.objects.count(), remove_pending()) == (0, 0)

    def test_a_kill_between_tombstone_and_overwriting_is_made_good(
        self, world: World, bank: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-22: the key counts as destroyed, but its file must go too before anything is certified."""
        batch = returned(world, bank)
        destroy_batch(batch, actor=world.clerk)
        real = key_files.shred

        def stopped(path: Path) -> None:
            raise OSError("stopped")

        monkeypatch.setattr("portal.core.key_folder.shred", stopped)
        remove_pending()
        assert (keystore().exists(batch.key_id), f"{batch.key_id}.key" in key_files_left()) == (False, True)
        rows = actions()
        with pytest.raises(NotGoneError):
            certify(paper(batch), actor=None)
        assert actions() == rows
        monkeypatch.setattr("portal.core.key_folder.shred", real)
        assert certify(paper(batch), actor=None).signature
        assert f"{batch.key_id}.key" not in key_files_left()

    def test_what_cannot_be_removed_holds_up_nothing_else(
        self, world: World, bank: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = returned(world, bank)
        destroy_batch(batch, actor=world.clerk)
        name = PendingRemoval.objects.filter(kind="file").earliest("pk").name

        def remove(wanted: str) -> None:
            if wanted == name:
                raise PermissionError(wanted)

        monkeypatch.setattr("portal.removal.remove", remove)
        assert remove_pending() == 4
        assert [row.name for row in PendingRemoval.objects.all()] == [name]

    def test_nothing_is_certified_while_it_is_there(
        self, world: World, bank: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R-22: a certificate that is signed is true."""
        batch = returned(world, bank)
        destroy_batch(batch, actor=world.clerk)
        monkeypatch.setattr(destruction_certifying, "remove_pending", lambda: 0)
        with refused(NotGoneError) as caught:
            certify(paper(batch), actor=world.clerk)
        assert caught.value.code == "not_gone"
        assert bytes(DestructionCertificate.objects.get().signature) == b""

    def test_certifying_twice_signs_once(self, world: World, bank: User) -> None:
        batch = returned(world, bank)
        destroy_batch(batch, actor=world.clerk)
        one = bytes(certify(paper(batch), actor=world.clerk).signature)
        assert bytes(certify(paper(batch), actor=world.clerk).signature) == one
        assert actions().count("destructioncertificate.signed") == 1


class TestRefusals:
    def test_not_before_the_bank_signed(self, world: World) -> None:
        batch = light_dispatched(world, 2)
        with refused(TransitionRefusedError):
            destroy_batch(batch, actor=world.clerk)

    def test_not_before_the_province_has_its_results(self, world: World, bank: User) -> None:
        batch = light_signed(world, 2, bank)
        with refused(ReturnFileMissingError) as caught:
            destroy_batch(batch, actor=world.clerk)
        assert caught.value.code == "return_file_missing"

    @pytest.mark.parametrize("name", ["operator", "approver", "planner", "other_planner"])
    def test_not_by_others(self, world: World, bank: User, name: str) -> None:
        batch = returned(world, bank)
        with refused(PermissionRefusedError):
            destroy_batch(batch, actor=getattr(world, name))

    def test_not_twice(self, world: World, bank: User) -> None:
        batch = returned(world, bank)
        destroyed = destroy_batch(batch, actor=world.clerk)
        assert (destroyed.status, destroyed.destroyed_at is not None) == (BatchStatus.DESTROYED, True)
        with refused(TransitionRefusedError):
            destroy_batch(batch, actor=world.clerk)

    def test_the_audit_tells_of_it_without_the_people(self, world: World, bank: User) -> None:
        """R-22, §4: counts and a digest of blind indexes, nothing that names anybody."""
        batch = returned(world, bank)
        destroy_batch(batch, actor=world.clerk)
        entry = AuditEntry.objects.get(action="batch.personal_data_destroyed")
        digest = DestructionCertificate.objects.get().content["people_digest"]
        assert entry.details == {"records": 3, "accounts": 0, "people_digest": digest}
        assert Task.objects.filter(handler=CERTIFY).count() == 1
