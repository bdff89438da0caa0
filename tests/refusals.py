"""What a refused action must leave behind: nothing but its refusal in the audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps

from portal.core.errors import PortalError
from portal.models import AuditEntry, UserSession

APPS = ("portal", "orders", "production", "quality", "billing", "stations")


def everything() -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the project's tables but the audit and the sessions, which requests touch."""
    return {
        model._meta.label: list(model._base_manager.order_by("pk").values_list())
        for label in APPS
        for model in apps.get_app_config(label).get_models()
        if model not in {AuditEntry, UserSession}
    }


def actions() -> list[str]:
    """Return the actions of the audit in order."""
    return list(AuditEntry.objects.order_by("position").values_list("action", flat=True))


@contextmanager
def refused(
    error: type[PortalError], *, audited: Sequence[str] = ()
) -> Iterator[pytest.ExceptionInfo[PortalError]]:
    """Expect a refusal that changes no row and leaves exactly these entries in the audit."""
    rows, entries = everything(), actions()
    with pytest.raises(error) as caught:
        yield caught
    assert everything() == rows
    assert actions() == [*entries, *audited]
