"""Calls at the same moment, and processes killed at a chosen one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.db import connections

from portal.core.errors import PortalError

_inherited: list[Any] = []


def at_once(calls: list[Callable[[], object]]) -> Counter[str]:
    """Make all calls at the same moment, each with its own connection; count results and error codes."""
    gate, found, lock = threading.Barrier(len(calls)), Counter[str](), threading.Lock()

    def run(call: Callable[[], object]) -> None:
        try:
            gate.wait()
            outcome = str(bool(call()))
        except PortalError as exc:
            outcome = exc.code
        finally:
            connections.close_all()
        with lock:
            found[outcome] += 1

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def killed_at(point: str, call_number: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed (signal 9) at the n-th call of a function; say if it was."""
    connections.close_all()  # the child must not inherit a live connection
    child = os.fork()
    if child == 0:
        try:
            _forget_connections()
            _arm(point, call_number)
            work()
        except BaseException:  # noqa: BLE001 - whatever kept it from its death is told
            traceback.print_exc()  # nobody else would hear why it was not killed
        finally:
            sys.stderr.flush()
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _forget_connections() -> None:
    """Leave alone what the parent opened elsewhere, and open one's own.

    While a browser runs, the parent's connection belongs to its event loop, which a child has not: the child
    sees the one that its thread had before, open at the server's other end or long ended there.
    """
    for one in connections.all(initialized_only=True):
        _inherited.append(one.connection)  # kept, so that nothing closes the parent's socket
        one.connection = None


def _arm(point: str, call_number: int) -> None:
    module_name, _, name = point.rpartition(".")
    module = import_module(module_name)
    original, calls = getattr(module, name), iter(range(1, 1_000_000))

    def armed(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call_number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(module, name, armed)
