"""A database, files and keys of their own for the benchmarks that need them; they end with the process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import psycopg

from portal import embedded

FROM_THE_USER = ("SECRET_KEY", "PORTAL_KEK", "STORAGE_URL", "FILES_DIR", "KEYSTORE_DIR", "INTAKE_DIR")


def open_world(name: str) -> None:
    """Give a benchmark a database of its own: the tables, and nothing in them."""
    _start()
    from django.db import connection

    connection.close()
    with psycopg.connect(os.environ["DATABASE_URL"], dbname="postgres", autocommit=True) as link:
        link.execute(f'CREATE DATABASE "{name}" TEMPLATE "{embedded.DATABASE_NAME}"')
    connection.settings_dict["NAME"] = name


@cache
def _start() -> None:
    """Start the servers, load Django on them and create the tables."""
    var = Path(tempfile.mkdtemp(prefix="portal-bench-"))
    for name in FROM_THE_USER:
        os.environ.pop(name, None)
    os.environ["PORTAL_ENV"] = "development"
    os.environ["PORTAL_VAR"] = str(var)
    os.environ["DATABASE_URL"] = embedded.place(var).database_url
    os.environ["REDIS_URL"] = embedded.place(var).redis_url()
    os.environ["DJANGO_SETTINGS_MODULE"] = "portal.settings"
    # Durable, as in production: the commit's fsync belongs to the price of every variant.
    embedded.hold(var)
    atexit.register(_close, var)

    import django
    from django.core.management import call_command

    django.setup()

    from portal import queue

    call_command("migrate", verbosity=0)
    queue.wake = lambda tasks: None  # the benchmarks run the tasks themselves


def _close(var: Path) -> None:
    from django.db import connections

    connections.close_all()
    embedded.release(var)
    shutil.rmtree(var, ignore_errors=True)


def empty(tables: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Empty tables, with all that refers to them, and folders of the stored files."""
    from django.conf import settings
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
    for folder in folders:
        shutil.rmtree(Path(settings.FILES_DIR, folder), ignore_errors=True)
