"""Parent of the embedded PostgreSQL and Redis: starts them, revives them, stops them after their last user.

Run by `portal.embedded` as `python -m portal.keeper VAR durable|fast`; answers one line on standard output:
`ready`, or why not. Knows nothing of Django. See `portal.embedded` for the locks.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from portal.embedded import (
    DATABASE_NAME,
    POSTGRES_SOCKET,
    START_SECONDS,
    STOP_SECONDS,
    EmbeddedServerError,
    Place,
    place,
    postgres_programs,
    redis_program,
)
from portal.lifeline import end_with_parent

LOG_LIMIT = 10 * 2**20
UNPRIVILEGED_ACCOUNT = "nobody"

# Log lines name no values: a failed row's DETAIL and its statement would carry personal data.
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "120",  # tests meet at locks by the dozen, in several processes
    "shared_buffers": "128MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",
    "max_wal_size": "2GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
FAST_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
REDIS_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "dbfilename": "redis.rdb",
    "databases": "64",
    "save": "60 1",
    "stop-writes-on-bgsave-error": "no",  # the database row is the truth, Redis only the wake-up (D7)
    "loglevel": "warning",
    "daemonize": "no",
}


@dataclass
class Server:
    """One supervised server process."""

    name: str
    command: Sequence[str]
    stop_signal: signal.Signals
    ready: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        self.process = subprocess.Popen(
            _as_ordinary_user(self.command, self.stop_signal),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            stderr=sys.stderr,
            preexec_fn=end_with_parent(self.stop_signal),  # noqa: PLW1509 - this process has one thread
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.process is None or self.process.poll() is not None:
                raise EmbeddedServerError(f"{self.name} 启动后即退出")
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"{self.name} 在 {START_SECONDS} 秒内未就绪")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS * 0.7)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _account() -> pwd.struct_passwd | None:
    """Return whom root runs the servers as (PostgreSQL refuses root), None for an ordinary user."""
    return pwd.getpwnam(UNPRIVILEGED_ACCOUNT) if os.geteuid() == 0 else None


def _as_ordinary_user(command: Sequence[str], parent_signal: signal.Signals) -> list[str]:
    """Give root away, keeping the one capability to reach folders that only root may enter.

    The alternative is to open /root, the checkout and var/ to everybody.
    """
    account = _account()
    if account is None:
        return list(command)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedServerError(
            "以 root 运行内置数据库需要 util-linux 的 setpriv；也可改用普通用户或设置 DATABASE_URL"
        )
    only = "-all,+dac_override"
    return [
        setpriv,
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        f"--inh-caps={only}",
        f"--ambient-caps={only}",
        f"--bounding-set={only}",
        "--securebits=+no_setuid_fixup",  # access(2) keeps the capability, which PostgreSQL asks about itself
        f"--pdeathsig={parent_signal.name.removeprefix('SIG')}",
        "--",
        *command,
    ]


def _own(folder: Path) -> None:
    folder.mkdir(exist_ok=True, mode=0o700)
    account = _account()
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    elif folder.stat().st_uid != os.geteuid():
        raise EmbeddedServerError(f"{folder} 属于其他用户，请以该用户运行或删除该目录")


def _run(command: Sequence[str], *, text: str = "") -> None:
    done = subprocess.run(
        _as_ordinary_user(command, signal.SIGTERM),
        input=text.encode(),
        stdout=sys.stderr,
        stderr=sys.stderr,
        check=False,
    )
    if done.returncode:
        raise EmbeddedServerError(f"{Path(command[0]).name} 失败（退出码 {done.returncode}）")


def _create_cluster(here: Place) -> None:
    """Create the cluster beside its final place: an interrupted one is thrown away, never used.

    The builtin C.UTF-8 locale sorts alike on every machine.
    """
    if (here.postgres_folder / "PG_VERSION").exists():
        return
    fresh = here.folder / "postgres.new"
    shutil.rmtree(fresh, ignore_errors=True)
    _own(fresh)
    initdb, postgres = (str(postgres_programs() / name) for name in ("initdb", "postgres"))
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    _run([initdb, "-D", str(fresh), "-U", "postgres", "--auth=trust", "--no-instructions", *locale])
    _run([postgres, "--single", "-D", str(fresh), "postgres"], text=f"CREATE DATABASE {DATABASE_NAME}\n")
    fresh.rename(here.postgres_folder)


def _end_leftover(here: Place) -> None:
    """End a postmaster whose keeper was killed, and drop the pid file of one that no longer runs.

    PostgreSQL itself trusts the number in that file, which after a restart may be anybody's.
    """
    pid_file = here.postgres_folder / "postmaster.pid"
    with suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(pid_file.read_text().splitlines()[0])
        deadline = time.monotonic() + STOP_SECONDS
        while _is_postmaster(pid, here) and time.monotonic() < deadline:
            os.kill(pid, signal.SIGINT)
            time.sleep(0.1)
        if _is_postmaster(pid, here):
            os.kill(pid, signal.SIGQUIT)
            time.sleep(1)
    pid_file.unlink(missing_ok=True)


def _is_postmaster(pid: int, here: Place) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(here.postgres_folder) in arguments


def _postgres(here: Place, *, durable: bool) -> Server:
    _create_cluster(here)
    _own(here.postgres_folder)
    _end_leftover(here)
    settings = POSTGRES_SETTINGS | ({} if durable else FAST_SETTINGS)
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    program, data, sockets = postgres_programs() / "postgres", here.postgres_folder, here.socket_folder
    command = [str(program), "-D", str(data), "-k", str(sockets)]

    def ready() -> bool:
        with suppress(FileNotFoundError):
            lines = (data / "postmaster.pid").read_text().splitlines()
            return len(lines) == 8 and lines[7].strip() == "ready" and (sockets / POSTGRES_SOCKET).exists()
        return False

    return Server("PostgreSQL", [*command, *options], signal.SIGINT, ready)


def _redis(here: Place) -> Server:
    _own(here.redis_folder)
    settings = REDIS_SETTINGS | {"dir": str(here.redis_folder), "unixsocket": str(here.redis_socket)}
    options = [part for name, value in settings.items() for part in (f"--{name}", *_redis_value(name, value))]

    def ready() -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1)
            link.connect(str(here.redis_socket))
            link.sendall(b"PING\r\n")
            return link.recv(16).startswith(b"+PONG")
        return False

    return Server("Redis", [str(redis_program()), *options], signal.SIGTERM, ready)


def _redis_value(name: str, value: str) -> list[str]:
    return value.split() if name == "save" else [value]


def _revive(servers: Sequence[Server]) -> None:
    for server in servers:
        if server.process is not None and server.process.poll() is not None:
            sys.stderr.write(f"{server.name} 意外退出（退出码 {server.process.returncode}），重新启动\n")
            time.sleep(1)
            server.start()


def _keep(here: Place, *, durable: bool) -> None:
    """Start the servers, answer, wait for the last user to go and stop them."""
    servers: list[Server] = []

    def revive(_number: int, _frame: FrameType | None) -> None:
        _revive(servers)

    try:
        for server in (_postgres(here, durable=durable), _redis(here)):
            servers.append(server)
            server.start()
        for server in servers:
            server.wait_until_ready()
        signal.signal(signal.SIGCHLD, revive)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        users = os.open(here.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(users, fcntl.LOCK_EX)  # held to the end: whoever starts now waits until all is stopped
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for server in reversed(servers):
            server.stop()


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main(arguments: Sequence[str]) -> int:
    here = place(Path(arguments[0]))
    lock = os.open(here.folder / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if here.log.stat().st_size > LOG_LIMIT:
        os.truncate(here.log, 0)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        _keep(here, durable=arguments[1] == "durable")
    except (EmbeddedServerError, OSError, KeyError) as problem:
        sys.stdout.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
