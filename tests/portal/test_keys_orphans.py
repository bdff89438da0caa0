"""Keys that nothing refers to: found, destroyed with a tombstone, and never one that is in use (R-22)."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import models
from django.utils import timezone

from orders.models import Package
from portal.core.errors import PermissionRefusedError
from portal.core.keystore import KeyPurpose
from portal.files import keystore
from portal.models import AuditEntry, Organisation, User
from portal.services.orphan_keys import TooManyOrphansError, destroy_orphans, orphan_keys, references
from tests.concurrency.rivals import killed_at
from tests.portal.desk import make_person
from tests.portal.key_desk import begun, two_people
from tests.refusals import refused

pytestmark = pytest.mark.django_db
APPS = ("portal", "orders", "production", "quality", "billing", "stations")


@pytest.fixture
def system(db: None) -> User:
    return User.objects.system()


def age(folder: Path, key_id: str, hours: float = 25) -> str:
    """Let a key have been made some hours ago."""
    moment = time.time() - hours * 3600
    os.utime(folder / f"{key_id}.key", (moment, moment))
    return key_id


def old_key(folder: Path, label: str = "left behind") -> str:
    return age(folder, keystore().create(KeyPurpose.PACKAGE, label))


def last() -> AuditEntry:
    return AuditEntry.objects.latest("position")


def test_every_column_with_a_key_id_is_known() -> None:
    """A column that is missing in KEY_REFERENCES would have its keys destroyed while they are in use."""
    columns = {
        (model._meta.label, field.name)
        for label in APPS
        for model in apps.get_app_config(label).get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.CharField) and field.name.endswith("key_id")
    }
    assert set(references()) == columns


def test_what_nothing_refers_to_is_destroyed_with_proof(system: User, keystore_dir: Path) -> None:
    left = old_key(keystore_dir)
    draft = keystore_dir / f".{left}.key.{'0' * 16}"
    draft.write_bytes(b"half written")
    destroyed = destroy_orphans(actor=system)
    assert [stone.label for stone in destroyed] == ["left behind"]
    assert keystore().tombstone(left) == destroyed[0]
    assert not draft.exists()
    entry = last()
    assert (entry.action, entry.result, entry.actor_name) == ("key.orphans_destroyed", "done", "system")
    assert entry.details == {
        "keys": [{"digest": destroyed[0].key_digest, "purpose": "package", "label": "left behind"}]
    }
    entries = AuditEntry.objects.count()
    assert (destroy_orphans(actor=system), AuditEntry.objects.count()) == ([], entries)


def test_a_young_key_is_left_alone(system: User, keystore_dir: Path) -> None:
    """Its process may be about to write the row."""
    young = age(keystore_dir, keystore().create(KeyPurpose.PACKAGE, "young"), hours=23)
    assert destroy_orphans(actor=system) == []
    assert keystore().exists(young)
    assert [key.key_id for key in orphan_keys(timedelta(hours=22))] == [young]


def test_keys_in_use_and_keys_that_are_no_data_keys_stay(
    system: User, keystore_dir: Path, gov: Organisation
) -> None:
    """A package's three keys, a component that waits, and the installation's own keys."""
    store = keystore()
    store.ensure_sm2("portal")
    store.index_key()
    store.generate_test_masters(["SSSE-IRK"])
    used = [old_key(keystore_dir, str(number)) for number in range(3)]
    Package.objects.create(
        number="P-1", file_name="P-1.zip", received_by=system,
        content_key_id=used[0], key_id=used[1], ring_key_id=used[2],
    )  # fmt: skip
    waiting = age(keystore_dir, begun(two_people(gov)[0]).component_key_id)
    own = {path.name for path in keystore_dir.iterdir() if path.suffix == ".key"} - {f"{waiting}.key"}
    for path in keystore_dir.glob("*.key"):
        os.utime(path, (1, 1))
    assert destroy_orphans(actor=system) == []
    assert all(map(store.exists, [*used, waiting]))
    assert {path.name for path in keystore_dir.iterdir() if path.suffix == ".key"} >= own


@pytest.mark.django_db(transaction=True)
def test_a_process_killed_before_its_row_stood_leaves_nothing_for_long(
    system: User, keystore_dir: Path, gov: Organisation
) -> None:
    """Issue 3: killed between making a key and its rows."""
    first, _ = two_people(gov)
    keystore()
    assert killed_at("portal.services.keys._save", 1, lambda: begun(first))
    left = [key.key_id for key in keystore().data_keys(timezone.now() + timedelta(hours=1))]
    assert len(left) == 1
    assert destroy_orphans(actor=system) == []
    age(keystore_dir, left[0])
    (stone,) = destroy_orphans(actor=system)
    assert (stone.purpose, stone.label) == (KeyPurpose.COMPONENT, "SSSE-IRK v1")
    assert not keystore().exists(left[0])


def test_a_wrong_database_does_not_cost_the_keys(system: User, keystore_dir: Path) -> None:
    """An empty or older database would make every key look forgotten."""
    kept = [old_key(keystore_dir, str(number)) for number in range(4)]
    with refused(TooManyOrphansError, audited=["key.orphans_refused"]) as refusal:
        destroy_orphans(at_most=3, actor=system)
    assert (refusal.value.expected, refusal.value.got) == ("≤ 3", "4")
    assert all(map(keystore().exists, kept))
    assert len(destroy_orphans(at_most=4, actor=system)) == 4


def test_a_damaged_key_file_does_not_hold_up_the_others(
    system: User, keystore_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, left = old_key(keystore_dir), old_key(keystore_dir)
    (keystore_dir / f"{damaged}.key").write_bytes(b"{}")
    age(keystore_dir, damaged)
    assert len(destroy_orphans(actor=system)) == 1
    assert not keystore().exists(left)
    assert "key_unreadable" in caplog.text
    assert damaged not in caplog.text


def test_only_security_administrators_destroy_them(keystore_dir: Path, gov: Organisation) -> None:
    left, clerk = old_key(keystore_dir), make_person("purchaser_clerk", gov)
    with refused(PermissionRefusedError):
        destroy_orphans(actor=clerk)
    assert keystore().exists(left)


def test_the_command_lists_destroys_and_refuses(system: User, keystore_dir: Path) -> None:
    left, said = old_key(keystore_dir), StringIO()
    call_command("sweep_keys", list=True, stdout=said)
    assert left in said.getvalue()
    assert keystore().exists(left)
    for given in ({"hours": 23}, {"at_most": 0}):
        with pytest.raises(CommandError):
            call_command("sweep_keys", **given)
    assert keystore().exists(left)
    said = StringIO()
    call_command("sweep_keys", stdout=said)
    assert said.getvalue() == "已销毁没有数据引用的密钥 1 个\n"
    assert not keystore().exists(left)
    said = StringIO()
    call_command("sweep_keys", stdout=said)
    assert said.getvalue() == ""
