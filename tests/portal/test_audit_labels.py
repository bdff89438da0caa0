"""Every action of the audit has words for people (issue 3, Audit)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.utils.translation import override

from portal.audit_labels import APPS, action_label, is_labelled

ROOT = Path(__file__).resolve().parents[2]
WRITERS = {"record", "record_alone"}


def written_actions() -> Iterator[tuple[str, str]]:
    """Yield each action that stands as text in a call of record or record_alone, and where."""
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and node.args and _name(node.func) in WRITERS:
                    for part in ast.walk(node.args[0]):
                        if isinstance(part, ast.Constant) and "." in str(part.value).strip("."):
                            yield str(part.value), f"{path.relative_to(ROOT)}:{node.lineno}"


def _name(called: ast.expr) -> str:
    return str(getattr(called, "attr", getattr(called, "id", "")))


def moved_actions() -> Iterator[tuple[str, str]]:
    """Yield the actions that `move()` writes: the model and the state it came to."""
    for app in APPS:
        for model in apps.get_app_config(app).get_models():
            for states in getattr(model, "TRANSITIONS", {}).values():
                yield from ((f"{model._meta.model_name}.{state}", model._meta.label) for state in states)


def test_every_action_in_the_code_has_a_label() -> None:
    """A new action needs a word in portal/audit_labels.py (VERBS, and THINGS where it is no model)."""
    missing = {
        action: where for action, where in (*written_actions(), *moved_actions()) if not is_labelled(action)
    }
    assert missing == {}


@pytest.mark.parametrize(
    ("action", "label"),
    [
        ("batch.released", "批次：已下达"),
        ("record.unmasked", "持卡人记录：查看明文"),
        ("organisation.changed", "单位：修改"),
        ("stockmovement.good", "出入库流水：良品转出"),
        ("audit.anchored", "审计：签署锚点"),
        ("something.else", "something.else"),
    ],
)
def test_labels_name_the_thing_and_what_happened(action: str, label: str) -> None:
    with override("zh-hans"):
        assert action_label(action) == label
