"""Fixtures of several modules; daemons of a whole process (libpcsclite reads pcscd's address once)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stations.pcsc import pcscd, plug
from tests.stations.printer import card_printer

if TYPE_CHECKING:
    from tests.stations.plant import Plant

__all__ = ["card_printer", "pcscd", "plug"]


@pytest.fixture
def plant() -> Plant:
    """Return a plant in the test's own transaction."""
    from tests.stations.plant import make_plant  # not before Django has its settings

    return make_plant()
