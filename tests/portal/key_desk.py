"""Two security administrators and the halves of a key, as the key ceremony's tests need them."""

from __future__ import annotations

from typing import Any

from portal.choices import Role
from portal.core.crypto import kcv
from portal.models import KeyImport, Organisation, User
from portal.services.keys import start_key_import
from tests.portal.desk import make_person

FIRST = bytes.fromhex("31a7c05d92e4480fb6d1937ae50c2f84")
SECOND = bytes.fromhex("c2590be76f13ad8844f02e9b571d60ca")
MASTER = bytes(a ^ b for a, b in zip(FIRST, SECOND, strict=True))
NAME = "SSSE-IRK"


def two_people(home: Organisation) -> tuple[User, User]:
    """Create two security administrators."""
    names = ("security1", "security2")
    first, second = (make_person(Role.SECURITY_ADMINISTRATOR, home, name) for name in names)
    return first, second


def first_half(**changed: Any) -> dict[str, Any]:
    """Return what the first person gives."""
    return {
        "name": NAME,
        "version": 1,
        "check_value": kcv(MASTER),
        "component": FIRST.hex(),
        "component_check_value": kcv(FIRST),
    } | changed


def second_half(**changed: Any) -> dict[str, Any]:
    """Return what the second person gives."""
    return {"component": SECOND.hex(), "component_check_value": kcv(SECOND)} | changed


def begun(actor: User, **changed: Any) -> KeyImport:
    """Return a ceremony that waits for its second person."""
    return start_key_import(**first_half(**changed), actor=actor)
