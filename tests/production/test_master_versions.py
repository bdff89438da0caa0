"""Which versions of the card master keys make cards, and what says so later (R-25, issue 3)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from portal.choices import Role
from portal.core.clock import today
from portal.core.crypto import kcv
from portal.core.keystore import KeyExpiredError
from portal.files import keystore
from portal.models import AuditEntry
from portal.services.keys import finish_key_import, master_key_names, start_key_import
from production.models import MachineFile
from production.personalization.profile import load_profile
from production.services import preparation
from production.services.machine_files import card_masters, write_run
from tests.portal.desk import make_person
from tests.production.world import World, build_world
from tests.refusals import refused

PROFILE = load_profile("sssc-3.0-sm4")
FIRST, SECOND = (
    bytes.fromhex("31a7c05d92e4480fb6d1937ae50c2f84"),
    bytes.fromhex("c2590be76f13ad8844f02e9b571d60ca"),
)
KEY = bytes(a ^ b for a, b in zip(FIRST, SECOND, strict=True))


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def test_a_run_says_which_versions_made_its_cards(world: World) -> None:
    """An older version stays readable: the audit says which one verifies a card."""
    keystore().import_components("SSSE-IRK", 3, FIRST, SECOND, kcv(KEY))
    run = MachineFile.objects.get(batch=world.prepared(1))
    entry = AuditEntry.objects.get(action="machinefile.prepared", object_id=str(run.pk))
    versions = entry.details["master_versions"]
    assert versions["SSSE/IRK"] == 3
    assert versions["SSSE/BK"] == 0
    assert set(versions) == {key.full_name for key in PROFILE.keys}


def test_expired_master_keys_make_no_cards_but_are_read(world: World) -> None:
    """Issue 3: refused for new personalization, still there to verify old cards."""
    keystore().import_components(
        "SSSE-IRK", 1, FIRST, SECOND, kcv(KEY), valid_until=today() - timedelta(days=1)
    )
    with pytest.raises(KeyExpiredError) as refusal:
        card_masters(PROFILE)
    assert refusal.value.where == "SSSE-IRK"
    assert keystore().master_key("SSSE-IRK", 1) == KEY


def test_a_run_with_an_expired_key_changes_nothing(world: World) -> None:
    keystore().import_components(
        "SSSE-IRK", 1, FIRST, SECOND, kcv(KEY), valid_until=today() - timedelta(days=1)
    )
    batch = preparation.prepare_batch(world.released(1), actor=world.operator)
    with refused(KeyExpiredError):
        write_run(MachineFile.objects.get(batch=batch), actor=world.operator)


def test_the_transport_key_of_a_lot_is_imported_by_two_people(world: World) -> None:
    """R-25: what the maker left on a lot's blanks comes the same way."""
    lot = world.lot(5)
    name = f"transport-{lot.number}"
    assert master_key_names()[name] == f"白卡批 {lot.number} 的厂商传输密钥"
    people = [make_person(Role.SECURITY_ADMINISTRATOR, world.clerk.organisation, f"s{n}") for n in (1, 2)]
    row = start_key_import(
        name, 1, check_value=kcv(KEY), component=FIRST.hex(), component_check_value=kcv(FIRST),
        actor=people[0],
    )  # fmt: skip
    finish_key_import(row, component=SECOND.hex(), component_check_value=kcv(SECOND), actor=people[1])
    assert keystore().master_key(name) == KEY
