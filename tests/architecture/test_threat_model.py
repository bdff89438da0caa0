"""The threat model names its proofs: each test in it exists, and no asset stands without one."""

from __future__ import annotations

import ast
import re
from functools import lru_cache

import pytest

from tests.architecture.sources import ROOT

PAGE = (ROOT / "docs" / "developers" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
ASSETS = ("Identities", "Photos", "Keys", "PINs", "sessions, tokens", "Audit", "Blanks", "Backups", "Logs")


@lru_cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of a file's tests, those in classes too."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_proof_exists(path: str, name: str) -> None:
    assert name in names_in(path)


def test_every_threat_has_its_proof() -> None:
    rows = [line for line in PAGE.split("## Assets")[1].splitlines() if line.startswith("| ")]
    threats = [row for row in rows if not row.startswith(("| threat", "|---"))]
    assert len(threats) > 40
    assert [row for row in threats if "`tests/" not in row.rsplit("|", 2)[1]] == []


@pytest.mark.parametrize("asset", ASSETS)
def test_every_asset_has_its_table(asset: str) -> None:
    assert re.search(rf"^### .*{asset}", PAGE, re.MULTILINE)
