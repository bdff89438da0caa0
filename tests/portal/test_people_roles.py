"""Nobody hands out roles alone: asked for by a system administrator, granted by a security administrator."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from portal.choices import Role, RoleRequestStatus
from portal.core.errors import PermissionRefusedError, SamePersonError, TransitionRefusedError
from portal.models import AuditEntry, Organisation, RoleRequest, User
from portal.roles import PERMISSIONS
from portal.services.people import add_user, change_user
from portal.services.role_requests import RoleRefusedError, decide_request, withdraw_request
from tests.api import actions
from tests.portal.desk import make_person, page, said, sign_in, text
from tests.refusals import refused

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_hashes")]
PASSWORD = "Huang-long-dong-26"


@pytest.fixture
def system(gov: Organisation) -> User:
    return make_person(Role.SYSTEM_ADMINISTRATOR, gov, "sysadmin")


@pytest.fixture
def bank() -> Organisation:
    return Organisation.objects.create(kind="bank", code="ICBC", name="样例银行", short_name="样例银行")


def added(organisation: Organisation, role: str, actor: User) -> User:
    return add_user(
        username="li", last_name="李", organisation=organisation, roles=[role], password=PASSWORD, actor=actor
    )


def changed(user: User, actor: User, **values: Any) -> User:
    assert user.organisation is not None
    now: dict[str, Any] = {
        "last_name": user.last_name, "organisation": user.organisation, "roles": user.roles,
        "is_active": True,
    }  # fmt: skip
    return change_user(user, **now | values, actor=actor)


def test_the_two_verbs_are_of_two_administrators() -> None:
    """No role asks and grants, and the three administrators cannot be combined (database constraint)."""
    asking = {role for role in Role if "portal.add_user" in PERMISSIONS[role]}
    granting = {role for role in Role if "portal.decide_rolerequest" in PERMISSIONS[role]}
    assert (asking, granting) == ({Role.SYSTEM_ADMINISTRATOR}, {Role.SECURITY_ADMINISTRATOR})


def test_a_new_person_may_nothing_until_the_roles_are_granted(
    bank: Organisation, system: User, security: User
) -> None:
    user = added(bank, Role.BANK_CLERK, system)
    assert user.get_all_permissions() == set()
    browser = sign_in(user)
    User.objects.filter(pk=user.pk).update(must_change_password=False)
    assert browser.get(page("orders.order", "changelist")).status_code == 403
    row = RoleRequest.objects.get()
    desk = sign_in(security)
    shown = text(desk.get(page("portal.rolerequest", "change", row.pk)))
    assert "银行经办" in shown
    answer = desk.post(page("portal.rolerequest", "grant", row.pk), {"reason": "已核对"})
    assert said(answer) == "已批准，角色生效"
    user.refresh_from_db()
    assert user.roles == [Role.BANK_CLERK]
    assert browser.get(page("orders.order", "changelist")).status_code == 302, "signed out with the change"
    assert actions() == [
        "user.added", "rolerequest.made", "access.refused", "session.ended", "user.roles_granted",
        "rolerequest.granted",
    ]  # fmt: skip
    entry = AuditEntry.objects.get(action="rolerequest.granted")
    assert (entry.actor_name, entry.details["roles"]) == ("security", ["bank_clerk"])


def test_a_refusal_says_why(bank: Organisation, system: User, security: User) -> None:
    user = added(bank, Role.BANK_CLERK, system)
    row = RoleRequest.objects.get()
    desk = sign_in(security)
    assert desk.post(page("portal.rolerequest", "reject", row.pk), {"reason": ""}).status_code == 422
    assert (
        said(desk.post(page("portal.rolerequest", "reject", row.pk), {"reason": "未经银行确认"})) == "已驳回"
    )
    user.refresh_from_db()
    row.refresh_from_db()
    assert (user.roles, row.reason) == ([], "未经银行确认")
    with refused(TransitionRefusedError):
        decide_request(row, grant=True, reason="", actor=security)


def test_roles_go_at_once_and_come_by_request(bank: Organisation, system: User) -> None:
    user = make_person(Role.BANK_CLERK, bank, "li")
    browser = sign_in(user)
    roles = [Role.BANK_CLERK, Role.COUNTER_OPERATOR]
    assert changed(user, system, roles=roles).roles == [Role.BANK_CLERK]
    assert browser.get("/admin/").status_code == 200, "nothing was taken: the session stays"
    assert RoleRequest.objects.get().roles == sorted(roles)
    assert changed(user, system, roles=[]).roles == []
    assert browser.get("/admin/").status_code == 302


def test_another_organisation_is_a_request_too(bank: Organisation, system: User, security: User) -> None:
    """Who is moved sees other people's data: it takes the same two people, and the old roles end at once."""
    other = Organisation.objects.create(kind="bank", code="ABC", name="另一银行", short_name="另一银行")
    user = make_person(Role.BANK_CLERK, bank, "li")
    fresh = changed(user, system, organisation=other)
    assert (fresh.organisation, fresh.roles) == (bank, [])
    decide_request(RoleRequest.objects.get(), grant=True, reason="", actor=security)
    fresh.refresh_from_db()
    assert (fresh.organisation, fresh.roles) == (other, [Role.BANK_CLERK])


def test_a_newer_request_takes_the_place_of_the_older(bank: Organisation, system: User) -> None:
    user = added(bank, Role.BANK_CLERK, system)
    changed(user, system, roles=[Role.COUNTER_OPERATOR])
    states = dict(RoleRequest.objects.values_list("status", "roles"))
    assert states == {"withdrawn": ["bank_clerk"], "pending": ["counter_operator"]}
    row = withdraw_request(RoleRequest.objects.get(status=RoleRequestStatus.PENDING), actor=system)
    assert row.status == "withdrawn"


class TestNobodyAlone:
    def test_a_system_administrator_grants_nothing(self, bank: Organisation, system: User) -> None:
        added(bank, Role.BANK_CLERK, system)
        row = RoleRequest.objects.get()
        assert sign_in(system).post(page("portal.rolerequest", "grant", row.pk)).status_code == 403
        with refused(PermissionRefusedError):
            decide_request(row, grant=True, reason="", actor=system)

    def test_a_security_administrator_asks_for_nothing(self, bank: Organisation, security: User) -> None:
        with refused(PermissionRefusedError):
            added(bank, Role.BANK_CLERK, security)
        with refused(PermissionRefusedError):
            changed(security, security, roles=[Role.SYSTEM_ADMINISTRATOR])

    def test_not_for_oneself(self, gov: Organisation, system: User, security: User) -> None:
        with refused(RoleRefusedError):
            changed(system, system, roles=[Role.AUDITOR])
        row = RoleRequest.objects.create(
            user=security, organisation=gov, roles=[Role.AUDITOR], requested_by=system
        )
        with refused(RoleRefusedError) as caught:
            decide_request(row, grant=True, reason="", actor=security)
        assert caught.value.message == "不能批准自己的角色，请由另一名安全管理员办理"

    def test_not_what_one_asked_for_in_an_earlier_role(self, bank: Organisation, system: User) -> None:
        """Who asked as system administrator and is security administrator now is still the same person."""
        added(bank, Role.BANK_CLERK, system)
        User.objects.filter(pk=system.pk).update(roles=[Role.SECURITY_ADMINISTRATOR])
        row, same = RoleRequest.objects.get(), User.objects.get(pk=system.pk)
        with refused(SamePersonError, audited=["second_person.refused"]):
            decide_request(row, grant=True, reason="", actor=same)

    def test_the_database_refuses_it_as_well(self, bank: Organisation, system: User, security: User) -> None:
        added(bank, Role.BANK_CLERK, system)
        row = RoleRequest.objects.get()
        for wrong in (row.requested_by, row.user):
            with pytest.raises(IntegrityError, match="role_request_two_people"), transaction.atomic():
                RoleRequest.objects.filter(pk=row.pk).update(decided_by=wrong)
        RoleRequest.objects.filter(pk=row.pk).update(decided_by=security)

    @pytest.mark.parametrize("roles", [["auditor", "system_administrator"], ["auditor", "purchaser_clerk"]])
    def test_the_three_administrators_cannot_be_asked_for_together(
        self, gov: Organisation, system: User, roles: list[str]
    ) -> None:
        user = make_person(Role.PURCHASER_CLERK, gov, "wang")
        from portal.services.master_rows import FormRefusedError

        with refused(FormRefusedError) as caught:
            changed(user, system, roles=roles)
        assert caught.value.message == "系统管理员、安全管理员、审计员三个角色互斥，且不能与其他角色兼任"

    @pytest.mark.parametrize("role", ["auditor", "emperor"])
    def test_roles_of_another_kind_of_organisation(self, bank: Organisation, system: User, role: str) -> None:
        with refused(RoleRefusedError):
            added(bank, role, system)


class TestAuditor:
    @pytest.mark.parametrize(
        "model", ["user", "rolerequest", "usersession", "signinattempt", "apitoken", "auditentry"]
    )
    def test_an_auditor_reads_all_of_it(self, gov: Organisation, model: str) -> None:
        desk = sign_in(make_person(Role.AUDITOR, gov))
        assert desk.get(page(f"portal.{model}", "changelist")).status_code == 200

    def test_the_table_of_roles_is_read_by_the_administrators(
        self, gov: Organisation, client: Client
    ) -> None:
        for role in (Role.AUDITOR, Role.SYSTEM_ADMINISTRATOR, Role.SECURITY_ADMINISTRATOR):
            shown = text(sign_in(make_person(role, gov)).get(page("portal.user", "role_table")))
            assert "orders.unmask_record" in shown
            assert "采购人审批" in shown
        clerk = make_person(Role.PURCHASER_CLERK, gov)
        assert sign_in(clerk).get(page("portal.user", "role_table")).status_code == 403
