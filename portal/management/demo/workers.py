"""The demo's own workers, and waiting for what they do with a bar that shows it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Count, Q
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import orders.jobs
import production.jobs
import quality.jobs
from portal.choices import TaskStatus
from portal.core.errors import PortalError
from portal.models import Task
from portal.queue import sweep

POLL_SECONDS = 0.2
SWEEP_SECONDS = 5.0
MAX_REPLACED = 20
KIBIBYTES = 1024  # in a MB
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class StuckError(PortalError):
    """Background work of the demo failed or does not end."""

    code = "demo_stuck"


class Crew:
    """RQ workers of the demo; one that dies is replaced, as script/server does."""

    def __init__(self, count: int) -> None:
        self._running = [_worker() for _ in range(count)]
        self._replaced = 0
        self.peak = 0.0
        """Most memory a worker took, in MB, as far as it was seen alive."""

    def look_after(self) -> None:
        """Replace dead workers; give up when they keep dying."""
        self._note_peak()
        for place, process in enumerate(self._running):
            if process.poll() is not None:
                self._replaced += 1
                self._running[place] = _worker()
        if self._replaced > MAX_REPLACED:
            raise StuckError("后台进程反复退出", got=f"{self._replaced} 次")

    def stop(self) -> None:
        """End all workers."""
        self._note_peak()
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(timeout=30)

    def _note_peak(self) -> None:
        self.peak = max([self.peak, *(_peak(process.pid) for process in self._running)])


def _worker() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(settings.BASE_DIR / "manage.py"), "worker"])


@contextmanager
def workers(count: int) -> Iterator[Crew]:
    """Run RQ workers for the length of the block; they end with it, whatever happens."""
    crew = Crew(count)
    try:
        yield crew
    finally:
        crew.stop()


def _peak(pid: int) -> float:
    """Return a process's peak memory in MB, 0 where the system does not say.

    Not `ru_maxrss`: a child's begins at what its parent had when it forked.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    peak = _PEAK.search(status)
    return int(peak[1]) / KIBIBYTES if peak else 0.0


def bars(console: Console) -> Progress:
    """Return the progress display of the demo."""
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=36),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=False,
    )


def wait_for(
    label: str,
    done: Callable[[], bool],
    console: Console,
    crew: Crew,
    *,
    since: int,
    timeout: float = 7200,
) -> None:
    """Show the tasks made after `since` until `done` says yes and none of them waits any more."""
    started = swept = time.monotonic()
    with bars(console) as progress:
        bar = progress.add_task(label, total=None)
        while True:
            counts = _counts(since)
            progress.update(bar, completed=counts["finished"], total=max(counts["total"], 1))
            if counts["failed"]:
                raise StuckError("后台任务失败", where=label, got=_failure(since))
            if not counts["waiting"] and done():
                return
            if time.monotonic() - started > timeout:
                raise StuckError("后台任务没有结束", where=label, got=f"{counts['waiting']} 个未完成")
            if time.monotonic() - swept > SWEEP_SECONDS:
                swept = time.monotonic()
                crew.look_after()
                look_after()
            time.sleep(POLL_SECONDS)


def look_after() -> None:
    """Do what the scheduler does: wake what was left, move on what is done."""
    sweep(timedelta(seconds=30))
    for jobs in (orders.jobs, production.jobs, quality.jobs):
        jobs.advance_all()


def last_task() -> int:
    """Return the id of the newest task, to wait for those that follow."""
    return Task.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def _counts(since: int) -> dict[str, int]:
    return Task.objects.filter(pk__gt=since).aggregate(
        total=Count("id"),
        finished=Count("id", filter=Q(status=TaskStatus.DONE)),
        waiting=Count("id", filter=Q(status=TaskStatus.QUEUED)),
        failed=Count("id", filter=Q(status=TaskStatus.FAILED)),
    )


def _failure(since: int) -> str:
    task = Task.objects.filter(pk__gt=since, status=TaskStatus.FAILED).order_by("pk").first()
    return f"{task}：{task.error_code} {task.error_text}" if task else ""
