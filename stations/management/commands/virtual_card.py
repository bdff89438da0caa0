"""Plug virtual cards, and a virtual PSAM, into a running pcscd."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from stations.virtual.program import OptionError, add_options, run


class Command(BaseCommand):
    """Serve cards to pcscd through vsmartcard's vpcd until told to stop (docs/developers/virtual-card.md)."""

    help = "Plug virtual cards into a running pcscd (needs vsmartcard-vpcd)."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options; they are those of `python -m stations.virtual`."""
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM, SIGINT, or `quit` on the standard input."""
        try:
            run(Namespace(**options), orders=sys.stdin, replies=sys.stdout)
        except OptionError as exc:
            raise CommandError(str(exc)) from exc
