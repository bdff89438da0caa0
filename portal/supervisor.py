"""Run the web server, the workers, the scheduler and a virtual station as one program (script/server).

Each child leads its own process group, is started again when it stops by itself (after 1, 2, 4 … 30 s), and
gets SIGTERM from the kernel should this process be killed. honcho is not used: its manager ends everything
when one process stops, cannot start one again, and leaves a deaf helper per child when it is killed itself.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portal import embedded
from portal.lifeline import end_with_parent

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 8.0
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0  # a child that lived this long is forgiven its earlier failures
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92)
# The path without its query: what was searched for may be a person.
ACCESS_LOG_FORMAT = "%(m)s %(U)s %(s)s %(M)s ms"


@dataclass(frozen=True)
class Service:
    """One long-running child and the command that starts it."""

    name: str
    command: tuple[str, ...]


class Supervisor:
    """Keep every service running until asked to stop, then end all of them within `stop_seconds`."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        environment: Mapping[str, str],
        write: Callable[[str, str], None],
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self.services = services
        self.environment = environment
        self.write = write
        self.stop_seconds = stop_seconds
        self._stopping = asyncio.Event()
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        keepers = [asyncio.create_task(self._keep(service)) for service in self.services]
        await self._stopping.wait()
        self.write("server", "正在停止")
        self._signal_all(signal.SIGTERM)
        _done, late = await asyncio.wait(keepers, timeout=self.stop_seconds)
        if late:
            self.write("server", f"强制结束：{'、'.join(sorted(self._running))}")
            self._signal_all(signal.SIGKILL)
            await asyncio.wait(late)

    def stop(self) -> None:
        """Ask once to end in order, twice to end now."""
        if self._stopping.is_set():
            self._signal_all(signal.SIGKILL)
        self._stopping.set()

    def _signal_all(self, number: signal.Signals) -> None:
        """Signal the leaders, which end their own children; SIGKILL goes to whole groups."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)

    async def _keep(self, service: Service) -> None:
        pause = SHORTEST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(service)
            if self._stopping.is_set():
                return
            if time.monotonic() - started >= STEADY_SECONDS:
                pause = SHORTEST_PAUSE
            self.write("server", f"{service.name} 意外退出（{code}），{pause:g} 秒后重新启动")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _run_once(self, service: Service) -> int:
        # A pipe of our own: with its own, asyncio waits for a dead child until grandchildren close theirs.
        read_end, write_end = os.pipe()
        try:
            process = await self._spawn(service, write_end)
        finally:
            os.close(write_end)
        self._running[service.name] = process
        relay = asyncio.create_task(self._relay(service.name, read_end))
        code = await process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what a crashed leader left behind keeps ports and pipes
        await relay
        del self._running[service.name]
        return code

    async def _spawn(self, service: Service, output: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *service.command,
            cwd=ROOT,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches this process only, which ends the others in order
            preexec_fn=end_with_parent(signal.SIGTERM),
        )

    async def _relay(self, name: str, read_end: int) -> None:
        output = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(read_end, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), pipe)
        try:
            async for line in _lines(output):
                self.write(name, line)
        finally:
            transport.close()


async def _lines(output: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield decoded lines of any length, and the rest without an end of line."""
    rest = b""
    while chunk := await output.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")


def services(*, host: str, port: int, workers: int, station: bool) -> list[Service]:
    """List what a portal consists of, web server first."""
    manage = (sys.executable, "manage.py")
    web = [sys.executable, "-m", "gunicorn", "portal.wsgi:application", "--bind", f"{host}:{port}"]
    web += ["--worker-class", "gthread", "--workers", "2", "--threads", "4", "--timeout", "120"]
    web += ["--graceful-timeout", "5", "--max-requests", "5000", "--max-requests-jitter", "500"]
    web += ["--no-control-socket"]  # it would stand in the home folder, one for all portals of a user
    web += ["--access-logfile", "-", "--access-logformat", ACCESS_LOG_FORMAT]
    web += ["--logger-class", "portal.server_log.QuietLog"]
    found = [Service("web", tuple(web))]
    found += [Service(f"worker.{n}", (*manage, "worker")) for n in range(1, workers + 1)]
    found += [Service("scheduler", (*manage, "scheduler"))]
    if station:
        agent = ("station_agent", "--virtual", "--portal", f"http://{_near(host)}:{port}")
        found += [Service("station", (*manage, *agent))]
    return found


def _near(host: str) -> str:
    """Return the address of a listening host for the same machine, as it stands in a URL."""
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def printer(names: Sequence[str]) -> Callable[[str, str], None]:
    """Return a writer of whole lines, each with its service's name; coloured on a terminal only."""
    width = max(len(name) for name in names)
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    colour = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}

    def write(name: str, line: str) -> None:
        prefix = f"{name:<{width}} |"
        if coloured:
            prefix = f"\033[{colour.get(name, 37)}m{prefix}\033[0m"
        sys.stdout.write(f"{prefix} {line}\n")
        sys.stdout.flush()

    return write


async def announce(host: str, port: int, write: Callable[[str, str], None]) -> None:
    """Say where the portal is as soon as it answers."""
    while True:
        with suppress(OSError):
            _reader, writer = await asyncio.open_connection(_near(host).strip("[]"), port)
            writer.close()
            break
        await asyncio.sleep(0.2)
    write("server", f"门户已就绪：http://{_near(host)}:{port}/ （按 Ctrl-C 停止）")


def port_is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError:
        return False
    return True


def prepare(environment: Mapping[str, str], *, production: bool, credential: Path | None = None) -> int:
    """Bring the database's tables up to date; gather static files where they are not served in place.

    With `credential`, the demonstration's station gets its credential into that file, if it is registered.
    """
    steps = [["migrate", "--noinput", "--verbosity", "0"]]
    if credential:
        enrol = ["enrol_station", "demo-1", "--keep", "--if-registered", "--credential-file", str(credential)]
        steps.append(enrol)
    if production:
        steps.append(["collectstatic", "--noinput", "--verbosity", "0"])
    for step in steps:
        code = subprocess.run(
            [sys.executable, "manage.py", *step], cwd=ROOT, env=dict(environment), check=False
        ).returncode
        if code:
            return code
    return 0


async def serve(listed: Sequence[Service], environment: Mapping[str, str], host: str, port: int) -> None:
    write = printer(["server", *(service.name for service in listed)])
    supervisor = Supervisor(listed, environment=environment, write=write)
    announcement = asyncio.create_task(announce(host, port, write))
    await supervisor.run()
    announcement.cancel()


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2, help="number of RQ workers")
    parser.add_argument("--no-station", dest="station", action="store_false", help="without virtual station")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    options = arguments(given)
    if not port_is_free(options.host, options.port):
        sys.stderr.write(f"端口 {options.host}:{options.port} 已被占用，请用 --port 另选\n")
        return 2
    from portal import settings  # noqa: PLC0415 - starts the embedded servers, which wrong options must not

    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": settings.DATABASE_URL,  # this process alone keeps the embedded servers
        "REDIS_URL": settings.REDIS_URL,
    }
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where it is missing
    credential = settings.VAR_DIR / "stations" / "demo-1.credential" if options.station else None
    code = prepare(environment, production=settings.PRODUCTION, credential=credential)
    if code == 0:
        station = credential is not None and credential.exists()
        listed = services(host=options.host, port=options.port, workers=options.workers, station=station)
        with suppress(KeyboardInterrupt):
            asyncio.run(serve(listed, environment, options.host, options.port))
    embedded.release(settings.VAR_DIR)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
