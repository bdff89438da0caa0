"""Run the agent of a station on the portal's own machine, as the demonstration does."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

# The agent needs none of these, and a counter machine would not have them.
WITHHELD = frozenset(
    {
        *("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE"),
        *("PORTAL_KEK", "PORTAL_KEK_NEXT", "PORTAL_KEK_PIN"),
    }
)


PASSED_ON = {
    "reader": "name of the reader, or a part of it",
    "psam-reader": "reader that holds the terminal's PSAM",
    "printer": "ipp:// or ipps:// address of the card printer",
    "enrol": "one-time code: fetch the credential and end",
}


class Command(BaseCommand):
    """Become `python -m stations.agent`, which knows no Django, with what it needs from the settings."""

    help = "Run a station's agent (on a counter machine: python -m stations.agent)."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--code", default="demo-1")
        parser.add_argument("--portal", default="http://127.0.0.1:8000")
        parser.add_argument("--credential-file", type=Path, help="default: var/stations/CODE.credential")
        parser.add_argument("--virtual", action="store_true", help="virtual reader, cards and printer")
        parser.add_argument("--no-reader", action="store_true", help="a station without a reader")
        parser.add_argument("--no-printer", action="store_true", help="a station without a printer")
        parser.add_argument("--turn-back", action="store_true", help="backs come out head down: turn them")
        for name, text in PASSED_ON.items():
            parser.add_argument(f"--{name}", default="", help=text)

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace this process, so that signals reach the agent itself."""
        program = [sys.executable, "-m", "stations.agent", *agent_arguments(options)]
        os.execve(sys.executable, program, agent_environment(os.environ))  # noqa: S606 - no shell is wanted


def agent_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return the agent's command line."""
    credential = options["credential_file"] or settings.VAR_DIR / "stations" / f"{options['code']}.credential"
    found = ["--code", options["code"], "--portal", options["portal"], "--credential-file", str(credential)]
    found += [f"--{name}={value}" for name in PASSED_ON if (value := options.get(_option(name)))]
    flags = ("virtual", "no-reader", "no-printer", "turn-back")
    return [*found, *(f"--{name}" for name in flags if options.get(_option(name)))]


def _option(name: str) -> str:
    return name.replace("-", "_")


def agent_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the portal's secrets, but with the queue's address."""
    kept = {name: value for name, value in environment.items() if name not in WITHHELD}
    return kept | {
        "STATION_REDIS_URL": environment.get("STATION_REDIS_URL") or settings.REDIS_URL,
        "CARD_PROFILE": settings.CARD_PROFILE,
        "PYTHONPATH": str(settings.BASE_DIR),
    }
