"""Start the agent: `python -m stations.agent --code CODE --portal URL --credential-file FILE [--virtual]`."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from portal.core.errors import PortalError
from stations.agent.bench import Bench, NoReader
from stations.agent.client import AnswerRefusedError, PortalClient
from stations.agent.journal import Journal
from stations.agent.options import (
    VIRTUAL_PRINTER,
    Enrolment,
    IncompleteError,
    Options,
    read_enrolment,
    read_options,
)
from stations.agent.program import Agent
from stations.agent.reader import CardReader
from stations.agent.reader_process import ReaderPlan
from stations.printing.ipp import IppPrinter
from stations.printing.printer import Printer
from stations.printing.virtual import VirtualPrinter

INCOMPLETE, NOT_ENROLLED = 2, 4


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; say on standard error what is missing."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        enrolment = read_enrolment(arguments, os.environ)
        if enrolment is not None:
            return enrol(enrolment)
        options = read_options(arguments, os.environ)
    except IncompleteError as exc:
        sys.stderr.write("".join(f"{line}\n" for line in (f"{exc.message}，缺少：", *exc.lacking)))
        return INCOMPLETE
    profile = os.environ.get("CARD_PROFILE", "sssc-3.0-sm4")
    return Agent(options, bench_of(options, profile), client_of(options)).run()


def client_of(options: Options) -> PortalClient:
    """Return a connection to the portal; heartbeats and jobs have one each."""
    return PortalClient(options.portal, options.code, options.credential, ca_file=options.ca_file)


def bench_of(options: Options, profile: str) -> Bench:
    """Return reader and printer as the options name them."""
    plan = ReaderPlan(
        options.virtual, options.reader, options.psam_reader, profile, options.area or "440600",
        options.hopper, options.faults,
    )  # fmt: skip
    return Bench(
        client_of(options),
        CardReader(plan) if options.has_reader else NoReader(),
        printer_of(options),
        Journal(options.journal),
        card_seconds=options.card_seconds,
    )


def printer_of(options: Options) -> Printer | None:
    """Return the printer, None where the station has none."""
    if not options.printer:
        return None
    if options.printer == VIRTUAL_PRINTER:
        return VirtualPrinter()
    return IppPrinter(options.printer, ca_file=options.printer_ca, turn_back=options.turn_back)


def enrol(asked: Enrolment) -> int:
    """Exchange the one-time code for a credential and keep it in a file of mode 0600."""
    client = PortalClient(asked.portal, asked.code, "", ca_file=asked.ca_file)
    try:
        credential = client.redeem(asked.one_time)
    except PortalError as exc:
        refused = isinstance(exc, AnswerRefusedError) and exc.got == "enrolment_refused"
        why = "登记码不对、已使用或已过期，请安全管理员重新开出一个" if refused else str(exc)
        sys.stderr.write(f"登记未成功：{why}\n")
        return NOT_ENROLLED
    finally:
        client.close()
    keep_credential(asked.credential_file, credential)
    sys.stdout.write(f"凭证已写入 {asked.credential_file}\n")
    return 0


def keep_credential(target: Path, credential: str) -> None:
    """Replace the file in one step; mkstemp gives it mode 0600 from the start."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".credential-")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{credential}\n")
    Path(name).replace(target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
