"""Roles and permissions come by data migration and stay equal to the reviewed table (issue 3, People)."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from portal import role_table
from portal.choices import Role
from portal.management.commands import make_role_migration
from portal.models import RoleDefinition, User
from portal.role_table import RoleChange, changed, check_role_table, difference, migrated, reviewed
from portal.roles import PERMISSIONS


@pytest.fixture(scope="module")
def fresh(module_database: None) -> None:
    """A database of its own in which the table came from `migrate` just now."""
    call_command("migrate", "portal", "0007", verbosity=0)
    call_command("migrate", verbosity=0)


def held() -> dict[str, set[str]]:
    return {row.role: set(row.permissions) for row in RoleDefinition.objects.all()}


def test_the_migrations_lead_to_the_reviewed_table() -> None:
    """A change of portal/roles.py without its migration fails here: run `manage.py make_role_migration`."""
    assert migrated() == reviewed()
    assert set(reviewed()) == set(Role)


def test_migrate_alone_leaves_every_role_and_permission(fresh: None, db: None) -> None:
    assert held() == {role: set(allowed) for role, allowed in PERMISSIONS.items()}
    assert sum(map(len, held().values())) > 200
    assert check_role_table(databases=["default"]) == []


def test_it_goes_back_and_forth(fresh: None, db: None) -> None:
    """Each change is undone by its reverse, row by row."""
    loader = MigrationLoader(None)
    changes = [
        operation
        for key in loader.graph.forwards_plan(role_table.last(loader))
        for operation in loader.graph.nodes[key].operations
        if isinstance(operation, RoleChange)
    ]
    state = loader.project_state()
    whole = held()
    with connection.schema_editor() as editor:
        for change in reversed(changes):
            change.database_backwards("portal", editor, state, state)
        assert held() == {}
        for change in changes:
            change.database_forwards("portal", editor, state, state)
    assert held() == whole


@pytest.mark.parametrize(
    ("before", "added", "removed", "after"),
    [
        ({}, {"a": ["x", "y"]}, {}, {"a": ["x", "y"]}),
        ({"a": ["y"]}, {"a": ["x"]}, {"a": ["y"]}, {"a": ["x"]}),
        ({"a": ["x"], "b": ["x"]}, {}, {"a": ["x"]}, {"b": ["x"]}),
        ({"a": ["x"]}, {"a": ["x"]}, {"b": ["x"]}, {"a": ["x"]}),
    ],
)
def test_a_change_and_the_difference_are_inverse(
    before: dict[str, list[str]],
    added: dict[str, list[str]],
    removed: dict[str, list[str]],
    after: dict[str, list[str]],
) -> None:
    assert changed(before, added, removed) == after
    assert changed(before, *difference(before, after)) == after


class TestDrift:
    """What is written into the table by hand grants nothing and is told."""

    def test_a_row_written_by_hand_grants_nothing(self, fresh: None, db: None) -> None:
        clerk = User.objects.create(username="clerk", roles=[Role.BANK_CLERK])
        row = RoleDefinition.objects.get(role=Role.BANK_CLERK)
        row.permissions = sorted({*row.permissions, "orders.unmask_record"})
        row.save()
        RoleDefinition.objects.create(role="emperor", permissions=["portal.view_auditentry"])
        assert not clerk.has_perm("orders.unmask_record")
        (warning,) = check_role_table(databases=["default"])
        assert warning.id == "portal.W001"
        assert "'bank_clerk': ['orders.unmask_record']" in warning.msg
        assert "'emperor': ['portal.view_auditentry']" in warning.msg
        with pytest.raises(SystemCheckError, match=r"portal\.W001"):
            call_command("check", databases=["default"], fail_level="WARNING")

    def test_a_row_taken_away_by_hand_takes_nothing_and_is_told(self, fresh: None, db: None) -> None:
        RoleDefinition.objects.filter(role=Role.AUDITOR).delete()
        assert User(username="a", roles=[Role.AUDITOR]).has_perm("portal.view_auditentry")
        assert "'auditor': ['portal.decide" not in str(check_role_table(databases=["default"]))
        assert "'auditor': [" in check_role_table(databases=["default"])[0].msg

    def test_without_a_database_nothing_is_asked(self) -> None:
        assert check_role_table(databases=None) == []


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(make_role_migration, "FOLDER", tmp_path)
        return tmp_path

    def test_nothing_to_write(self, folder: Path, capsys: Any) -> None:
        call_command("make_role_migration")
        assert "没有变化" in capsys.readouterr().out
        assert list(folder.iterdir()) == []

    def test_the_difference_is_written_and_leads_there(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changed_table = {role: set(allowed) for role, allowed in PERMISSIONS.items()}
        changed_table[Role.BANK_CLERK] ^= {"orders.upload_accounts", "orders.unmask_record"}
        monkeypatch.setattr(role_table, "PERMISSIONS", changed_table)
        assert migrated() != reviewed()
        call_command("make_role_migration", name="banks_unmask")
        (written,) = folder.iterdir()
        assert written.name.endswith("_banks_unmask.py")
        values = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(written.read_text()).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        assert values == {
            "ADDED": {"bank_clerk": ["orders.unmask_record"]},
            "REMOVED": {"bank_clerk": ["orders.upload_accounts"]},
        }
        assert changed(migrated(), values["ADDED"], values["REMOVED"]) == reviewed()
        with pytest.raises(CommandError, match="无法写入"):
            call_command("make_role_migration", name="banks_unmask")
