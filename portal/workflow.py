"""State machines: one TRANSITIONS table a model, one move() for all of them (D11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from django.db import models

from portal.audit import unit_of_work
from portal.core.errors import TransitionRefusedError
from portal.models import User


class HasStatus(Protocol):
    """A model with a status column and its table of allowed moves."""

    TRANSITIONS: ClassVar[Mapping[Any, frozenset[Any]]]
    status: Any


M = TypeVar("M", bound=models.Model)


def locked(row: M) -> M:
    """Re-read a row under its lock; whoever comes second waits and then sees the first one's change."""
    return type(row)._base_manager.select_for_update(of=("self",)).get(pk=row.pk)


def check_move(row: models.Model, target: str) -> None:
    """Refuse a move that the model's table does not list."""
    status: str = row.status  # type: ignore[attr-defined]
    allowed = row.TRANSITIONS.get(status, frozenset())  # type: ignore[attr-defined]
    if target not in allowed:
        raise TransitionRefusedError(
            f"{row._meta.verbose_name} {row} 当前状态不允许此操作",
            expected=_sources(row, target),
            got=str(row.get_status_display()),  # type: ignore[attr-defined]
        )


def _sources(row: models.Model, target: str) -> str:
    """List the labels of the states from which `target` can be reached."""
    table: Mapping[Any, frozenset[Any]] = row.TRANSITIONS  # type: ignore[attr-defined]
    return "、".join(sorted(str(state.label) for state, nexts in table.items() if target in nexts))


def move(
    row: M,
    target: str,
    *,
    actor: User | None,
    details: Mapping[str, Any] | None = None,
    result: str = "done",
    **fields: Any,
) -> M:
    """Bring a row to `target` under its lock, write `fields` with it, audit the step; return the fresh row.

    `result` is what the audit says of the step. Raises TransitionRefusedError when the table does not allow
    it; nothing is changed or audited then.
    """
    with unit_of_work(actor) as work:
        fresh = locked(row)
        check_move(fresh, target)
        before = fresh.status  # type: ignore[attr-defined]
        for name, value in {**fields, "status": target}.items():
            setattr(fresh, name, value)
        fresh.save(update_fields=[*fields, "status"])
        work.record(
            f"{fresh._meta.model_name}.{target}",
            fresh,
            result=result,
            before=str(before),
            after=str(target),
            **(details or {}),
        )
    return fresh
