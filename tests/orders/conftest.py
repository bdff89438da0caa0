"""The programme of the orders tests, on a fixed morning."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.orders.scene import Scene

# Models are imported inside the fixtures: pytest reads this file before Django is set up.


@pytest.fixture
def fixed_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be Monday 2026-11-23, 09:00 in the city."""
    morning = dt.datetime(2026, 11, 23, 1, 0, tzinfo=dt.UTC)
    monkeypatch.setattr("portal.core.clock.now", lambda: morning)


@pytest.fixture
def scene(db: None, fixed_day: None) -> Scene:
    from tests.orders.scene import make_scene

    return make_scene()
