"""One pcscd for all benchmarks of a process: libpcsclite reads its address once."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.stations.pcsc import DRIVER, Pcscd, free_ports


@cache
def daemon() -> Pcscd | None:
    """Return the running daemon with vpcd's readers; None where pcscd or vpcd is not installed."""
    if not Path("/usr/sbin/pcscd").exists() or not Path(DRIVER).exists():
        return None
    folder = Path(tempfile.mkdtemp(prefix="portal-bench-"))
    started = Pcscd(folder, free_ports())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(started.stop)
    started.start()
    return started
