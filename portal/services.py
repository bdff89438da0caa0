"""Small services of the kernel: master data, people, tokens, failed tasks and the audit's own verbs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import ClassVar, TypeVar

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from portal import queue
from portal.audit import ChainFault, unit_of_work, verify_chain
from portal.choices import OrganisationKind, Role
from portal.core.clock import format_moment
from portal.core.crypto import sm3
from portal.core.errors import InputRefusedError, PermissionRefusedError
from portal.models import ApiToken, AuditEntry, Organisation, Task, User
from portal.roles import require
from portal.texts import told
from portal.workflow import locked

M = TypeVar("M", bound=models.Model)
TOKEN_BYTES = 32
MAX_TOKEN_DAYS = 366

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


class FormRefusedError(InputRefusedError):
    """Values that a model's rules refuse; the message says which and why."""

    code: ClassVar[str] = "values_refused"


class RoleRefusedError(InputRefusedError):
    """Roles that do not go together or do not belong to the organisation."""

    code: ClassVar[str] = "role_refused"


class PasswordRefusedError(InputRefusedError):
    """A password that the rules refuse."""

    code: ClassVar[str] = "password_refused"


def save_row(row: M, *, changed: Sequence[str], actor: User) -> M:
    """Add or change a row of simple master data; it must lie within the actor's own organisation.

    Raises PermissionRefusedError when the role may not, or the row would belong to somebody else.
    """
    options = row._meta
    adding = not type(row)._base_manager.filter(pk=row.pk).exists()
    verb = "add" if adding else "change"
    scoped = hasattr(type(row)._default_manager.all(), "visible_to")
    require(actor, f"{options.app_label}.{verb}_{options.model_name}", row if scoped and not adding else None)
    check_values(row)
    with unit_of_work(actor) as work:
        row.save()
        _require_own(row, actor)
        action = f"{options.model_name}.{'added' if adding else 'changed'}"
        work.record(action, row, fields=sorted(changed))
    return row


def _require_own(row: models.Model, actor: User) -> None:
    """Refuse a row that its writer could not see afterwards (D12)."""
    rows = type(row)._default_manager.filter(pk=row.pk)
    if hasattr(rows, "visible_to") and not rows.visible_to(actor).exists():
        raise PermissionRefusedError("该数据不属于您的单位")


def check_values(row: models.Model, *, exclude: Iterable[str] = ()) -> None:
    """Hold a row to its fields and constraints; raise FormRefusedError with the first message."""
    # Django counts an empty column as missing even where NULL says "not yet".
    not_yet = {field.name for field in row._meta.fields if field.null and getattr(row, field.attname) is None}
    try:
        row.full_clean(exclude=not_yet | set(exclude))
    except ValidationError as exc:
        name, errors = next(iter(exc.message_dict.items()))
        where = "" if name == "__all__" else str(getattr(row._meta.get_field(name), "verbose_name", name))
        raise FormRefusedError(str(errors[0]), where=where) from exc


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


def issue_token(user: User, *, name: str, days: int, actor: User) -> tuple[ApiToken, str]:
    """Make a bearer token for the API; its text is returned once and only its digest is kept."""
    require(actor, "portal.add_apitoken")
    if not 1 <= days <= MAX_TOKEN_DAYS:
        raise InputRefusedError("有效天数超出范围", expected=f"1 至 {MAX_TOKEN_DAYS}", got=str(days))
    if user.is_system or not user.is_active:
        raise InputRefusedError("只能为启用的用户签发令牌", got=user.username)
    text = secrets.token_urlsafe(TOKEN_BYTES)
    token = ApiToken(
        user=user,
        name=name.strip(),
        digest=sm3(text.encode()),
        expires_at=timezone.now() + timedelta(days=days),
    )
    check_values(token, exclude=["last_used_at", "revoked_at"])
    with unit_of_work(actor) as work:
        token.save()
        work.record("apitoken.issued", token, days=days)
    return token, text


def revoke_token(token: ApiToken, *, actor: User) -> ApiToken:
    """End a token at once."""
    require(actor, "portal.revoke_apitoken")
    with unit_of_work(actor) as work:
        fresh = locked(token)
        if fresh.revoked_at is not None:
            raise InputRefusedError("该令牌已撤销")
        fresh.revoked_at = timezone.now()
        fresh.save(update_fields=["revoked_at"])
        work.record("apitoken.revoked", fresh)
    return fresh


def retry_task(task: Task, *, actor: User) -> Task:
    """Put a failed task back into the queue after its cause was removed."""
    require(actor, "portal.retry_task")
    return queue.retry_failed(task, actor=actor)


def verify_audit(*, actor: User) -> tuple[int, ChainFault | None]:
    """Walk the whole audit chain; return how many entries hold and the first fault, and audit the walk."""
    require(actor, "portal.view_auditentry")
    checked, fault = verify_chain()
    with unit_of_work(actor) as work:
        result = "done" if fault is None else "failed"
        work.record("audit.verified", None, result=result, checked=checked, fault=fault and fault.position)
    return checked, fault


AUDIT_COLUMNS = (
    "序号", "时间", "用户", "单位", "来源地址", "动作",
    "对象类别", "对象编号", "对象", "内容", "结果", "SM3 摘要",
)  # fmt: skip


def export_audit(*, actor: User) -> Iterator[tuple[str, ...]]:
    """Return the audit's heading and rows as text, oldest first; the export is an event itself.

    Text that a spreadsheet would run as a formula starts with an apostrophe.
    """
    require(actor, "portal.view_auditentry")
    last = AuditEntry.objects.order_by("-position").values_list("position", flat=True).first() or 0
    with unit_of_work(actor) as work:
        work.record("audit.exported", None, last=last)
    return _audit_rows(last)


def _audit_rows(last: int) -> Iterator[tuple[str, ...]]:
    yield tuple(map(told, AUDIT_COLUMNS))
    for entry in AuditEntry.objects.filter(position__lte=last).order_by("position").iterator(chunk_size=2000):
        yield tuple(
            _harmless(text)
            for text in (
                str(entry.position),
                format_moment(entry.at),
                entry.actor_name,
                entry.organisation_code,
                entry.address,
                entry.action,
                entry.object_type,
                entry.object_id,
                entry.object_label,
                json.dumps(entry.details, ensure_ascii=False, sort_keys=True),
                entry.result,
                bytes(entry.digest).hex(),
            )
        )


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text
