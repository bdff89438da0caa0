"""Take sealed packages in from files or the watched folder, and say of each what came of it."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from orders.choices import AccountFileStatus, PackageStatus
from orders.models import AccountFile, AccountPackage, Package
from orders.services.folder import Taken, take_in, take_in_folder
from orders.services.intake import advance_package
from portal.choices import TaskStatus
from portal.models import Task, User
from portal.queue import run_task

EXIT_REFUSED, EXIT_NOT_READ = 1, 2
WATCH_SECONDS = 5.0
_PENDING = (PackageStatus.RECEIVED, PackageStatus.VALIDATING)


class Command(BaseCommand):
    """Exit codes: 0 every package was taken in, 1 at least one was refused, 2 a file could not be read."""

    help = "Take in sealed packages: PATH…, --watched once, or --watch for ever."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="sealed packages")
        parser.add_argument("--watched", action="store_true", help="take in the watched folder once")
        parser.add_argument("--watch", action="store_true", help="keep taking in the watched folder")
        parser.add_argument("--queue", action="store_true", help="leave opening and checking to the workers")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run in the chosen way."""
        self.actor = User.objects.system()
        if options["watch"]:
            self._watch()
        elif options["watched"]:
            self._report(list(take_in_folder(actor=self.actor)), here=False)
        elif options["paths"]:
            missing = [str(path) for path in options["paths"] if not path.is_file()]
            if missing:
                raise CommandError(f"无法读取：{'、'.join(missing)}", returncode=EXIT_NOT_READ)
            taken = [take_in(path, actor=self.actor) for path in options["paths"]]
            if self._report(taken, here=not options["queue"]):
                raise CommandError("有数据包被拒收", returncode=EXIT_REFUSED)
        else:
            raise CommandError("请给出文件，或使用 --watched、--watch", returncode=EXIT_NOT_READ)

    def _watch(self) -> None:
        try:
            while True:
                self._report(list(take_in_folder(actor=self.actor)), here=False)
                time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:
            return

    def _report(self, taken: list[Taken], *, here: bool) -> int:
        """Print a line for each file; return how many were refused."""
        return sum(self._refused(result, here) for result in taken)

    def _refused(self, result: Taken, here: bool) -> bool:
        if result.error is not None:
            self.stderr.write(f"{result.name}：拒收（{result.error.code}）{result.error}")
            return True
        package = result.package
        if package is None:
            raise TypeError("neither a package nor an error")
        if isinstance(package, AccountPackage):
            self.stdout.write(f"{result.name}：{account_summary(package, here=here)}")
            return False
        package = check_here(package) if here else package
        if package.status == PackageStatus.REFUSED:
            self.stderr.write(f"{result.name}：拒收（{package.refusal_code}）{package.refusal_text}")
            return True
        self.stdout.write(f"{result.name}：{summary(package)}")
        return False


def check_here(package: Package) -> Package:
    """Open and check the package in this process, sharing its tasks with any worker that runs."""
    _run_tasks_of([package])
    package.refresh_from_db()
    return advance_package(package) if package.status in _PENDING else package


def _run_tasks_of(rows: Sequence[Package | AccountFile]) -> None:
    tasks = Task.objects.filter(
        subject_type=rows[0]._meta.label_lower,
        subject_id__in=[row.pk for row in rows],
        status=TaskStatus.QUEUED,
    )
    waiting = list(tasks.order_by("pk"))
    while waiting:
        done = sum(run_task(task.pk) for task in waiting)
        if not done:
            time.sleep(0.2)  # a worker holds what is left
        waiting = list(tasks.order_by("pk"))


def account_summary(package: AccountPackage, *, here: bool) -> str:
    """Tell what came of a bank's package, in words, after its dry runs when they run here."""
    found = package.files.order_by("pk")
    if here:
        _run_tasks_of(list(found))
    each = (f"{file.file_name} {file.get_status_display()}{_counts(file)}" for file in found.all())
    return f"{package.number} {'；'.join(each)}"


def _counts(file: AccountFile) -> str:
    if file.status == AccountFileStatus.REFUSED:
        return f"（{file.refusal_code}）{file.refusal_text}"
    if file.row_count is None:
        return ""
    return f"：{file.row_count} 行，有效 {file.good_count}，问题 {file.refused_count}"


def summary(package: Package) -> str:
    """Tell what came of a package, in words."""
    state = package.get_status_display()
    if package.status != PackageStatus.VALIDATED:
        return f"{package.number} {state}"
    counts = f"{package.record_count} 条记录，接受 {package.accepted_count}，退回 {package.returned_count}"
    return f"{package.number} {state}：{counts}"
