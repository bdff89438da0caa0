"""Background work: every enqueued path leads to a function that takes a task, and none is left over."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import django_rq
import pytest
from django.conf import settings
from django.utils.module_loading import import_string

from portal import queue
from portal.models import Task
from stations import queues
from stations.agent import jobs
from tests.architecture.sources import PACKAGES, ROOT, functions, module_name, place, source_files, tree


def scheduled() -> list[tuple[str, str]]:
    """List (place, dotted path) of every call of `schedule`, whose first argument may be a constant."""
    return [
        (place(path, node), _text(path, node.args[0]))
        for path in source_files(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and _called(node) == "schedule" and node.args
    ]


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _text(path: Path, argument: ast.expr) -> str:
    if isinstance(argument, ast.Constant):
        return str(argument.value)
    assert isinstance(argument, ast.Name), f"{path}: the handler must be a text or a constant of the module"
    return str(getattr(import_module(module_name(path)), argument.id))


SCHEDULED = scheduled()


def test_work_is_scheduled_somewhere() -> None:
    assert SCHEDULED, "the reader of the sources finds no call: the tests below would prove nothing"


@pytest.mark.parametrize(("where", "handler"), SCHEDULED)
def test_every_enqueued_path_leads_to_a_function_of_a_task(where: str, handler: str) -> None:
    """D7: a job carries a dotted path and a key; both are resolved only when a worker runs."""
    function = import_string(handler)
    parameters = list(inspect.signature(function).parameters.values())
    assert len(parameters) == 1, where
    assert inspect.get_annotations(function, eval_str=True)[parameters[0].name] is Task, where
    assert len(handler) <= Task._meta.get_field("handler").max_length, where


def test_every_job_is_scheduled_by_somebody() -> None:
    found = {
        f"{module_name(path)}.{node.name}"
        for path in source_files(*PACKAGES)
        if path.stem.startswith("jobs")
        for node in functions(path)
        if _takes_a_task(node)
    }
    assert found - {handler for _where, handler in SCHEDULED} == set()


def _takes_a_task(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.args.args[0].annotation if len(node.args.args) == 1 else None
    return isinstance(first, ast.Name) and first.id == "Task" and not node.name.startswith("_")


def test_only_three_places_talk_to_the_queues() -> None:
    """Personal data never reaches Redis: what is enqueued is a path and the key of a row."""
    users = {
        path.relative_to(ROOT).as_posix()
        for path in source_files(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and _imports_queue(node)
    }
    enqueuing = {"portal/queue.py", "stations/services/waking.py"}
    working = {"portal/management/commands/worker.py", "stations/agent/worker.py"}
    unregistering = {"portal/admin/__init__.py"}
    assert users == enqueuing | working | unregistering


@pytest.mark.parametrize(
    ("path", "function"), [(queue.RUN_TASK, queue.run_task), (queues.SELF_TEST, jobs.self_test)]
)
def test_what_redis_carries_is_one_path_and_a_number(path: str, function: Callable[[int], object]) -> None:
    assert import_string(path) is function
    *_own, key = inspect.signature(function, eval_str=True).parameters.values()
    assert key.annotation is int, "the station's agent adds its bench itself, before the key"


def _imports_queue(node: ast.Import | ast.ImportFrom) -> bool:
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    return any(name.split(".")[0] in {"rq", "django_rq"} for name in names)


def test_every_queue_carries_json_and_keeps_no_result() -> None:
    for name in settings.QUEUES:
        assert settings.RQ_QUEUES[name]["SERIALIZER"] == "rq.serializers.JSONSerializer"
        assert settings.RQ_QUEUES[name]["DEFAULT_RESULT_TTL"] == 0
        assert django_rq.get_queue(name).name == name
