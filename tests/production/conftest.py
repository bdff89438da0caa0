"""A whole run to tear down; imports Django late, for it is read before the settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from portal.models import User
    from tests.production.chain import Chain


@pytest.fixture(scope="module")
def finished(module_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Bring a package of two banks to its return files, once for all tests of the module."""
    from django.test import override_settings

    from tests.architecture.programme_run import folders
    from tests.production.chain import run_chain

    folder = tmp_path_factory.mktemp("chain")
    with override_settings(**folders(folder)):
        yield run_chain(folder)


@pytest.fixture
def chain(finished: Chain, db: None, tmp_path: Path, settings: Any) -> Chain:
    """Return the run, with files and keys of this test alone."""
    from tests.production.chain import own_copy

    own_copy(finished, tmp_path / "chain", settings)
    return finished


@pytest.fixture
def clerk(chain: Chain) -> User:
    """Return the purchaser's clerk of the run."""
    from portal.choices import Role

    return chain.demo.programme.person(Role.PURCHASER_CLERK)


@pytest.fixture
def committed(django_capture_on_commit_callbacks: Any) -> Any:
    """Do what follows a commit at the end of the block."""
    return lambda: django_capture_on_commit_callbacks(execute=True)
