"""Every service that somebody calls leaves an event, or changes nothing (issue 3, Audit; R-46)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from portal.audit_labels import APPS

ROOT = Path(__file__).resolve().parents[2]
RECORDING = {"record", "record_alone"}
WRITING = {
    "save", "create", "bulk_create", "bulk_update", "update_or_create", "get_or_create", "delete",
    "copy_rows", "copy_insert", "update_from",
}  # fmt: skip
# Parts of verbs that record the event themselves.
PARTS = {
    "orders.services.matching.schedule_matching",
    "portal.services.tasks.retry_task",  # portal.queue.retry_failed records it
    "production.services.destruction_certifying.certify_when_gone",
}
# Services that change nothing, and show nobody's data.
READING = {
    "production.services.destruction_certifying.common_facts",
    "production.services.destruction_requests.find_subject",
    "production.services.papers.certificate_json",
    "production.services.papers.certificate_pdf",
    "production.services.papers.verify_certificate",
    "stations.services.issuance.require_station",
}


class Code:
    """The functions of the project by name, and what each calls."""

    def __init__(self) -> None:
        self.calls: dict[str, set[str]] = {}
        self.services: dict[str, str] = {}
        for app in APPS:
            for path in sorted((ROOT / app).rglob("*.py")):
                if "migrations" not in path.parts:
                    self._read(path)

    def _read(self, path: Path) -> None:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                self.calls.setdefault(node.name, set()).update(_called(node))
                if ".services." in module and _is_service(node):
                    self.services[f"{module}.{node.name}"] = node.name

    def reaches(self, name: str, wanted: set[str]) -> bool:
        """Say whether a function calls one of the wanted, itself or through the project's functions."""
        seen, waiting = set(), [name]
        while waiting:
            for called in self.calls.get(waiting.pop(), ()):
                if called in wanted:
                    return True
                if called in self.calls and called not in seen:
                    seen.add(called)
                    waiting.append(called)
        return False


def _called(function: ast.FunctionDef) -> set[str]:
    """Return the functions that are called by their bare name, and of the methods those that count."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names.add(node.func.id)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_rows = node.func.attr != "create" or getattr(node.func.value, "attr", "") == "objects"
            names |= {node.func.attr} & (RECORDING | WRITING) if of_rows else set()
    return names


def _is_service(function: ast.FunctionDef) -> bool:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    return not function.name.startswith("_") and any(argument.arg == "actor" for argument in arguments)


@pytest.fixture(scope="module")
def code() -> Code:
    return Code()


def silent(code: Code) -> Mapping[str, str]:
    return {where: name for where, name in code.services.items() if not code.reaches(name, RECORDING)}


def test_there_are_services_to_look_at(code: Code) -> None:
    assert len(code.services) > 80
    assert code.services["orders.services.records.unmask_record"] == "unmask_record"
    assert code.reaches("activate_contract", RECORDING)
    assert not code.reaches("require_station", RECORDING)


def test_every_service_with_an_actor_records_an_event_or_is_known(code: Code) -> None:
    """A new service that changes something records it; one that only reads is named in READING."""
    assert set(silent(code)) - PARTS - READING == set()


def test_those_that_only_read_write_nothing(code: Code) -> None:
    writing = {where for where in READING & set(silent(code)) if code.reaches(code.services[where], WRITING)}
    assert writing == set()
