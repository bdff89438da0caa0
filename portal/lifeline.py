"""Bind a child process to its parent: when the parent dies, even by SIGKILL, the kernel signals the child."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with_parent(signal_number: int, *, parent: int | None = None) -> Callable[[], None]:
    """Return a `preexec_fn`: the child gets `signal_number` when this process ends (Linux only).

    A child that calls it by itself names the `parent` it was told.
    """
    parent = os.getpid() if parent is None else parent

    def bind() -> None:
        if _libc is None:
            return
        _libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:  # it died between the fork and the call
            os._exit(1)

    return bind
