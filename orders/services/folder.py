"""The watched folder: sealed packages are taken in, refused ones put aside, the reason noted (R-8)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from orders.models import AccountPackage, Package
from orders.services.sealed_accounts import receive_sealed
from portal.core.errors import PortalError
from portal.models import User

REFUSED_FOLDER = "refused"
SETTLED_AFTER = 3.0
"""Seconds without a change after which a file counts as completely written."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one file."""

    name: str
    package: Package | AccountPackage | None
    error: PortalError | None


def take_in(path: Path, *, actor: User) -> Taken:
    """Receive the package in one file, which stays where it is."""
    with path.open("rb") as file:
        try:
            return Taken(path.name, receive_sealed(file, file_name=path.name, actor=actor), None)
        except PortalError as exc:
            return Taken(path.name, None, exc)


def take_in_folder(*, actor: User, settled_after: float = SETTLED_AFTER) -> Iterator[Taken]:
    """Receive every complete file of the watched folder, oldest first, and clear it away.

    A received file is removed: it still holds the key that is to be destroyed. A refused one moves aside.
    """
    folder = Path(settings.INTAKE_DIR)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in _settled(folder, settled_after):
        taken = take_in(path, actor=actor)
        if taken.error is None:
            path.unlink()
        else:
            _put_aside(path)
        yield taken


def _settled(folder: Path, seconds: float) -> list[Path]:
    """List plain files nobody writes to any more; hidden and `.part` files are drafts."""
    found = []
    for path in folder.iterdir():
        if path.name.startswith(".") or path.suffix == ".part" or path.is_symlink() or not path.is_file():
            continue
        changed = path.stat().st_mtime
        if changed <= time.time() - seconds:
            found.append((changed, path.name, path))
    return [path for _, _, path in sorted(found)]


def _put_aside(path: Path) -> None:
    folder = path.parent / REFUSED_FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    path.rename(folder / f"{int(time.time())}-{path.name}")
