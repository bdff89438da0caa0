"""Files of wrapped keys: private to the owner, written whole or not at all, overwritten before removal."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portal.core.key_refusals import KeyPermissionError

MAX_FILE_SIZE = 16 * 1024
LOCK_FILE = "store.lock"
_FORBIDDEN_MODE = 0o077
_DRAFT = re.compile(r"\A\..+\.[0-9a-f]{16}\Z")


def private_directory(path: Path) -> Path:
    """Create `path` with mode 0700, or refuse one that others may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_private(path, path.stat(), "0700")
    return path


def read_private(path: Path) -> bytes:
    """Return a small file's bytes; refuse links, foreign owners and any mode beyond 0600."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise KeyPermissionError("密钥文件不能是链接", where=path.name) from exc
        raise
    with os.fdopen(descriptor, "rb") as file:
        _require_private(path, os.fstat(descriptor), "0600")
        return file.read(MAX_FILE_SIZE)


def publish(path: Path, content: bytes) -> None:
    """Make `path` appear whole and durable, mode 0600; raise FileExistsError when somebody was first."""
    draft = _draft(path, content)
    try:
        # A link, unlike a rename, never replaces a rival's key.
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Exchange a private file's content in one step, keep its time, and overwrite what it held before.

    Killed anywhere, `path` holds the old or the new content whole; a draft may stay for `clear_drafts`.
    """
    old = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(old, "r+b", buffering=0) as before:
        draft = _draft(path, content)
        found = os.fstat(old)
        os.utime(draft, ns=(found.st_atime_ns, found.st_mtime_ns))
        draft.replace(path)
        sync_directory(path.parent)
        # Only now: whoever opened the old file a moment ago reads again when it makes no sense.
        before.write(os.urandom(found.st_size))
        os.fsync(old)


def clear_drafts(directory: Path) -> int:
    """Shred what killed processes left half written; the caller holds the directory's lock alone."""
    drafts = [path for path in directory.iterdir() if _DRAFT.search(path.name)]
    for draft in drafts:
        # A draft that is already linked under its name shares the key's own blocks: only the name goes.
        if draft.stat().st_nlink > 1:
            draft.unlink()
        else:
            shred(draft)
    return len(drafts)


@contextmanager
def locked_directory(directory: Path, *, alone: bool) -> Iterator[None]:
    """Hold a directory together with other users, or alone, until the block ends or the process dies."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        # Said aloud: a child forked meanwhile has the descriptor too and would go on holding it.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def shred(path: Path) -> None:
    """Overwrite a file in place, make that durable, then remove it; do nothing when it is gone already.

    A copy-on-write or flash file system may keep the old blocks: what they hold is wrapped by the KEK.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(os.urandom(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make creations and removals in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft(path: Path, content: bytes) -> Path:
    """Write content durably beside `path`, under a name that nobody reads."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _require_private(path: Path, found: os.stat_result, expected: str) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if mode & _FORBIDDEN_MODE:
        raise KeyPermissionError(
            "密钥存放处对他人开放", where=path.name, expected=expected, got=f"{mode:04o}"
        )
    if found.st_uid != os.geteuid():
        raise KeyPermissionError("密钥存放处属于其他用户", where=path.name)
