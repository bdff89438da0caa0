"""Users: added, changed, given a password. Their roles are asked for here and granted by somebody else."""

from __future__ import annotations

from collections.abc import Sequence

from portal.audit import unit_of_work
from portal.models import Organisation, User
from portal.roles import require
from portal.services.master_rows import check_values
from portal.services.passwords import PASSWORD_FIELDS, PasswordRefusedError, keep_record, set_password
from portal.services.role_requests import (
    PLACE_FIELDS,
    ROLE_HOMES,
    RoleRefusedError,
    narrowed,
    place,
    request_roles,
)
from portal.services.sessions import end_sessions
from portal.workflow import locked

__all__ = [
    "ROLE_HOMES",
    "PasswordRefusedError",
    "RoleRefusedError",
    "add_user",
    "change_user",
    "reset_password",
]


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
    """Add a person, who may do nothing until a security administrator grants the roles asked for here.

    The password is an initial one. Roles that the portal itself gives (operators' commands) count at once.
    """
    require(actor, "portal.add_user")
    user = User(username=username.strip(), last_name=last_name.strip(), first_name=first_name.strip())
    place(user, organisation, roles if actor.is_system else ())
    set_password(user, password, initial=True)
    check_values(user)
    with unit_of_work(actor) as work:
        user.save()
        keep_record(user)
        work.record(
            "user.added", user, username=user.username, roles=user.roles, organisation=organisation.code
        )
        if roles and not actor.is_system:
            request_roles(user, organisation, roles, actor=actor)
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
    """Change a person's name, or whether they may sign in; take roles away at once and ask for new ones.

    Whoever loses a role, moves to another organisation or is deactivated is signed out.
    """
    require(actor, "portal.change_user")
    with unit_of_work(actor) as work:
        fresh = locked(user)
        _refuse_system(fresh)
        moved = organisation.pk != fresh.organisation_id or set(roles) != set(fresh.roles)
        if fresh.pk == actor.pk and (not is_active or moved):
            raise RoleRefusedError("不能停用自己或修改自己的角色，请由另一名系统管理员办理")
        before, person = {"roles": fresh.roles, "active": fresh.is_active}, fresh.get_full_name()
        fresh.last_name, fresh.first_name, fresh.is_active = last_name.strip(), first_name.strip(), is_active
        # At another organisation nothing stays; until the request for it is granted the person stays here.
        place(fresh, fresh.organisation or organisation, narrowed(fresh, organisation, roles))
        check_values(fresh, exclude=["password"])
        fresh.save(update_fields=["last_name", "first_name", "is_active", *PLACE_FIELDS])
        after = {"roles": fresh.roles, "active": fresh.is_active}
        if before != after:
            end_sessions(fresh, actor=actor, reason="rights_taken")
        work.record(
            "user.changed",
            fresh,
            before=before | {"name": person},
            after=after | {"name": fresh.get_full_name()},
            organisation=organisation.code,
        )
        if moved and (organisation.pk != fresh.organisation_id or set(roles) - set(fresh.roles)):
            request_roles(fresh, organisation, roles, actor=actor)
    return fresh


def reset_password(user: User, *, password: str, actor: User) -> User:
    """Set another person's password, who changes it at the next sign-in; their open sessions end."""
    require(actor, "portal.change_user")
    with unit_of_work(actor) as work:
        fresh = locked(user)
        _refuse_system(fresh)
        set_password(fresh, password, initial=True)
        fresh.save(update_fields=PASSWORD_FIELDS)
        keep_record(fresh)
        end_sessions(fresh, actor=actor, reason="password_reset")
        work.record("user.password_reset", fresh)
    return fresh


def _refuse_system(user: User) -> None:
    if user.is_system:
        raise RoleRefusedError("系统账户不能修改，也不能用于登录")
