"""A real pcscd of this test process's own, with vpcd's two slots and virtual cards behind them.

pcscd takes its listening socket from its parent, as systemd would hand it over. So it needs neither root nor
/run/pcscd, leaves a pcscd that runs already alone, and every process of pytest-xdist has its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from stations.transport.base import TransportError
from stations.transport.pcsc import PcscTransport
from stations.virtual.vpcd import PORT

ROOT = Path(__file__).parents[2]
DRIVER = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"
CARD_READER, PSAM_READER = "Virtual PCD 00 00", "Virtual PCD 00 01"
HAND_OVER = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
    "os.execv('/usr/sbin/pcscd', ['pcscd', '--foreground', '--config', sys.argv[2]])"
)
PATIENCE = 15.0


def eventually(check: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something is so; a reader that is not there yet is no error."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
        except TransportError:
            pass
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


class Pcscd:
    """The daemon; it can be stopped and started while programs use it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder
        self._path = folder / "pcscd.comm"
        self._process: subprocess.Popen[bytes] | None = None
        readers = folder / "readers"
        readers.mkdir()
        (readers / "vpcd").write_text(
            f'FRIENDLYNAME "Virtual PCD"\nDEVICENAME /dev/null:0x{port:X}\nLIBPATH {DRIVER}\n'
            f"CHANNELID 0x{port:X}\n"
        )
        os.environ["PCSCLITE_CSOCK_NAME"] = str(self._path)  # read once a process by libpcsclite

    def start(self) -> None:
        """Start it and wait until it names its readers."""
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener, (self._folder / "log").open("ab") as log:
            listener.bind(str(self._path))
            listener.listen(16)
            self._process = subprocess.Popen(
                [sys.executable, "-c", HAND_OVER, str(listener.fileno()), str(self._folder / "readers")],
                pass_fds=[listener.fileno()], stdout=log, stderr=log,
            )  # fmt: skip
            watcher = PcscTransport(connect_seconds=2)
            eventually(lambda: set(watcher.readers()) == {CARD_READER, PSAM_READER})
            watcher.close()

    def stop(self) -> None:
        """Kill it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._path.unlink(missing_ok=True)


class Desk:
    """Virtual cards in a process of their own, obeying lines."""

    def __init__(self, port: int, *options: str, program: Sequence[str] = ("-m", "stations.virtual")) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *program, "--port", str(port), *options],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        count = 2 if "--psam" in options else 1
        self.atrs = [self._line().split()[2] for _ in range(count)]

    def order(self, line: str) -> str:
        """Give an order and return the reply."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._line()

    def kill(self) -> None:
        """End it at once, as unplugging would."""
        self._process.kill()
        self._process.communicate()

    def end(self) -> int:
        """Let it end in order."""
        if self._process.poll() is None:
            self.order("quit")
        self._process.communicate(timeout=10)
        return self._process.returncode

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def free_ports() -> int:
    """Return the first of two neighbouring free ports; vpcd's own are left to a pcscd of the machine."""
    for first in range(PORT + 100 + os.getpid() % 2000, 65000, 2):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", first))
                other.bind(("127.0.0.1", first + 1))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


def settle(desk: Desk, there: Callable[[], bool]) -> None:
    """Wait for the cards; as a person would, take them out and put them in again where pcscd missed them.

    pcscd looks every 0.4 s: a card that comes sooner after one that went in the middle is not seen.
    """
    for _ in range(3):
        try:
            eventually(there, 3)
        except AssertionError:
            for order in ("pull", "insert"):
                for slot in range(len(desk.atrs)):
                    desk.order(f"{order} {slot}")
                time.sleep(0.6)
        else:
            return
    eventually(there)


@pytest.fixture(scope="session")
def pcscd() -> Iterator[Pcscd]:
    """Return this process's own running daemon."""
    folder = Path(tempfile.mkdtemp(prefix="portal-pcscd-"))
    daemon = Pcscd(folder, free_ports())
    daemon.start()
    yield daemon
    daemon.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def plug(pcscd: Pcscd) -> Iterator[Callable[..., Desk]]:
    """Return a function that plugs a virtual card in and waits until its reader has it."""
    desks: list[Desk] = []
    watcher = PcscTransport(CARD_READER)
    eventually(lambda: not any(watcher.readers().values()))

    def start(*options: str, **program: Sequence[str]) -> Desk:
        desk = Desk(pcscd.port, *options, **program)
        desks.append(desk)
        filled = {CARD_READER, PSAM_READER} if "--psam" in options else {CARD_READER}
        settle(desk, lambda: {name for name, there in watcher.readers().items() if there} == filled)
        return desk

    yield start
    for desk in desks:
        desk.kill()
    watcher.close()
