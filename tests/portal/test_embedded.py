"""The embedded servers: shared, gone with their last user however it goes, and found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from portal import embedded

ROOT = Path(embedded.__file__).resolve().parent.parent
USER = """
import sys
from pathlib import Path
from portal import embedded
embedded.hold(Path(sys.argv[1]), durable=False)
print("up", flush=True)
sys.stdin.read()
"""


class Users:
    """Processes that use the servers of one var folder."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.started: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        user = subprocess.Popen(
            [sys.executable, "-c", USER, str(self.var)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(user)
        assert user.stdout is not None
        assert user.stdout.readline() == "up\n"
        return user

    def servers(self) -> dict[str, int]:
        """Map what belongs to this var folder to its process number."""
        found = {}
        for process in psutil.process_iter(["pid", "name", "cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or [])
            if str(self.var) not in line or process.info["status"] == psutil.STATUS_ZOMBIE:
                continue
            if "portal.keeper" in line:
                found["keeper"] = process.info["pid"]
            elif "/postgres -D" in line:
                found["postgres"] = process.info["pid"]
            elif "redis-server" in line:
                found["redis"] = process.info["pid"]
        return found

    def finish(self) -> None:
        for user in self.started:
            user.kill()
            user.communicate()


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    found = Users(tmp_path / "var")
    yield found
    found.finish()
    eventually(lambda: not found.servers())


def eventually(check: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answer(var: Path) -> tuple[int, bool]:
    """Ask both servers something."""
    here = embedded.place(var)
    with psycopg.connect(here.database_url) as link, redis.Redis.from_url(here.redis_url()) as client:
        row = link.execute("SELECT 6 * 7").fetchone()
        assert row is not None
        return row[0], bool(client.ping())


def test_two_processes_share_one_server_and_the_last_one_stops_it(users: Users) -> None:
    """The first user's end changes nothing for the second (D1, D2)."""
    first, second = users.start(), users.start()
    before = users.servers()
    assert set(before) == {"keeper", "postgres", "redis"}
    first.communicate()
    assert answer(users.var) == (42, True)
    assert users.servers() == before
    second.communicate()
    assert users.servers() == {}, "a user that ends in order returns after the servers have stopped"


def test_a_killed_user_takes_nothing_away_and_leaves_nothing_behind(users: Users) -> None:
    first, second = users.start(), users.start()
    before = users.servers()
    first.kill()
    first.communicate()
    assert answer(users.var) == (42, True)
    assert users.servers() == before
    second.kill()
    eventually(lambda: users.servers() == {})


def test_a_killed_keeper_leaves_no_server_and_the_next_start_works(users: Users) -> None:
    user = users.start()
    with psycopg.connect(embedded.place(users.var).database_url, autocommit=True) as link:
        link.execute("CREATE TABLE kept (n int)")
    os.kill(users.servers()["keeper"], signal.SIGKILL)
    user.kill()
    eventually(lambda: users.servers() == {})
    users.start()
    with psycopg.connect(embedded.place(users.var).database_url) as link:
        assert link.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_crashed_server_is_started_again_for_those_who_use_it(users: Users) -> None:
    users.start()
    before = users.servers()
    os.kill(before["postgres"], signal.SIGKILL)
    os.kill(before["redis"], signal.SIGKILL)

    def answers() -> bool:
        try:
            return answer(users.var) == (42, True)
        except (psycopg.OperationalError, redis.ConnectionError):
            return False

    eventually(answers)
    assert users.servers()["keeper"] == before["keeper"]
    assert users.servers()["postgres"] != before["postgres"]


def test_a_pid_file_of_another_life_does_not_stop_the_start(users: Users) -> None:
    """After a restart of the machine its number may be anybody's: PostgreSQL alone would refuse to start."""
    users.start().communicate()
    pid_file = embedded.place(users.var).postgres_folder / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n1\n5432\n\n\n  1  1\nready\n")
    users.start()
    assert answer(users.var) == (42, True)


def test_starts_at_the_same_moment_make_one_server(users: Users) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _number: users.start(), range(4)))
    keepers = [p for p in psutil.process_iter(["cmdline"]) if "portal.keeper" in (p.info["cmdline"] or [])]
    assert len([p for p in keepers if str(users.var) in p.info["cmdline"]]) == 1
    assert answer(users.var) == (42, True)


def test_a_path_too_long_for_a_socket_with_spaces_and_chinese_works(tmp_path: Path) -> None:
    users = Users(tmp_path / "门 户" / ("x" * 100) / "var")
    try:
        users.start()
        sockets = embedded.place(users.var).socket_folder
        assert sockets.parent == Path("/tmp")
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert answer(users.var) == (42, True)
    finally:
        users.finish()
        eventually(lambda: not users.servers())
        embedded.place(users.var).socket_folder.rmdir()


def test_a_socket_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    var = tmp_path / ("x" * 100)
    sockets = embedded.place(var).socket_folder
    sockets.mkdir(mode=0o777)
    sockets.chmod(0o777)
    try:
        with pytest.raises(embedded.EmbeddedServerError, match="不是仅本用户可用的目录"):
            embedded.hold(var)
    finally:
        sockets.rmdir()


def test_what_the_servers_write_down_names_no_values(users: Users) -> None:
    """A refused row's values and statement stay out of the server's log (R-45)."""
    users.start()
    with psycopg.connect(embedded.place(users.var).database_url, autocommit=True) as link:
        link.execute("CREATE TABLE person (number text UNIQUE)")
        link.execute("INSERT INTO person VALUES ('440600199001011234')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            link.execute("INSERT INTO person VALUES ('440600199001011234')")
    log = embedded.place(users.var).log.read_text()
    assert "duplicate key value" in log
    assert "440600199001011234" not in log


def test_folders_are_for_their_owner_only(users: Users) -> None:
    users.start()
    here = embedded.place(users.var)
    for folder in (here.var, here.folder, here.socket_folder, here.postgres_folder, here.redis_folder):
        assert folder.stat().st_mode & 0o077 == 0, folder
