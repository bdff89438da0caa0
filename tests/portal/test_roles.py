"""Roles: what each may do, who excludes whom, and the two checks every service starts with (§3)."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import IntegrityError, transaction

from orders.models import DeliveryPoint
from portal.choices import ADMINISTRATORS, Role
from portal.core.errors import PermissionRefusedError, SamePersonError
from portal.models import Organisation, User
from portal.roles import PERMISSIONS, RoleBackend, require, require_second_person
from tests.refusals import refused

# Verbs of people; the administrators of the portal have none of them.
WORK = ("orders.", "production.", "quality.", "billing.")
READING = "view_"


def user_of(*roles: str, kind: str = "purchaser", **fields: bool) -> User:
    code = f"{kind}-{'-'.join(roles)}"[:32]
    organisation, _ = Organisation.objects.get_or_create(
        code=code, defaults={"kind": kind, "name": code, "short_name": code[:32]}
    )
    return User.objects.create(username=code, organisation=organisation, roles=list(roles), **fields)


def test_every_role_is_in_the_table() -> None:
    assert set(PERMISSIONS) == set(Role)


def test_every_permission_names_an_app_and_views_an_existing_model() -> None:
    labels = {app.label for app in apps.get_app_configs()}
    models = {(model._meta.app_label, model._meta.model_name) for model in apps.get_models()}
    for permission in set().union(*PERMISSIONS.values()):
        app, _, verb = permission.partition(".")
        assert app in labels, permission
        if verb.startswith(READING):
            assert (app, verb.removeprefix(READING)) in models, permission


def test_the_administrators_touch_no_card_and_no_person() -> None:
    """§3: disjoint from the work; keys of senders are the security administrator's, proofs of destruction
    and what is overdue the auditor's (R-22): counts and digests, nobody's data."""
    proofs = {f"production.view_destruction{name}" for name in ("request", "alarm", "certificate")}
    for role in ADMINISTRATORS:
        work = {p for p in PERMISSIONS[role] if p.startswith(WORK)}
        allowed = {p for p in work if p.endswith("_senderkey")}
        allowed |= proofs & work if role == Role.AUDITOR else set()
        assert work == allowed, role


def test_nobody_may_change_the_audit() -> None:
    """R-46."""
    granted = {p for permissions in PERMISSIONS.values() for p in permissions if "auditentry" in p}
    assert granted == {"portal.view_auditentry"}
    assert [role for role in Role if "portal.view_auditentry" in PERMISSIONS[role]] == [Role.AUDITOR]


def test_suppliers_and_banks_unmask_nobody() -> None:
    """R-45: seeing a person's values is the purchaser's alone."""
    holders = {role for role in Role if "orders.unmask_record" in PERMISSIONS[role]}
    assert holders == {Role.PURCHASER_CLERK, Role.PURCHASER_APPROVER}
    assert {role for role in Role if "orders.export_returns" in PERMISSIONS[role]} == {Role.PURCHASER_CLERK}


@pytest.mark.django_db
class TestConstraints:
    @pytest.mark.parametrize("administrator", sorted(ADMINISTRATORS))
    @pytest.mark.parametrize("other", [Role.PURCHASER_CLERK, *sorted(ADMINISTRATORS)])
    def test_an_administrator_stands_alone(self, administrator: str, other: str) -> None:
        with pytest.raises(IntegrityError, match="user_administrator_stands_alone"), transaction.atomic():
            user_of(administrator, other)
        user_of(administrator)

    def test_there_is_no_superuser(self) -> None:
        with pytest.raises(IntegrityError, match="user_is_never_superuser"), transaction.atomic():
            user_of(Role.PURCHASER_CLERK, is_superuser=True)

    def test_there_is_one_system_account_nobody_can_sign_in_with(self) -> None:
        system = User.objects.system()
        assert User.objects.system() == system
        assert not system.has_usable_password()
        with pytest.raises(IntegrityError, match="user_one_system_account"), transaction.atomic():
            User.objects.create(username="second", is_system=True)


@pytest.mark.django_db
class TestBackend:
    def test_permissions_are_those_of_all_roles(self) -> None:
        clerk = user_of(Role.PURCHASER_CLERK, Role.PURCHASER_APPROVER)
        both = PERMISSIONS[Role.PURCHASER_CLERK] | PERMISSIONS[Role.PURCHASER_APPROVER]
        assert clerk.get_all_permissions() == both
        assert clerk.has_perm("production.approve_plan")
        assert not clerk.has_perm("portal.view_auditentry")
        assert clerk.has_module_perms("billing")
        assert not user_of(Role.AUDITOR).has_module_perms("orders")

    def test_an_inactive_user_has_none(self) -> None:
        gone = user_of(Role.PURCHASER_CLERK, is_active=False)
        assert gone.get_all_permissions() == set()
        assert not RoleBackend().has_perm(gone, "orders.receive_package")

    def test_an_unknown_role_grants_nothing(self) -> None:
        assert user_of("emperor").get_all_permissions() == set()


@pytest.mark.django_db
class TestRequire:
    def test_role_and_row(self) -> None:
        """A permission without the row, or the row without the permission, is refused."""
        clerk = user_of(Role.BANK_CLERK, kind="bank")
        own, other = (
            clerk.organisation,
            Organisation.objects.create(kind="bank", code="other", name="o", short_name="o"),
        )
        assert own is not None
        points = [DeliveryPoint.objects.create(bank=b, code="D", name="D", address="D") for b in (own, other)]
        require(clerk, "orders.view_deliverypoint", points[0])
        with pytest.raises(PermissionRefusedError, match="不属于您的单位"):
            require(clerk, "orders.view_deliverypoint", points[1])
        with pytest.raises(PermissionRefusedError) as caught:
            require(clerk, "orders.receive_package")
        assert (caught.value.expected, caught.value.got) == ("orders.receive_package", "bank_clerk")

    def test_the_system_may(self) -> None:
        require(User.objects.system(), "orders.receive_package")

    def test_an_inactive_user_or_organisation_may_not(self) -> None:
        gone = user_of(Role.PURCHASER_CLERK, is_active=False)
        with pytest.raises(PermissionRefusedError):
            require(gone, "orders.receive_package")

    def test_the_second_person_is_another(self) -> None:
        first, second = user_of(Role.PURCHASER_CLERK), user_of(Role.PURCHASER_APPROVER)
        require_second_person(first, second)
        require_second_person(None, second)
        with refused(SamePersonError, audited=["second_person.refused"]):
            require_second_person(first, User.objects.get(pk=first.pk))
