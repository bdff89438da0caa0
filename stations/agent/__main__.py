"""Start the agent: `python -m stations.agent --code CODE --portal URL --credential-file FILE [--virtual]`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from production.personalization.profile import load_profile
from stations.agent.client import PortalClient
from stations.agent.jobs import Bench
from stations.agent.options import IncompleteError, read_options
from stations.agent.program import Agent
from stations.transport.virtual import VirtualTransport
from stations.virtual.samples import sample_card

INCOMPLETE = 2


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; say on standard error what is missing."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        options = read_options(arguments, os.environ)
    except IncompleteError as exc:
        sys.stderr.write("".join(f"{line}\n" for line in (f"{exc.message}，缺少：", *exc.lacking)))
        return INCOMPLETE
    profile = load_profile(os.environ.get("CARD_PROFILE", "sssc-3.0-sm4"))
    client = PortalClient(options.portal, options.code, options.credential)
    bench = Bench(VirtualTransport(sample_card()), client, profile)
    return Agent(options, bench).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
