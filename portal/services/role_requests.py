"""Roles: asked for by a system administrator, granted by a security administrator, taken away at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from django.utils import timezone

from portal.audit import unit_of_work
from portal.choices import OrganisationKind, Role, RoleRequestStatus
from portal.core.errors import InputRefusedError
from portal.models import Organisation, RoleRequest, User
from portal.roles import require, require_second_person
from portal.services.master_rows import check_values
from portal.services.sessions import end_sessions
from portal.workflow import check_move, locked, move

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
    """Roles that do not go together, belong to other organisations, or are decided by the wrong person."""

    code: ClassVar[str] = "role_refused"


def place(user: User, organisation: Organisation, roles: Sequence[str]) -> None:
    """Put organisation and roles on a row, if they go together; the caller saves PLACE_FIELDS."""
    user.organisation, user.roles = organisation, sorted(set(roles))
    user.is_staff = Role.CARD_SYSTEM not in user.roles  # the province's system uses the API only
    _check_homes(user.roles, organisation)


PLACE_FIELDS = ("organisation", "roles", "is_staff")


def narrowed(user: User, organisation: Organisation, roles: Sequence[str]) -> list[str]:
    """Return the roles that stay at once when others are asked for: those held already, at the same place."""
    if user.organisation_id != organisation.pk:
        return []
    return sorted(set(roles) & set(user.roles))


def request_roles(
    user: User, organisation: Organisation, roles: Sequence[str], *, actor: User
) -> RoleRequest:
    """Ask for roles that a security administrator will grant; an older request that waits is withdrawn.

    Called within the unit of work of `add_user` and `change_user`, which checked the actor.
    """
    wanted = sorted(set(roles))
    _check_homes(wanted, organisation)
    # Roles that exclude each other are refused when they are asked for, not when somebody is to grant them.
    check_values(User(username=user.username, organisation=organisation, roles=wanted), exclude=_NOT_ROLES)
    for waiting in RoleRequest.objects.filter(user=user, status=RoleRequestStatus.PENDING):
        move(waiting, RoleRequestStatus.WITHDRAWN, actor=actor)
    row = RoleRequest.objects.create(user=user, organisation=organisation, roles=wanted, requested_by=actor)
    with unit_of_work(actor) as work:
        work.record(
            "rolerequest.made", row, username=user.username, roles=wanted, organisation=organisation.code
        )
    return row


def decide_request(row: RoleRequest, *, grant: bool, reason: str, actor: User) -> RoleRequest:
    """Grant or refuse roles; never those one asked for, and never one's own. The person signs in anew."""
    require(actor, "portal.decide_rolerequest")
    require_second_person(row.requested_by, actor, row)
    if row.user_id == actor.pk:
        raise RoleRefusedError("不能批准自己的角色，请由另一名安全管理员办理")
    if not grant and not reason.strip():
        raise RoleRefusedError("驳回须写明理由")
    status = RoleRequestStatus.GRANTED if grant else RoleRequestStatus.REJECTED
    with unit_of_work(actor) as work:
        check_move(locked(row), status)
        if grant:
            user = locked(row.user)
            before = {
                "roles": user.roles,
                "organisation": user.organisation.code if user.organisation else "",
            }
            place(user, row.organisation, row.roles)
            check_values(user, exclude=["password"])
            user.save(update_fields=PLACE_FIELDS)
            end_sessions(user, actor=actor, reason="roles_changed")
            work.record("user.roles_granted", user, before=before, roles=user.roles, request=row.pk)
        return move(
            row,
            status,
            actor=actor,
            details={"username": row.user.username, "roles": row.roles},
            decided_by=actor,
            decided_at=timezone.now(),
            reason=reason.strip(),
        )


def withdraw_request(row: RoleRequest, *, actor: User) -> RoleRequest:
    """Take a request back before it is decided."""
    require(actor, "portal.withdraw_rolerequest")
    return move(row, RoleRequestStatus.WITHDRAWN, actor=actor)


_NOT_ROLES = [field.name for field in User._meta.fields if field.name not in {"organisation", "roles"}]


def _check_homes(roles: Sequence[str], organisation: Organisation) -> None:
    for role in roles:
        if role not in ROLE_HOMES:
            raise RoleRefusedError("没有这个角色", got=role)
        if organisation.kind not in ROLE_HOMES[role]:
            homes = "、".join(str(OrganisationKind(home).label) for home in sorted(ROLE_HOMES[role]))
            raise RoleRefusedError(
                "角色与单位类别不符", where=str(Role(role).label), expected=homes, got=str(organisation)
            )
