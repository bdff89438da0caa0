"""Small functions and files, telling names, nothing left unfinished (style.md)."""

from __future__ import annotations

import ast
import re

from tests.architecture.sources import PACKAGES, ROOT, functions, place, source_files, tree

LONGEST_FUNCTION = 50
LONGEST_FILE = 400
VAGUE_NAMES = {"utils", "util", "helper", "helpers", "manager", "managers", "data", "info", "misc", "common"}
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b|raise Not" r"Implemented")


def test_no_function_is_longer_than_a_page() -> None:
    long = [
        f"{place(path, node)} {node.name}: {length}"
        for path in source_files()
        for node in functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []


def test_no_file_is_longer_than_a_chapter() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {length}"
        for path in source_files()
        if (length := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    ]
    assert long == []


def test_no_module_or_class_has_a_name_that_says_nothing() -> None:
    modules = [path for path in source_files() if path.stem in VAGUE_NAMES or path.parent.name in VAGUE_NAMES]
    classes = [
        place(path, node)
        for path in source_files(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and node.name.lower() in VAGUE_NAMES
    ]
    assert (modules, classes) == ([], [])


def test_nothing_is_marked_unfinished() -> None:
    left = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in source_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert left == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    forbidden = {"skip", "skipif", "xfail", "importorskip"}
    found = [
        place(path, node)
        for path in source_files("tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr in forbidden
        and (isinstance(node.value, ast.Attribute) or getattr(node.value, "id", "") == "pytest")
    ]
    assert found == []


def test_every_module_function_and_method_is_typed() -> None:
    """Type hints everywhere: mypy holds them inside the packages, this holds their presence in tests too."""
    bare = [
        f"{place(path, node)} {node.name}"
        for path in source_files()
        for node in functions(path)
        if node.returns is None
    ]
    assert bare == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in source_files(*PACKAGES)
        if path.stem != "__init__" and not ast.get_docstring(tree(path))
    ]
    assert silent == []
