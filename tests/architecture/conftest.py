"""The invented programme, run once to its end, for the tests that look at every page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.architecture.programme_run import Finished


@pytest.fixture(scope="module")
def finished(module_database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Run the programme once for all tests of the module."""
    from django.test import override_settings

    from tests.architecture.programme_run import folders, run_programme

    folder = tmp_path_factory.mktemp("programme")
    with override_settings(**folders(folder)):
        yield run_programme(folder)
