"""Users: added, changed, given a password."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from portal.audit import unit_of_work
from portal.choices import OrganisationKind, Role
from portal.core.errors import InputRefusedError
from portal.models import Organisation, User
from portal.roles import require
from portal.services.master_rows import check_values
from portal.workflow import locked

_P, _S, _B = OrganisationKind.PURCHASER, OrganisationKind.SUPPLIER, OrganisationKind.BANK
# Which organisations a role belongs to; the three administrators serve the purchaser who runs the portal.
ROLE_HOMES: dict[str, frozenset[str]] = {
    Role.PURCHASER_CLERK: frozenset({_P}),
    Role.PURCHASER_APPROVER: frozenset({_P}),
    Role.SUPPLIER_PLANNER: frozenset({_S}),
    Role.SUPPLIER_OPERATOR: frozenset({_S}),
    Role.SUPPLIER_QUALITY: frozenset({_S}),
    Role.WAREHOUSE_KEEPER: frozenset({_S}),
    Role.BANK_CLERK: frozenset({_B}),
    Role.COUNTER_OPERATOR: frozenset({_P, _S, _B}),
    Role.COUNTER_SUPERVISOR: frozenset({_P, _S, _B}),
    Role.CARD_SYSTEM: frozenset({OrganisationKind.PROVINCE}),
    Role.SYSTEM_ADMINISTRATOR: frozenset({_P}),
    Role.SECURITY_ADMINISTRATOR: frozenset({_P}),
    Role.AUDITOR: frozenset({_P}),
}


class RoleRefusedError(InputRefusedError):
    """Roles that do not go together or do not belong to the organisation."""

    code: ClassVar[str] = "role_refused"


class PasswordRefusedError(InputRefusedError):
    """A password that the rules refuse."""

    code: ClassVar[str] = "password_refused"


def add_user(
    *,
    username: str,
    last_name: str,
    first_name: str = "",
    organisation: Organisation,
    roles: Sequence[str],
    password: str,
    actor: User,
) -> User:
    """Let a person sign in; the three administrators exclude each other and every other role."""
    require(actor, "portal.add_user")
    user = User(
        username=username.strip(),
        last_name=last_name.strip(),
        first_name=first_name.strip(),
        organisation=organisation,
        roles=sorted(set(roles)),
        is_staff=Role.CARD_SYSTEM not in roles,  # the province's system uses the API only
    )
    _check_roles(user)
    _set_password(user, password)
    check_values(user)
    with unit_of_work(actor) as work:
        user.save()
        work.record(
            "user.added", user, username=user.username, roles=user.roles, organisation=organisation.code
        )
    return user


def change_user(
    user: User,
    *,
    last_name: str,
    first_name: str = "",
    organisation: Organisation,
    roles: Sequence[str],
    is_active: bool,
    actor: User,
) -> User:
    """Change a person's name, organisation, roles, or whether they may sign in."""
    require(actor, "portal.change_user")
    with unit_of_work(actor) as work:
        fresh = locked(user)
        _refuse_system(fresh)
        if fresh.pk == actor.pk and (not is_active or sorted(set(roles)) != sorted(fresh.roles)):
            raise RoleRefusedError("不能停用自己或修改自己的角色，请由另一名系统管理员办理")
        before = {"roles": fresh.roles, "active": fresh.is_active}
        fresh.last_name, fresh.first_name = last_name.strip(), first_name.strip()
        fresh.organisation, fresh.roles, fresh.is_active = organisation, sorted(set(roles)), is_active
        fresh.is_staff = Role.CARD_SYSTEM not in roles
        _check_roles(fresh)
        check_values(fresh, exclude=["password"])
        fresh.save(
            update_fields=["last_name", "first_name", "organisation", "roles", "is_active", "is_staff"]
        )
        after = {"roles": fresh.roles, "active": fresh.is_active}
        work.record("user.changed", fresh, before=before, after=after, organisation=organisation.code)
    return fresh


def reset_password(user: User, *, password: str, actor: User) -> User:
    """Set another person's password; their open sessions end with it."""
    require(actor, "portal.change_user")
    with unit_of_work(actor) as work:
        fresh = locked(user)
        _refuse_system(fresh)
        _set_password(fresh, password)
        fresh.save(update_fields=["password"])
        work.record("user.password_reset", fresh)
    return fresh


def _refuse_system(user: User) -> None:
    if user.is_system:
        raise RoleRefusedError("系统账户不能修改，也不能用于登录")


def _check_roles(user: User) -> None:
    kind = user.organisation.kind if user.organisation else ""
    for role in user.roles:
        if role not in ROLE_HOMES:
            raise RoleRefusedError("没有这个角色", got=role)
        if kind not in ROLE_HOMES[role]:
            homes = "、".join(str(OrganisationKind(home).label) for home in sorted(ROLE_HOMES[role]))
            raise RoleRefusedError(
                "角色与单位类别不符",
                where=str(Role(role).label),
                expected=homes,
                got=str(user.organisation or "无"),
            )


def _set_password(user: User, password: str) -> None:
    try:
        validate_password(password, user)
    except ValidationError as exc:
        raise PasswordRefusedError("；".join(exc.messages)) from exc
    user.set_password(password)
