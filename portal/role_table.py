"""Keep the database's table of roles equal to the reviewed one in portal/roles.py, by data migrations.

Each change of who may do what is a migration that says what was added and what was taken away, so an
installation's django_migrations tells when it came. `manage.py make_role_migration` writes it; a test fails
while it is missing, and `manage.py check --database default` warns of a table that differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core import checks
from django.db import connections
from django.db.migrations import RunPython
from django.db.migrations.loader import MigrationLoader

from portal.models import RoleDefinition
from portal.roles import PERMISSIONS

Table = Mapping[str, Sequence[str]]


class RoleChange(RunPython):
    """Give permissions to roles and take some away; reversible."""

    def __init__(self, added: Table, removed: Table) -> None:
        self.added, self.removed = added, removed
        super().__init__(
            lambda apps, editor: _write(apps, editor.connection.alias, added, removed),
            lambda apps, editor: _write(apps, editor.connection.alias, removed, added),
        )

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Return what a squashed migration repeats."""
        return type(self).__qualname__, [], {"added": self.added, "removed": self.removed}


def changed(before: Table, added: Table, removed: Table) -> dict[str, list[str]]:
    """Return a table after a change; a role without permissions is no row."""
    after = {
        role: sorted((set(before.get(role, ())) | set(added.get(role, ()))) - set(removed.get(role, ())))
        for role in {*before, *added}
    }
    return _without_empty(dict(sorted(after.items())))


def _write(apps: Any, alias: str, added: Table, removed: Table) -> None:
    rows = apps.get_model("portal", "RoleDefinition").objects.using(alias)
    after = changed(dict(rows.values_list("role", "permissions")), added, removed)
    rows.exclude(role__in=after).delete()
    for role, permissions in after.items():
        rows.update_or_create(role=role, defaults={"permissions": permissions})


def reviewed() -> dict[str, list[str]]:
    """Return the table in the code."""
    return _without_empty({str(role): sorted(allowed) for role, allowed in sorted(PERMISSIONS.items())})


def migrated(loader: MigrationLoader | None = None) -> dict[str, list[str]]:
    """Return the table that all migrations together lead to."""
    found = loader or MigrationLoader(None)
    table: dict[str, list[str]] = {}
    for key in found.graph.forwards_plan(last(found)):
        for operation in found.graph.nodes[key].operations:
            if isinstance(operation, RoleChange):
                table = changed(table, operation.added, operation.removed)
    return table


def last(loader: MigrationLoader) -> tuple[str, str]:
    """Return the newest migration of the kernel."""
    ((app, name),) = loader.graph.leaf_nodes("portal")
    return app, name


def difference(before: Table, after: Table) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return what leads from one table to another: added and removed."""
    roles = sorted({*before, *after})
    added = {role: sorted(set(after.get(role, ())) - set(before.get(role, ()))) for role in roles}
    removed = {role: sorted(set(before.get(role, ())) - set(after.get(role, ()))) for role in roles}
    return _without_empty(added), _without_empty(removed)


def _without_empty(table: Table) -> dict[str, list[str]]:
    return {role: list(permissions) for role, permissions in table.items() if permissions}


@checks.register(checks.Tags.database)
def check_role_table(*, databases: Sequence[str] | None = None, **_options: Any) -> list[checks.CheckMessage]:
    """Warn of a table that is not the reviewed one: not migrated, or written by hand."""
    messages: list[checks.CheckMessage] = []
    for alias in databases or ():
        with connections[alias].cursor() as cursor:
            tables = connections[alias].introspection.table_names(cursor)
        if RoleDefinition._meta.db_table not in tables:  # before the first migration
            continue
        held = dict(RoleDefinition.objects.using(alias).values_list("role", "permissions"))
        added, removed = difference(reviewed(), held)
        if added or removed:
            messages.append(_differs(added, removed))
    return messages


def _differs(added: Table, removed: Table) -> checks.Warning:
    return checks.Warning(
        f"数据库中的角色表与程序不一致：多出 {dict(added)}，缺少 {dict(removed)}",
        hint="权限以程序为准；请运行 manage.py migrate，若已是最新，请查明何人改动了数据库",
        id="portal.W001",
    )
