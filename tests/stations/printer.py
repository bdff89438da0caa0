"""A real IPP Everywhere card printer of the test's own: ippeveprinter with card-sized media.

Its only need beside itself is a system bus (it opens DNS-SD even when told to be silent); a private one
with an address of its own serves, without avahi and without root: every process of pytest-xdist has its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stations.printing.ipp import IppPrinter

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>
"""
DUPLEX = "one-sided,two-sided-long-edge,two-sided-short-edge"
# What a card printer says of itself; ippeveprinter adds the rest.
CARD_PRINTER = """
ATTR keyword media-supported iso_id-1_53.98x85.6mm
ATTR keyword media-default iso_id-1_53.98x85.6mm
ATTR keyword media-ready iso_id-1_53.98x85.6mm
ATTR collection media-size-supported {MEMBER integer x-dimension 5398 MEMBER integer y-dimension 8560}
ATTR collection media-col-default {
    MEMBER collection media-size {MEMBER integer x-dimension 5398 MEMBER integer y-dimension 8560}
    MEMBER keyword media-source "main" MEMBER keyword media-type "auto" }
ATTR collection media-col-ready {
    MEMBER collection media-size {MEMBER integer x-dimension 5398 MEMBER integer y-dimension 8560}
    MEMBER keyword media-source "main" MEMBER keyword media-type "auto" }
ATTR integer media-bottom-margin-supported 0
ATTR integer media-left-margin-supported 0
ATTR integer media-right-margin-supported 0
ATTR integer media-top-margin-supported 0
ATTR keyword print-scaling-supported auto,fill,fit,none
ATTR keyword sides-supported {sides}
ATTR keyword pwg-raster-document-sheet-back normal
ATTR keyword pwg-raster-document-type-supported srgb_8,sgray_8
ATTR resolution pwg-raster-document-resolution-supported 300dpi,600dpi
ATTR mimeMediaType document-format-supported application/octet-stream,{formats}
ATTR mimeMediaType document-format-default application/octet-stream
ATTR octetString printer-supply "index=1;type=ribbonWax;unit=percent;maxcapacity=100;level=73;"
ATTR text printer-supply-description "YMCKO"
"""
# The print engine: says what `states` says, waits while there is a file `hold`, then ends by `code`.
ENGINE = """#!/bin/sh
[ -e {folder}/states ] && cat {folder}/states >&2
printf '%s\\n' "$IPP_JOB_NAME" > {folder}/title
env | grep ^IPP_ > {folder}/environment
while [ -e {folder}/hold ]; do sleep 0.1; done
[ -e {folder}/after ] && cat {folder}/after >&2
exit $(cat {folder}/code)
"""


class CardPrinter:
    """The printer as a process; it can be killed and started again at the same address."""

    def __init__(
        self, folder: Path, formats: str, attributes: str, *, sides: str = DUPLEX, keys: Path | None = None
    ) -> None:
        """`keys`: a folder with localhost.crt and localhost.key, for a printer that speaks TLS."""
        self.folder = folder
        self.spool = folder / "spool"
        self.spool.mkdir()
        self.port = _free_port()
        self.uri = f"ipp://127.0.0.1:{self.port}/ipp/print"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._options = ["-K", str(keys)] if keys else []
        attributes = attributes.replace("{formats}", formats).replace("{sides}", sides)
        (folder / "attributes").write_text(attributes)
        (folder / "bus.conf").write_text(BUS.format(socket=folder / "bus"))
        (folder / "engine").write_text(ENGINE.format(folder=folder))
        (folder / "engine").chmod(stat.S_IRWXU)
        self.ends_with(0)

    def start(self) -> None:
        """Start the bus and the printer and wait until it answers."""
        self._run(
            "bus", "dbus-daemon", f"--config-file={self.folder / 'bus.conf'}", "--nofork", "--nopidfile"
        )
        _until((self.folder / "bus").exists)
        self._run(
            "printer", "ippeveprinter", "-r", "off", "-n", "localhost", "-p", str(self.port),
            "-d", str(self.spool), "-k", *self._options,
            "-a", str(self.folder / "attributes"), "-c", str(self.folder / "engine"), "card-printer",
        )  # fmt: skip
        _until(lambda: IppPrinter(self.uri).status().state == "idle")

    def kill(self) -> None:
        """End it as pulling the plug would."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._processes.clear()
        (self.folder / "bus").unlink(missing_ok=True)

    def pause(self, *, paused: bool) -> None:
        """Have the printer hang, or go on."""
        self._processes["printer"].send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def ends_with(self, code: int) -> None:
        """Set how the next job ends: 0 is completed."""
        (self.folder / "code").write_text(str(code))

    def says(self, *states: str, after: str = "") -> None:
        """Set what the printer reports during the next job, and at its end."""
        (self.folder / "states").write_text("".join(f"STATE: {state}\n" for state in states))
        (self.folder / "after").write_text(f"STATE: {after}\n" if after else "")

    def hold(self, *, held: bool) -> None:
        """Have jobs wait in the middle, or go on."""
        if held:
            (self.folder / "hold").touch()
        else:
            (self.folder / "hold").unlink(missing_ok=True)

    def printed(self) -> list[Path]:
        """Return what was printed."""
        return sorted(path for path in self.spool.iterdir() if path.is_file())

    def asked(self) -> dict[str, str]:
        """Return how the last job was to be printed, by ippeveprinter's names of attributes."""
        lines = (self.folder / "environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _run(self, name: str, *command: str) -> None:
        environment = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.folder / 'bus'}"}
        with (self.folder / "log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)


@pytest.fixture
def card_printer() -> Iterator[Callable[..., CardPrinter]]:
    """Return a function that starts a printer."""
    started: list[CardPrinter] = []

    def start(
        formats: str = "image/pwg-raster,image/jpeg,image/png", attributes: str = CARD_PRINTER, **rest: Any
    ) -> CardPrinter:
        folder = Path(tempfile.mkdtemp(prefix="portal-ipp-"))
        printer = CardPrinter(folder, formats, attributes, **rest)
        started.append(printer)
        printer.start()
        return printer

    yield start
    for printer in started:
        printer.hold(held=False)
        printer.kill()
        shutil.rmtree(printer.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(check: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
