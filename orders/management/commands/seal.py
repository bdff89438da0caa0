"""Seal a package as senders do: the stand-alone script, reachable beside the other commands."""

from __future__ import annotations

import runpy
import sys
from argparse import ArgumentParser
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand

SCRIPT = settings.BASE_DIR / "script" / "seal_package.py"


class Command(BaseCommand):
    """Hand every argument to `script/seal_package.py`; its exit code is ours."""

    help = "Seal a package (script/seal_package.py --help)."
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> NoReturn:
        """Skip Django's own options: the script has its own."""
        sys.exit(run(argv[2:]))

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take everything after `--` for `call_command`."""
        parser.add_argument("arguments", nargs="*")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve `call_command("seal", "--", *arguments)`."""
        code = run(options["arguments"])
        if code:
            sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the script's `main` in this process."""
    return int(runpy.run_path(str(SCRIPT))["main"](arguments))
