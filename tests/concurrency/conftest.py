"""A small programme to take packages in; imports Django late, for it is read before the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.orders.intake.world import World


@pytest.fixture
def world(transactional_db: None, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """A programme whose tasks wait for `run_tasks`: no worker and no Redis are needed."""
    from portal import queue
    from tests.orders.intake.world import make_world

    monkeypatch.setattr(queue, "wake", lambda tasks: None)
    return make_world()
