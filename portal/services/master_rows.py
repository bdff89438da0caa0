"""Simple rows of master data: saved by one rule, refused in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import ValidationError
from django.db import models

from portal.audit import unit_of_work
from portal.core.errors import InputRefusedError, PermissionRefusedError
from portal.models import User
from portal.roles import require

M = TypeVar("M", bound=models.Model)


class FormRefusedError(InputRefusedError):
    """Values that a model's rules refuse; the message says which and why."""

    code: ClassVar[str] = "values_refused"


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
    fields = _written(row, changed)
    with unit_of_work(actor) as work:
        before = _values(type(row)._base_manager.select_for_update().filter(pk=row.pk).first(), fields)
        row.save()
        _require_own(row, actor)
        action = f"{options.model_name}.{'added' if adding else 'changed'}"
        work.record(action, row, fields=sorted(changed), before=before, after=_values(row, fields))
    return row


def _written(row: models.Model, changed: Sequence[str]) -> list[str]:
    """Return the columns of the changed fields; a form may have fields that are none."""
    columns = {field.name: field.attname for field in row._meta.concrete_fields}
    return sorted(columns[name] for name in changed if name in columns)


def _values(row: models.Model | None, fields: Sequence[str]) -> dict[str, Any]:
    """Return what the audit keeps of a row's columns: bytes are digests and seals, which say nothing."""
    values = {name: getattr(row, name) for name in fields} if row is not None else {}
    return {name: "***" if isinstance(value, bytes | memoryview) else value for name, value in values.items()}


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
