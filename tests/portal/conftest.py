"""Organisations and people who come in by the door."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from portal.models import Organisation, User


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 all the same, but with costs for tests."""
    from django.contrib.auth import hashers

    for name, cost in (("time_cost", 1), ("memory_cost", 8), ("parallelism", 1)):
        monkeypatch.setattr(hashers.Argon2PasswordHasher, name, cost)


@pytest.fixture
def gov(db: None) -> Organisation:
    from portal.models import Organisation

    return Organisation.objects.create(kind="purchaser", code="GOV", name="采购人单位", short_name="采购人")


@pytest.fixture
def supplier(db: None) -> Organisation:
    from portal.models import Organisation

    return Organisation.objects.create(kind="supplier", code="S1", name="中标人一", short_name="中标人一")


@pytest.fixture
def planner(supplier: Organisation, cheap_hashes: None) -> User:
    """Somebody whose role needs no second factor."""
    from tests.portal.desk import make_person
    from tests.portal.door import with_password

    return with_password(make_person("supplier_planner", supplier, "planner"))


@pytest.fixture
def approver(gov: Organisation, cheap_hashes: None) -> User:
    """Somebody whose role needs one."""
    from tests.portal.desk import make_person
    from tests.portal.door import with_password

    return with_password(make_person("purchaser_approver", gov, "approver"))


@pytest.fixture
def security(gov: Organisation) -> User:
    """The security administrator."""
    from tests.portal.desk import make_person

    return make_person("security_administrator", gov, "security")
