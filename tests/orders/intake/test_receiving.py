"""Receiving a package: who may, from whom, once only, and nothing half-done when a step fails (R-8, R-46)."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.utils import timezone

from orders.choices import PackageStatus
from orders.models import Package, SenderKey
from orders.services import packages, upkeep
from orders.services.packages import discard_payload, receive_package
from orders.services.refusals import PackageTooLargeError, ReplayedError, SenderKeyError, UnknownSenderError
from portal import files
from portal.audit import verify_chain
from portal.core.crypto import Sm2PrivateKey
from portal.core.errors import InputRefusedError, PermissionRefusedError
from portal.core.seal_refusals import BadSignatureError, NotAContainerError
from portal.models import AuditEntry, Task, User
from portal.samples.hostile import sealed
from tests.orders.intake.world import World, actions, add_sender_key


def stored() -> tuple[list[str], int]:
    """Return the stored files and how many usable data keys there are."""
    folder = Path(settings.FILES_DIR)
    names = (
        sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        if folder.exists()
        else []
    )
    keys = [path for path in Path(settings.KEYSTORE_DIR).glob("*.key") if len(path.stem) == 32]
    return names, len(keys)


def assert_refused(world: World, container: bytes, kind: type[InputRefusedError]) -> Package:
    """Check that a refusal leaves a row and an event, and no file, key or task."""
    with pytest.raises(kind) as caught:
        world.receive(container)
    row = Package.objects.latest("pk")
    assert (row.status, row.refusal_code) == (PackageStatus.REFUSED, caught.value.code)
    assert caught.value.message in row.refusal_text
    assert AuditEntry.objects.latest("position").action == "package.refused"
    assert AuditEntry.objects.latest("position").result == "refused"
    assert AuditEntry.objects.latest("position").details == {"code": caught.value.code}
    assert not Task.objects.filter(subject_id=row.pk).exists()
    return row


def test_what_is_kept_of_a_package(world: World) -> None:
    """§4: the payload without the wrapped key, two keys of its own, one task, one event."""
    container = world.container()
    package = world.receive(container, name="/tmp/x/../p 1.sealed")
    assert package.status == PackageStatus.RECEIVED
    assert (package.number, package.sender, package.file_name) == ("P-1", world.province, "p 1.sealed")
    names, keys = stored()
    assert (names, keys) == ([package.stored_name], 2)
    with default_storage.open(package.stored_name) as file:
        content = file.read()
    assert content in container
    assert b"envelope" not in content
    assert list(Task.objects.values_list("handler", "subject_id")) == [
        ("orders.jobs.open_package", package.pk)
    ]
    assert actions() == ["package.received"]
    assert verify_chain() == (1, None)


def test_only_the_purchasers_clerk_receives(world: World) -> None:
    """Architecture §3: anybody else is refused before the file is looked at, and nothing is noted."""
    for roles in ([], ["purchaser_approver"], ["bank_clerk"], ["auditor"]):
        User.objects.filter(pk=world.clerk.pk).update(roles=roles)
        actor = User.objects.get(pk=world.clerk.pk)
        with pytest.raises(PermissionRefusedError):
            receive_package(io.BytesIO(b"not read"), file_name="x", actor=actor)
    assert (Package.objects.count(), actions(), stored()[0]) == (0, [], [])


def test_a_package_is_received_once(world: World) -> None:
    """R-46: neither the same number nor the same content again, whatever its name."""
    container = world.container()
    world.receive(container)
    before = stored()
    row = assert_refused(world, container, ReplayedError)
    assert (row.number, row.sender, row.payload_digest) == ("P-1", world.province, None)
    other_content = world.container(6)
    assert_refused(world, other_content, ReplayedError)
    assert stored() == before


def test_a_refused_number_may_come_again(world: World) -> None:
    """A sender puts a package right under its own number."""
    container = world.container()
    broken = bytearray(container)
    broken[len(broken) // 2] ^= 1
    with pytest.raises(InputRefusedError):
        world.receive(bytes(broken))
    assert world.receive(container).status == PackageStatus.RECEIVED


def test_an_oversize_file_is_not_even_opened(world: World, settings: Any) -> None:
    settings.MAX_PACKAGE_BYTES = 1000
    assert_refused(world, world.container(), PackageTooLargeError)
    assert stored() == ([], 0)


def test_an_empty_file(world: World) -> None:
    assert_refused(world, b"", NotAContainerError)


class TestSenders:
    def test_an_inactive_or_other_organisation_sends_nothing(self, world: World) -> None:
        container = world.container()
        world.province.is_active = False
        world.province.save()
        assert_refused(world, container, UnknownSenderError)
        world.province.is_active, world.province.kind = True, "bank"
        world.province.save()
        assert_refused(world, container, UnknownSenderError)

    @pytest.mark.parametrize(
        "changes",
        [
            {"revoked_at": timezone.now()},
            {"valid_until": timezone.now() - timedelta(hours=1)},
            {"valid_from": timezone.now() + timedelta(hours=1)},
        ],
        ids=["revoked", "expired", "not yet valid"],
    )
    def test_a_key_must_be_valid(self, world: World, changes: dict[str, Any]) -> None:
        container = world.container()
        SenderKey.objects.update(**changes)
        assert_refused(world, container, SenderKeyError)
        assert stored() == ([], 0)

    def test_a_package_made_before_the_key_was_valid(self, world: World) -> None:
        """R-46: a key does not vouch for what is dated before it."""
        SenderKey.objects.update(valid_from=timezone.now() - timedelta(seconds=5))
        assert_refused(world, world.container(), SenderKeyError)

    def test_the_old_and_the_next_key_both_count_while_valid(self, world: World) -> None:
        """Senders rotate by adding the next key."""
        add_sender_key(world.province, Sm2PrivateKey.generate())
        assert world.receive(world.container()).status == PackageStatus.RECEIVED

    def test_a_key_of_another_sender_signs_nothing(self, world: World) -> None:
        parties = world.parties()
        SenderKey.objects.all().delete()
        add_sender_key(world.province, world.stranger)
        assert_refused(world, sealed(world.inner(3)[0], parties), BadSignatureError)


class TestNothingHalfDone:
    def test_a_full_disk(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error of the machine is no refusal: it surfaces, and keys and file are gone."""

        def full(*args: Any) -> None:
            args[2].write(b"half of it")
            raise OSError(28, "No space left on device")

        container = world.container()
        monkeypatch.setattr(packages, "extract_payload", full)
        with pytest.raises(OSError, match="No space"):
            world.receive(container)
        assert (stored(), Package.objects.count(), actions()) == (([], 0), 0, [])

    def test_a_failing_database(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def failing(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("connection lost")

        container = world.container()
        monkeypatch.setattr(packages, "schedule", failing)
        with pytest.raises(RuntimeError):
            world.receive(container)
        assert (stored(), Package.objects.count(), actions()) == (([], 0), 0, [])

    def test_a_changed_payload_is_noticed_while_it_is_copied(self, world: World) -> None:
        content = bytearray(world.container())
        content[len(content) // 2] ^= 0x10
        row = assert_refused(world, bytes(content), InputRefusedError)
        assert row.refusal_code == "payload_changed"
        assert stored() == ([], 0)


class TestUpkeep:
    def test_what_a_killed_intake_left_is_removed_later(self, world: World) -> None:
        """R-22: a file without a row is nobody's; the sweeper removes it, sparing the young and the known."""
        package = world.receive(world.container())
        default_storage.save("packages/999999/payload.bin", io.BytesIO(b"left"))  # type: ignore[arg-type]
        (Path(settings.FILES_DIR) / ".incoming" / "half").write_bytes(b"half")
        assert upkeep.clear_strays() == 0
        assert upkeep.clear_strays(older_than=timedelta(seconds=-5)) == 2
        assert stored()[0] == [package.stored_name]

    def test_a_refused_package_loses_keys_and_file_even_when_its_worker_was_killed(
        self, world: World
    ) -> None:
        package = world.receive(world.container())
        Package.objects.filter(pk=package.pk).update(status=PackageStatus.REFUSED)
        assert upkeep.clear_refused() == 1
        assert upkeep.clear_refused() == 0
        assert stored() == ([], 0)
        assert files.keystore().tombstone(package.key_id) is not None

    def test_discarding_twice_changes_nothing(self, world: World) -> None:
        package = world.receive(world.container())
        discard_payload(package)
        discard_payload(package)
        assert stored() == ([], 0)
