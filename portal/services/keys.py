"""Card master keys: brought by two people, each with one component that nobody else sees (R-25)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import date, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.db import IntegrityError
from django.utils import timezone
from django.utils.module_loading import import_string

from portal.audit import unit_of_work
from portal.choices import KeyImportStatus
from portal.core.errors import ConflictError, InputRefusedError, PortalError
from portal.core.key_masters import (
    checked_days,
    checked_name,
    checked_value,
    checked_version,
    read_component,
)
from portal.core.keystore import CheckValueError, KeyForTestsError, MasterKey
from portal.files import keystore
from portal.models import KeyImport, User
from portal.removal import remove_after_commit
from portal.roles import require, require_second_person
from portal.services.master_rows import check_values
from portal.workflow import check_move, locked, move

PERMISSION = "portal.import_key"
_FIRST, _SECOND = "分量一", "分量二"


class KeyImportExpiredError(PortalError):
    """The second component came too late; the first one is destroyed and both start again."""

    code: ClassVar[str] = "key_import_expired"


class KeyNameError(InputRefusedError):
    """The card profile has no key of this name: what is imported under it would never be found."""

    code: ClassVar[str] = "key_name"


class FirstPersonGoneError(PortalError):
    """Who brought the first component may no longer import keys."""

    code: ClassVar[str] = "first_person_gone"


def master_key_names() -> Mapping[str, str]:
    """Return the names of the card master keys the card profile asks for, with what each is for."""
    names: Mapping[str, str] = import_string(settings.MASTER_KEY_NAMES)()
    return names


def master_keys() -> list[MasterKey]:
    """List the card master keys in the key store, with check values only."""
    return keystore().masters()


def next_version(name: str) -> int:
    """Return the version a new import of a master key would have."""
    return max((master.version for master in master_keys() if master.name == name), default=0) + 1


def start_key_import(
    name: str,
    version: int,
    *,
    check_value: str,
    component: str,
    component_check_value: str,
    valid_from: date | None = None,
    valid_until: date | None = None,
    actor: User,
) -> KeyImport:
    """Take the first component of a card master key; the second one must come from another person.

    Args:
        check_value: of the whole key, as its owner announced it.
        component: 32 hex digits.
        component_check_value: of this component, so that a typing error is found at once.

    """
    require(actor, PERMISSION)
    _require_importable(name, version)
    checked_days(valid_from, valid_until)
    wanted = checked_value(check_value)
    secret = read_component(component, component_check_value, where=_FIRST)
    with ExitStack() as undo:
        key_id = keystore().put_component(f"{name} v{version}", secret)
        undo.callback(keystore().destroy, key_id)
        row = KeyImport(
            name=name,
            version=version,
            check_value=wanted,
            valid_from=valid_from,
            valid_until=valid_until,
            component_key_id=key_id,
            first_by=actor,
            expires_at=timezone.now() + timedelta(hours=settings.KEY_IMPORT_HOURS),
        )
        _save(row, actor)
        undo.pop_all()
    return row


def finish_key_import(
    row: KeyImport, *, component: str, component_check_value: str, actor: User
) -> MasterKey:
    """Join the second person's component with the first; the key is kept only if its check value is right.

    A typing error, found by the component's own check value, changes nothing. A wrong key, or one that
    everybody knows, ends the ceremony: nothing is kept and both start again.
    """
    require(actor, PERMISSION, row)
    require_second_person(row.first_by, actor, row)
    second = read_component(component, component_check_value, where=_SECOND)
    refusal: PortalError | None = None
    with unit_of_work(actor):
        fresh = locked(row)
        check_move(fresh, KeyImportStatus.IMPORTED)
        if _is_late(fresh):
            refusal = _close_late(fresh, actor)
        else:
            _require_first_person(fresh)
            first = keystore().component(fresh.component_key_id)
            try:
                master = keystore().import_components(
                    fresh.name, fresh.version, first, second, fresh.check_value,
                    valid_from=fresh.valid_from, valid_until=fresh.valid_until,
                )  # fmt: skip
            except (CheckValueError, KeyForTestsError, ConflictError) as exc:
                refusal = exc
                _close(fresh, KeyImportStatus.FAILED, actor, result="refused", code=exc.code, second_by=actor)
            else:
                _close(fresh, KeyImportStatus.IMPORTED, actor, second_by=actor)
    if refusal is not None:
        raise refusal
    return master


def cancel_key_import(row: KeyImport, *, actor: User) -> KeyImport:
    """End a ceremony that waits; the first component is destroyed."""
    require(actor, PERMISSION, row)
    with unit_of_work(actor):
        return _close(locked(row), KeyImportStatus.CANCELLED, actor)


def expire_key_imports() -> int:
    """End the ceremonies whose second component did not come in time; return how many."""
    actor, ended = User.objects.system(), 0
    late = KeyImport.objects.filter(status=KeyImportStatus.WAITING, expires_at__lte=timezone.now())
    for row in late:
        with unit_of_work(actor):
            fresh = locked(row)
            if fresh.status == KeyImportStatus.WAITING:
                _close_late(fresh, actor)
                ended += 1
    return ended


def _save(row: KeyImport, actor: User) -> None:
    check_values(row)
    try:
        with unit_of_work(actor) as work:
            row.save()
            work.record("keyimport.started", row, **_facts(row))
    except IntegrityError as exc:
        raise ConflictError("该主密钥的这一版本已导入或正在导入", where=str(row)) from exc


def _require_importable(name: str, version: int) -> None:
    checked_version(checked_name(name), version)
    if name not in master_key_names():
        raise KeyNameError("卡片版本没有这个主密钥", where=name)
    if any((master.name, master.version) == (name, version) for master in master_keys()):
        raise ConflictError("该主密钥的这一版本已存在，不得覆盖", where=f"{name} v{version}")


def _require_first_person(row: KeyImport) -> None:
    """Refuse to go on with the component of somebody who was dismissed meanwhile."""
    first = User.objects.get(pk=row.first_by_id)
    if not first.is_active or not first.has_perm(PERMISSION):
        raise FirstPersonGoneError("分量一的录入人已无此权限，请取消后重新开始", got=first.username)


def _is_late(row: KeyImport) -> bool:
    return row.expires_at <= timezone.now()


def _close_late(row: KeyImport, actor: User) -> KeyImportExpiredError:
    _close(row, KeyImportStatus.EXPIRED, actor, result="refused")
    hours = settings.KEY_IMPORT_HOURS
    return KeyImportExpiredError("分量二逾期未录入，分量一已销毁，请重新开始", expected=f"{hours} 小时内")


def _close(
    row: KeyImport,
    status: KeyImportStatus,
    actor: User,
    *,
    result: str = "done",
    code: str = "",
    **fields: Any,
) -> KeyImport:
    """Bring a ceremony to its end and have the first component destroyed with the commit."""
    remove_after_commit(keys=[row.component_key_id])
    details = _facts(row) | ({"code": code} if code else {})
    ended = {"component_key_id": "", "closed_at": timezone.now(), **fields}
    return move(row, status, actor=actor, details=details, result=result, **ended)


def _facts(row: KeyImport) -> dict[str, str]:
    """Return what the audit says of a key: never more than its check value."""
    days = {"valid_from": row.valid_from, "valid_until": row.valid_until}
    return {
        "key": row.name,
        "version": str(row.version),
        "check_value": row.check_value,
        **{name: day.isoformat() for name, day in days.items() if day is not None},
    }
