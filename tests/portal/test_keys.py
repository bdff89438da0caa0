"""Importing a card master key: two people, two components, one check value (R-25, issue 3)."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from portal.choices import KeyImportStatus, Role
from portal.core.crypto import KeyFormatError, kcv
from portal.core.errors import (
    ConflictError,
    InputRefusedError,
    PermissionRefusedError,
    PortalError,
    SamePersonError,
    TransitionRefusedError,
)
from portal.core.keystore import CheckValueError, KeyDestroyedError, KeyForTestsError
from portal.files import keystore
from portal.models import AuditEntry, KeyImport, Organisation, User
from portal.services.keys import (
    FirstPersonGoneError,
    KeyImportExpiredError,
    KeyNameError,
    cancel_key_import,
    expire_key_imports,
    finish_key_import,
    master_key_names,
    master_keys,
    next_version,
    start_key_import,
)
from tests.portal.desk import make_person
from tests.portal.key_desk import FIRST, MASTER, NAME, SECOND, begun, first_half, second_half, two_people
from tests.refusals import refused

pytestmark = pytest.mark.django_db
# What is removed goes with the commit.
commits = pytest.mark.django_db(transaction=True)


@pytest.fixture
def people(gov: Organisation) -> tuple[User, User]:
    return two_people(gov)


def key_files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.key")}


def last() -> AuditEntry:
    return AuditEntry.objects.latest("position")


@commits
def test_two_people_bring_a_key(people: tuple[User, User], keystore_dir: Path) -> None:
    """Architecture §3: importing a key is a step of two people."""
    first, second = people
    row = begun(first, valid_until=date(2036, 12, 31))
    assert (row.status, row.first_by, row.second_by) == ("waiting", first, None)
    assert (last().action, last().actor_name) == ("keyimport.started", "security1")
    component_id = row.component_key_id
    assert master_keys() == []

    master = finish_key_import(row, **second_half(), actor=second)

    row.refresh_from_db()
    assert (row.status, row.second_by, row.component_key_id) == ("imported", second, "")
    assert row.closed_at is not None
    assert (master.name, master.version, master.check_value, master.test) == (NAME, 1, kcv(MASTER), False)
    assert keystore().master_key(NAME) == MASTER
    assert master_keys() == [master]
    with pytest.raises(KeyDestroyedError):
        keystore().component(component_id)
    assert (last().action, last().actor_name, last().result) == ("keyimport.imported", "security2", "done")
    assert last().details["check_value"] == kcv(MASTER)
    assert last().details["valid_until"] == "2036-12-31"
    assert next_version(NAME) == 2


def test_no_component_is_in_the_database_or_the_audit(people: tuple[User, User], keystore_dir: Path) -> None:
    """The first one waits sealed in the key store, never in the database."""
    finish_key_import(begun(people[0]), **second_half(), actor=people[1])
    kept = f"{list(KeyImport.objects.values())} {list(AuditEntry.objects.values())}".lower()
    files = b"".join(path.read_bytes() for path in keystore_dir.iterdir()).lower()
    for secret in (FIRST, SECOND, MASTER):
        assert secret.hex() not in kept
        assert secret.hex().encode() not in files


def test_the_same_person_is_refused(people: tuple[User, User]) -> None:
    """Architecture §3: the same user twice is refused, and the attempt is audited."""
    row = begun(people[0])
    with refused(SamePersonError, audited=["second_person.refused"]):
        finish_key_import(row, **second_half(), actor=people[0])
    assert master_keys() == []
    assert keystore().component(row.component_key_id) == FIRST


def test_the_database_refuses_one_person_for_both(people: tuple[User, User]) -> None:
    row = begun(people[0])
    for change in ({"second_by": people[0]}, {"status": "imported"}, {"status": "failed"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            KeyImport.objects.filter(pk=row.pk).update(**change)


@pytest.mark.parametrize("role", [role for role in Role if role != Role.SECURITY_ADMINISTRATOR])
def test_only_security_administrators_import_keys(
    role: str, people: tuple[User, User], gov: Organisation
) -> None:
    row, other = begun(people[0]), make_person(role, gov, "other")
    with refused(PermissionRefusedError):
        start_key_import(**first_half(version=2), actor=other)
    with refused(PermissionRefusedError):
        finish_key_import(row, **second_half(), actor=other)
    with refused(PermissionRefusedError):
        cancel_key_import(row, actor=other)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"component": FIRST.hex()[:-1] + "0"}, CheckValueError),
        ({"component_check_value": kcv(SECOND)}, CheckValueError),
        ({"component": "00" * 16, "component_check_value": kcv(bytes(16))}, KeyForTestsError),
        ({"component": FIRST.hex()[:-2]}, KeyFormatError),
        ({"component": ""}, KeyFormatError),
        ({"check_value": "12345"}, CheckValueError),
        ({"check_value": "ZZZZZZ"}, CheckValueError),
        ({"name": "IRK"}, KeyNameError),
        ({"name": "../x"}, InputRefusedError),
        ({"version": 0}, InputRefusedError),
        ({"version": -1}, InputRefusedError),
        ({"version": 2**31}, InputRefusedError),
        ({"valid_from": date(2027, 1, 1), "valid_until": date(2026, 1, 1)}, InputRefusedError),
    ],
)
def test_a_wrong_first_half_leaves_nothing(
    changed: dict[str, Any], error: type[PortalError], people: tuple[User, User], keystore_dir: Path
) -> None:
    keystore()
    with refused(error) as refusal:
        start_key_import(**first_half(**changed), actor=people[0])
    assert FIRST.hex() not in str(refusal.value)
    assert key_files(keystore_dir) == set()


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"component": SECOND.hex()[:-1] + "0"}, CheckValueError),
        ({"component_check_value": "000000"}, CheckValueError),
        ({"component": "x" * 32}, KeyFormatError),
        ({"component": "ff" * 16, "component_check_value": kcv(b"\xff" * 16)}, KeyForTestsError),
    ],
)
def test_a_mistyped_second_half_may_be_typed_again(
    changed: dict[str, Any], error: type[PortalError], people: tuple[User, User]
) -> None:
    """Its own check value tells a typing error from a wrong key."""
    row = begun(people[0])
    with refused(error):
        finish_key_import(row, **second_half(**changed), actor=people[1])
    finish_key_import(row, **second_half(), actor=people[1])
    assert keystore().master_key(NAME) == MASTER


@commits
def test_a_wrong_key_ends_the_ceremony_and_keeps_nothing(
    people: tuple[User, User], keystore_dir: Path
) -> None:
    """Issue 3: wrong final check value: nothing kept, audited, both start again."""
    row = begun(people[0])
    component_id = row.component_key_id
    wrong = bytes(byte ^ 0x5A for byte in SECOND)
    half = {"component": wrong.hex(), "component_check_value": kcv(wrong)}
    with pytest.raises(CheckValueError) as refusal:
        finish_key_import(row, **half, actor=people[1])
    assert refusal.value.expected == kcv(MASTER)
    row.refresh_from_db()
    assert (row.status, row.second_by, row.component_key_id) == ("failed", people[1], "")
    assert (last().action, last().result, last().details["code"]) == (
        "keyimport.failed", "refused", "check_value",
    )  # fmt: skip
    assert key_files(keystore_dir) == set()
    with pytest.raises(KeyDestroyedError):
        keystore().component(component_id)
    with refused(TransitionRefusedError):
        finish_key_import(row, **second_half(), actor=people[1])
    again = begun(people[0])
    finish_key_import(again, **second_half(), actor=people[1])
    assert keystore().master_key(NAME) == MASTER


def test_a_key_everybody_knows_ends_the_ceremony_too(people: tuple[User, User]) -> None:
    """R-25: neither half is known, the whole is."""
    known = bytes(range(0x40, 0x50))
    other = bytes(a ^ b for a, b in zip(FIRST, known, strict=True))
    row = begun(people[0], check_value=kcv(known))
    with pytest.raises(KeyForTestsError):
        finish_key_import(row, component=other.hex(), component_check_value=kcv(other), actor=people[1])
    row.refresh_from_db()
    assert (row.status, master_keys()) == ("failed", [])


@commits
def test_a_ceremony_that_lasts_too_long_ends(people: tuple[User, User], settings: Any) -> None:
    settings.KEY_IMPORT_HOURS = 2
    row = begun(people[0])
    assert timedelta(hours=1, minutes=59) < row.expires_at - timezone.now() < timedelta(hours=2, minutes=1)
    KeyImport.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    component_id = row.component_key_id
    with pytest.raises(KeyImportExpiredError):
        finish_key_import(row, **second_half(), actor=people[1])
    row.refresh_from_db()
    assert (row.status, row.component_key_id, master_keys()) == ("expired", "", [])
    assert last().action == "keyimport.expired"
    with pytest.raises(KeyDestroyedError):
        keystore().component(component_id)


@commits
def test_the_scheduler_ends_what_nobody_finished(people: tuple[User, User]) -> None:
    late, waiting = begun(people[0]), begun(people[0], version=2)
    KeyImport.objects.filter(pk=late.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert (expire_key_imports(), expire_key_imports()) == (1, 0)
    assert [KeyImport.objects.get(pk=row.pk).status for row in (late, waiting)] == ["expired", "waiting"]
    assert keystore().tombstone(late.component_key_id) is not None
    assert last().actor_name == "system"


@commits
def test_a_cancelled_ceremony_keeps_nothing(people: tuple[User, User]) -> None:
    row = begun(people[0])
    cancelled = cancel_key_import(row, actor=people[1])
    assert (cancelled.status, cancelled.component_key_id) == ("cancelled", "")
    assert keystore().tombstone(row.component_key_id) is not None
    for late in (cancel_key_import, lambda row, actor: finish_key_import(row, **second_half(), actor=actor)):
        with refused(TransitionRefusedError):
            late(row, actor=people[1])
    begun(people[0])


def test_a_version_is_imported_once(people: tuple[User, User]) -> None:
    row = begun(people[0])
    with refused(InputRefusedError):
        begun(people[1])
    finish_key_import(row, **second_half(), actor=people[1])
    with refused(ConflictError):
        begun(people[0])
    keystore().import_components("SSSE-BK", 3, FIRST, SECOND, kcv(MASTER))
    with refused(ConflictError):
        begun(people[0], name="SSSE-BK", version=3)
    assert next_version("SSSE-BK") == 4


def test_a_component_of_somebody_dismissed_is_not_used(people: tuple[User, User]) -> None:
    row = begun(people[0])
    for change in ({"is_active": False}, {"is_active": True, "roles": [Role.PURCHASER_CLERK]}):
        User.objects.filter(pk=people[0].pk).update(**change)
        with refused(FirstPersonGoneError):
            finish_key_import(row, **second_half(), actor=people[1])
    assert cancel_key_import(row, actor=people[1]).status == KeyImportStatus.CANCELLED


def test_a_crash_between_key_and_row_is_made_good_by_doing_it_again(
    people: tuple[User, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key file stands, the transaction was lost: the second person types the component once more."""
    row = begun(people[0])

    def killed(*arguments: Any, **fields: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("portal.services.keys.move", killed)
        with pytest.raises(KeyboardInterrupt):
            finish_key_import(row, **second_half(), actor=people[1])
    row.refresh_from_db()
    assert (row.status, len(master_keys())) == ("waiting", 1)
    finish_key_import(row, **second_half(), actor=people[1])
    row.refresh_from_db()
    assert (row.status, keystore().master_key(NAME)) == ("imported", MASTER)


def test_a_start_that_is_not_committed_leaves_no_component(
    people: tuple[User, User], keystore_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(events: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr("portal.audit._append", broken)
        with pytest.raises(RuntimeError):
            begun(people[0])
    assert (KeyImport.objects.count(), key_files(keystore_dir)) == (0, set())


def test_rows_are_seen_by_the_purchasers_administrators_only(
    people: tuple[User, User], supplier: Organisation
) -> None:
    begun(people[0])
    elsewhere = make_person(Role.SECURITY_ADMINISTRATOR, supplier, "elsewhere")
    assert KeyImport.objects.visible_to(people[1]).count() == 1
    assert KeyImport.objects.visible_to(elsewhere).count() == 0


def test_the_card_profile_says_which_master_keys_there_are() -> None:
    names = master_key_names()
    assert len(names) == 28 + 1
    assert "transport" in names
    assert names[NAME] == "SSSE IRK：加密，3 级分散"
    assert names["DF01-UK1"] == "DF01 UK1：校验与加密，1 级分散"
