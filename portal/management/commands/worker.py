"""Run background tasks: an RQ worker that does not fork, so fonts and open packages stay cached."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import django_rq
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import close_old_connections
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from portal.queue import sweep


class TaskWorker(SimpleWorker):
    """A worker that never reuses a broken database connection."""

    def perform_job(self, *args: Any, **options: Any) -> bool:
        """Drop dead connections, then run the job."""
        close_old_connections()
        return bool(super().perform_job(*args, **options))


class Command(BaseCommand):
    """Run until told to stop; Ctrl-C lets the current task finish."""

    help = "Run background tasks from the queues (default: all)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("queues", nargs="*", metavar="QUEUE", help="queue names, in order of priority")
        parser.add_argument("--burst", action="store_true", help="stop when the queues are empty")

    def handle(self, *args: Any, **options: Any) -> None:
        """Wake what a killed worker left, then work."""
        names = options["queues"] or list(settings.QUEUES)
        queues = [django_rq.get_queue(name) for name in names]
        worker = TaskWorker(queues, connection=queues[0].connection, serializer=JSONSerializer)
        sweep()
        worker.work(burst=options["burst"], logging_level="WARNING")
