"""Keep the migrated test database as SQL between sessions: to load it takes a fraction of the time.

The name of the file is a digest of all migrations and of the pinned packages. When a data migration's result
follows from other code, remove the file; a fresh clone always migrates.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from portal import embedded

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".pytest_cache" / "schema"


def cached() -> Path:
    """Return where the SQL of the present migrations stands or will stand."""
    digest = hashlib.sha256()
    for path in (ROOT / "requirements.txt", ROOT / "portal" / "role_table.py", *_migrations()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return FOLDER / f"{digest.hexdigest()[:32]}.sql"


def _migrations() -> Iterator[Path]:
    from django.apps import apps

    for config in apps.get_app_configs():
        yield from sorted(Path(config.path, "migrations").glob("*.py"))


def load(var: Path, name: str) -> bool:
    """Create the database `name` from the kept SQL; False when there is none."""
    kept = cached()
    if not kept.exists():
        return False
    here = embedded.place(var)
    with psycopg.connect(here.database_url, autocommit=True) as link:
        link.execute(f'CREATE DATABASE "{name}"')
    _client(
        here, "psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--file={kept}", f"--dbname={name}"
    )
    return True


def keep(var: Path, name: str) -> None:
    """Write the freshly migrated database `name` down and forget older ones."""
    kept = cached()
    FOLDER.mkdir(parents=True, exist_ok=True)
    draft = FOLDER / f"{name}.draft"
    _client(embedded.place(var), "pg_dump", "--no-owner", f"--file={draft}", f"--dbname={name}")
    for old in FOLDER.glob("*.sql"):
        old.unlink(missing_ok=True)
    draft.rename(kept)


def _client(here: embedded.Place, program: str, *options: str) -> None:
    path = embedded.postgres_programs() / program
    command = [path, f"--host={here.socket_folder}", "--username=postgres", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
