"""The layers of architecture.md, section 2: imports and foreign keys point downwards, no signals."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from django.apps import apps
from django.db import models

from tests.architecture.sources import APPS, PACKAGES, ROOT, place, source_files, tree

RANK = {"portal": 0, "orders": 1, "production": 2, "quality": 3, "billing": 4, "stations": 4}
OWN_MODELS = [model for model in apps.get_models() if model._meta.app_label in RANK]


def test_imports_keep_to_the_layers() -> None:
    """The contracts stand in pyproject.toml."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_foreign_keys_point_to_the_same_or_a_lower_layer() -> None:
    upward = [
        f"{model._meta.label}.{field.name} -> {field.related_model._meta.label}"
        for model in OWN_MODELS
        for field in model._meta.get_fields()
        if isinstance(field, (models.ForeignKey, models.ManyToManyField))
        and _rank(field.related_model) > RANK[model._meta.app_label]
    ]
    assert upward == []
    crossing = [
        f"{model._meta.label}.{field.name}"
        for model in OWN_MODELS
        for field in model._meta.get_fields()
        if isinstance(field, models.ForeignKey)
        and {model._meta.app_label, field.related_model._meta.app_label} == {"billing", "stations"}
    ]
    assert crossing == [], "billing and stations stand side by side and do not know each other"


def _rank(model: type[models.Model]) -> int:
    return RANK.get(model._meta.app_label, 0)


def test_no_foreign_key_deletes_rows_of_another_app() -> None:
    """A cascade across apps would delete what another app's services must decide about (R-22)."""
    crossing = [
        f"{model._meta.label}.{field.name}"
        for model in OWN_MODELS
        for field in model._meta.get_fields()
        if isinstance(field, models.ForeignKey)
        and field.remote_field.on_delete is models.CASCADE
        and field.related_model._meta.app_label != model._meta.app_label
    ]
    assert crossing == []


def test_there_are_no_signals() -> None:
    """D11: what happens stands in the service that does it."""
    found = [
        place(path, node)
        for path in source_files(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "signals" in _imported(node)
    ]
    assert found == []


def _imported(node: ast.Import | ast.ImportFrom) -> str:
    base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    names = " ".join(base + alias.name for alias in node.names)
    return names.replace("django.dispatch", "signals")


def test_status_is_written_by_the_state_machine_only() -> None:
    """D11: `row.status = …` stands in workflow.py and the queue; everybody else calls `move`."""
    allowed = {"portal/workflow.py", "portal/queue.py"}
    found = [
        place(path, node)
        for path in source_files(*PACKAGES)
        if path.relative_to(ROOT).as_posix() not in allowed
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.Assign, ast.AugAssign))
        and any(_is_status(target) for target in _targets(node))
    ]
    assert found == []


def _targets(node: ast.Assign | ast.AugAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _is_status(target: ast.expr) -> bool:
    return isinstance(target, ast.Attribute) and target.attr == "status" and not _is_self(target.value)


def _is_self(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id == "self"


def test_every_app_has_the_folders_a_reader_expects() -> None:
    for app in APPS:
        folder = ROOT / app
        assert (folder / "apps.py").exists(), app
        assert (folder / "models.py").exists() or (folder / "models").is_dir(), app
