"""The registry of public keys: proven, rotated with overlap, revoked at once, remembered (R-8, R-46)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from orders.models import SenderKey
from orders.services import packages
from orders.services.registry import (
    KeyTakenError,
    ProofRefusedError,
    SenderKeyRefusedError,
    add_sender_key,
    revoke_sender_key,
)
from portal import files
from portal.choices import Role
from portal.core.crypto import KeyFormatError, Sm2PrivateKey
from portal.core.errors import PermissionRefusedError, PortalError
from portal.core.seal_proof import prove_possession
from portal.models import AuditEntry, Organisation, User
from portal.samples.hostile import sealed
from tests.orders.intake.world import World, make_world
from tests.orders.scene import make_user
from tests.portal.desk import page, sign_in, text
from tests.refusals import refused

PUBLISHED = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"
PUBLISHED_POINT = (
    "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)


@pytest.fixture
def world(db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("portal.queue.wake", lambda tasks: None)
    return make_world()


@pytest.fixture
def keeper(world: World) -> User:
    return make_user("keeper", world.purchaser, Role.SECURITY_ADMINISTRATOR)


def days(count: float) -> datetime:
    return timezone.now() + timedelta(days=count)


def add(
    organisation: Organisation,
    key: Sm2PrivateKey,
    actor: User,
    *,
    since: float = -30,
    until: float = 30,
    **more: Any,
) -> SenderKey:
    values: dict[str, Any] = {
        "public_key": key.public.to_pem(),
        "proof": prove_possession(organisation.code, key),
        "valid_from": days(since),
        "valid_until": days(until),
    }
    return add_sender_key(organisation, **(values | more), actor=actor)


def send(world: World, key: Sm2PrivateKey, number: str) -> str:
    """Send a package signed with a key; return its status or the code of its refusal."""
    world.sender_key = key
    try:
        return str(
            world.receive(
                sealed(world.inner(1, number=number, start=int(number[2:]))[0], world.parties(number))
            ).status
        )
    except PortalError as exc:
        return exc.code


def test_who_registered_a_key_is_kept_and_its_fingerprint_shown(world: World, keeper: User) -> None:
    key = Sm2PrivateKey.generate()
    row = add(world.province, key, keeper, use="signature")
    assert (row.added_by, row.use, row.revoked_by) == (keeper, "signature", None)
    event = AuditEntry.objects.get(action="senderkey.added")
    assert (event.details["fingerprint"], event.details["sender"]) == (key.public.fingerprint(), "PROVINCE")
    shown = text(sign_in(keeper).get(page("orders.senderkey", "change", row.pk)))
    assert key.public.fingerprint() in shown
    assert keeper.username in shown


@pytest.mark.parametrize("role", [role for role in Role if role != Role.SECURITY_ADMINISTRATOR])
def test_only_the_security_administrator_registers_and_revokes(world: World, role: str) -> None:
    somebody = make_user("somebody", world.purchaser, role)
    row = SenderKey.objects.get()
    with refused(PermissionRefusedError):
        add(world.province, Sm2PrivateKey.generate(), somebody)
    with refused(PermissionRefusedError):
        revoke_sender_key(row, actor=somebody)


def test_the_private_half_must_be_shown_to_be_in_the_partys_hands(world: World, keeper: User) -> None:
    key, other = Sm2PrivateKey.generate(), Sm2PrivateKey.generate()
    proofs = ("", "00", "zz", prove_possession("PROVINCE", other), prove_possession("HRSS", key))
    for proof in (*proofs, key.sign(b"PROVINCE").hex()):
        with refused(ProofRefusedError):
            add(world.province, key, keeper, proof=proof)


REFUSED: dict[str, tuple[type[PortalError], Callable[[World], dict[str, Any]]]] = {
    "no key": (KeyFormatError, lambda world: {"public_key": "00" * 64}),
    "a key everybody knows": (
        SenderKeyRefusedError,
        lambda world: {
            "public_key": PUBLISHED_POINT,
            "proof": prove_possession("PROVINCE", Sm2PrivateKey.from_hex(PUBLISHED, PUBLISHED_POINT)),
        },
    ),
    "our own": (KeyTakenError, lambda world: {"public_key": files.portal_key().public.hex()}),
    "registered before": (KeyTakenError, lambda world: {"public_key": world.sender_key.public.hex()}),
    "over already": (SenderKeyRefusedError, lambda world: {"valid_until": days(-1)}),
    "ends before it begins": (PortalError, lambda world: {"valid_from": days(40)}),
    "a use nobody knows": (PortalError, lambda world: {"use": "everything"}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_keys_that_are_not_registered(world: World, keeper: User, kind: str) -> None:
    error, changes = REFUSED[kind]
    given = changes(world)
    with refused(error):
        add(world.province, Sm2PrivateKey.generate(), keeper, **given)


def test_only_parties_that_send_have_keys(world: World, keeper: User) -> None:
    supplier = Organisation.objects.create(kind="supplier", code="S", name="S", short_name="S")
    with refused(SenderKeyRefusedError):
        add(supplier, Sm2PrivateKey.generate(), keeper)
    assert add(Organisation.objects.filter(kind="bank").first(), Sm2PrivateKey.generate(), keeper).pk  # type: ignore[arg-type]


def test_keys_rotate_with_an_overlap(world: World, keeper: User) -> None:
    """Old alone, both, new alone: what either signs while it is valid is taken."""
    old, new = world.sender_key, Sm2PrivateKey.generate()
    assert send(world, new, "P-1") == "bad_signature"
    add(world.province, new, keeper)
    assert [send(world, old, "P-2"), send(world, new, "P-3")] == ["received", "received"]
    SenderKey.objects.filter(public_key=old.public.to_pem()).update(valid_until=days(-0.01))
    assert [send(world, old, "P-4"), send(world, new, "P-5")] == ["bad_signature", "received"]


def test_a_key_for_encryption_signs_nothing_and_one_for_signing_is_sealed_to_by_nobody(
    world: World, keeper: User
) -> None:
    """Some parties keep one pair to sign and another to decrypt (GM/T 0015)."""
    SenderKey.objects.all().delete()
    signs, decrypts = Sm2PrivateKey.generate(), Sm2PrivateKey.generate()
    add(world.province, signs, keeper, use="signature")
    add(world.province, decrypts, keeper, use="encryption", since=-1)
    assert [send(world, decrypts, "P-1"), send(world, signs, "P-2")] == ["bad_signature", "received"]


def test_revoking_takes_effect_at_once_and_for_ever(world: World, keeper: User) -> None:
    key = world.sender_key
    row = revoke_sender_key(SenderKey.objects.get(), actor=keeper)
    assert (row.revoked_by, send(world, key, "P-1")) == (keeper, "sender_key_invalid")
    with refused(SenderKeyRefusedError):
        revoke_sender_key(row, actor=keeper)
    with refused(KeyTakenError):
        add(world.province, key, keeper)


def test_a_package_half_received_is_refused_by_a_revocation(
    world: World, keeper: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature held, the payload is being copied, the key is revoked: nothing is stored."""
    honest = packages.extract_payload

    def revoking(*given: Any) -> None:
        honest(*given)
        revoke_sender_key(SenderKey.objects.get(), actor=keeper)

    monkeypatch.setattr(packages, "extract_payload", revoking)
    assert send(world, world.sender_key, "P-1") == "sender_key_invalid"


def test_which_key_vouched_for_a_package_is_kept(world: World) -> None:
    """After a key is lost, what it vouched for is found."""
    package = world.receive(world.container())
    assert package.sender_key == SenderKey.objects.get()
    event = AuditEntry.objects.get(action="package.received")
    assert event.details["key"] == world.sender_key.public.fingerprint()
