"""The system administrator's, the security administrator's and the auditor's pages."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from portal.choices import OrganisationKind, Role, TaskStatus
from portal.core.crypto import sm3
from portal.models import ApiToken, AuditEntry, Organisation, RoleRequest, Task, User
from portal.services.people import ROLE_HOMES
from tests.api import actions
from tests.portal.desk import audited, last_action, make_person, page, said, sign_in, text

pytestmark = pytest.mark.django_db
PASSWORD = "Huang-long-dong-26"
ADMINISTRATORS = "系统管理员、安全管理员、审计员三个角色互斥，且不能与其他角色兼任"


@pytest.fixture
def purchaser() -> Organisation:
    return Organisation.objects.create(kind="purchaser", code="GOV", name="采购人单位", short_name="采购人")


@pytest.fixture
def bank() -> Organisation:
    return Organisation.objects.create(kind="bank", code="ICBC", name="样例银行", short_name="样例银行")


@pytest.fixture
def administrator(purchaser: Organisation) -> User:
    return make_person(Role.SYSTEM_ADMINISTRATOR, purchaser, "root1")


@pytest.fixture
def desk(administrator: User) -> Client:
    return sign_in(administrator)


def new_user(organisation: Organisation, **values: Any) -> dict[str, Any]:
    return {
        "username": "li.bank",
        "last_name": "李",
        "first_name": "样",
        "organisation": organisation.pk,
        "roles": [Role.BANK_CLERK],
        "password": PASSWORD,
    } | values


def test_every_role_has_a_home() -> None:
    assert set(ROLE_HOMES) == set(Role.values)


def test_a_user_is_added_with_organisation_roles_and_password(desk: Client, bank: Organisation) -> None:
    answer = desk.post(page("portal.user", "add_person"), new_user(bank))
    assert answer.status_code == 302
    user = User.objects.get(username="li.bank")
    assert (user.organisation, user.roles, user.is_staff) == (bank, [], True)
    assert user.must_change_password
    assert RoleRequest.objects.get().roles == ["bank_clerk"]
    assert Client().login(username="li.bank", password=PASSWORD)
    assert said(answer) == "已新增用户 li.bank，角色待安全管理员批准"
    assert actions() == ["user.added", "rolerequest.made"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"roles": ["auditor"]},
            "角色与单位类别不符；位置：审计员；应为：采购人；实为：样例银行（role_refused）",
        ),
        ({"password": "1234567890"}, "password_refused"),
        ({"password": "short"}, "密码太短，至少需要 10 个字符。（password_refused）"),
        ({"username": "root1"}, "位置：用户名（values_refused）"),
    ],
)
def test_a_refused_user_changes_nothing(
    desk: Client, bank: Organisation, values: dict[str, Any], message: str
) -> None:
    before = audited()
    answer = desk.post(page("portal.user", "add_person"), new_user(bank, **values))
    assert answer.status_code == 409
    assert message in said(answer)
    assert (User.objects.count(), audited()) == (1, before)


@pytest.mark.parametrize(
    "roles",
    [
        ["system_administrator", "auditor"],
        ["security_administrator", "purchaser_clerk"],
        ["auditor", "security_administrator", "system_administrator"],
    ],
)
def test_the_three_administrators_exclude_each_other(
    desk: Client, purchaser: Organisation, roles: list[str]
) -> None:
    """Architecture §3: the last three roles are disjoint; the constraint's own words are shown."""
    answer = desk.post(page("portal.user", "add_person"), new_user(purchaser, roles=roles))
    assert said(answer) == f"{ADMINISTRATORS}（values_refused）"
    assert User.objects.count() == 1


def test_roles_are_changed_by_another_administrator_only(
    desk: Client, administrator: User, purchaser: Organisation
) -> None:
    other = make_person(Role.PURCHASER_CLERK, purchaser)
    values = {
        "last_name": "王",
        "organisation": purchaser.pk,
        "roles": ["purchaser_approver"],
        "is_active": "on",
    }
    assert desk.post(page("portal.user", "change_person", other.pk), values).status_code == 302
    other.refresh_from_db()
    assert (other.roles, other.last_name) == ([], "王"), "the old role goes at once, the new one waits"
    assert RoleRequest.objects.get(user=other).roles == ["purchaser_approver"]
    answer = desk.post(page("portal.user", "change_person", administrator.pk), values)
    assert said(answer) == "不能停用自己或修改自己的角色，请由另一名系统管理员办理（role_refused）"
    administrator.refresh_from_db()
    assert administrator.roles == ["system_administrator"]


def test_a_deactivated_user_is_out_at_once(desk: Client, purchaser: Organisation) -> None:
    other = make_person(Role.PURCHASER_CLERK, purchaser)
    theirs = sign_in(other)
    assert theirs.get("/admin/").status_code == 200
    values = {"last_name": "王", "organisation": purchaser.pk, "roles": other.roles}
    desk.post(page("portal.user", "change_person", other.pk), values)
    assert theirs.get("/admin/").status_code == 302


def test_a_reset_password_ends_open_sessions(desk: Client, purchaser: Organisation) -> None:
    other = make_person(Role.PURCHASER_CLERK, purchaser)
    theirs = sign_in(other)
    differing = {"password": PASSWORD, "again": "something-else-26"}
    answer = desk.post(page("portal.user", "set_password", other.pk), differing)
    assert answer.status_code == 422
    assert "两次输入的密码不一致" in text(answer)
    answer = desk.post(
        page("portal.user", "set_password", other.pk), {"password": PASSWORD, "again": PASSWORD}
    )
    assert said(answer) == "密码已重置，该用户的其他登录已失效"
    assert theirs.get("/admin/").status_code == 302
    assert PASSWORD not in str(list(AuditEntry.objects.values_list("details", flat=True)))


def test_the_system_account_cannot_be_touched(desk: Client, purchaser: Organisation) -> None:
    system = User.objects.system()
    values = {"password": PASSWORD, "again": PASSWORD}
    answer = desk.post(page("portal.user", "set_password", system.pk), values)
    assert said(answer) == "系统账户不能修改，也不能用于登录（role_refused）"
    system.refresh_from_db()
    assert not system.has_usable_password()


def test_an_organisation_is_added_through_its_service(desk: Client) -> None:
    values = {"kind": "bank", "code": "NEW", "name": "新银行", "short_name": "新行", "is_active": "on"}
    assert desk.post(page("portal.organisation", "add"), values).status_code == 302
    assert Organisation.objects.get(code="NEW").kind == OrganisationKind.BANK
    assert last_action() == "organisation.added"
    answer = desk.post(page("portal.organisation", "add"), values)
    assert "具有 代码 的 单位 已存在" in text(answer)
    assert Organisation.objects.filter(code="NEW").count() == 1


@pytest.fixture
def failed_task(administrator: User) -> Task:
    return Task.objects.create(
        handler="orders.jobs.open_package",
        subject_type="orders.package",
        subject_id=1,
        status=TaskStatus.FAILED,
        error_code="OSError",
        enqueued_at=timezone.now(),
        attempts=5,
    )


def test_a_failed_task_is_retried(desk: Client, failed_task: Task) -> None:
    assert "OSError" in text(desk.get(page("portal.task", "changelist"), {"status__exact": "failed"}))
    answer = desk.post(page("portal.task", "retry", failed_task.pk))
    assert said(answer) == "任务已重新排队"
    failed_task.refresh_from_db()
    assert (failed_task.status, failed_task.attempts) == ("queued", 0)
    answer = desk.post(page("portal.task", "retry", failed_task.pk))
    assert said(answer) == "只有失败的任务可以重试；应为：失败；实为：排队中（transition_refused）"


def test_suppliers_see_their_own_tasks_only(failed_task: Task, purchaser: Organisation) -> None:
    supplier = Organisation.objects.create(kind="supplier", code="S", name="中标人", short_name="中标人")
    operator = make_person(Role.SUPPLIER_OPERATOR, supplier)
    assert sign_in(operator).get(page("portal.task", "change", failed_task.pk)).status_code == 404
    Task.objects.update(requested_by=operator)
    assert sign_in(operator).get(page("portal.task", "change", failed_task.pk)).status_code == 200


def test_a_token_is_shown_once_and_kept_as_digest(purchaser: Organisation, bank: Organisation) -> None:
    clerk = make_person(Role.BANK_CLERK, bank)
    desk = sign_in(make_person(Role.SECURITY_ADMINISTRATOR, purchaser))
    answer = desk.post(page("portal.apitoken", "issue"), {
        "user": clerk.pk, "name": "核心系统", "days": 30, "scopes": ["accounts.write"],
    })  # fmt: skip
    assert answer.status_code == 200, said(answer)
    assert "no-store" in answer["Cache-Control"]
    shown = text(answer).split('id="token">')[1].split("<")[0]
    token = ApiToken.objects.get()
    assert bytes(token.digest) == sm3(shown.encode())
    assert (token.expires_at - timezone.now()).days == 29
    assert shown not in text(desk.get(page("portal.apitoken", "change", token.pk)))
    assert shown not in str(list(AuditEntry.objects.values()))
    assert said(desk.post(page("portal.apitoken", "revoke", token.pk))) == "令牌已撤销"
    assert said(desk.post(page("portal.apitoken", "revoke", token.pk))) == "该令牌已撤销（input_refused）"
