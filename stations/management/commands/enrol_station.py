"""Give a station its credential."""

from __future__ import annotations

import os
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.core.errors import PortalError
from portal.models import User
from stations.models import Station
from stations.services.registry import enrol_station, is_credential


class Command(BaseCommand):
    """Write a new credential into a file that only its owner reads; it is shown nowhere else."""

    help = "Give a station a new credential, written to a file of mode 0600."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("code")
        parser.add_argument("--credential-file", required=True, type=Path)
        parser.add_argument(
            "--as", dest="actor", metavar="USERNAME", help="the security administrator who does it"
        )
        parser.add_argument(
            "--keep", action="store_true", help="keep a file that holds the valid credential already"
        )
        parser.add_argument("--if-registered", action="store_true", help="do nothing for an unknown station")

    def handle(self, *args: Any, **options: Any) -> None:
        """Enrol, then put the file in place at once and whole."""
        station = Station.objects.filter(code=options["code"]).first()
        if station is None:
            if options["if_registered"]:
                options["credential_file"].unlink(missing_ok=True)  # of a database that is gone
                return
            raise CommandError(f"没有代码为 {options['code']} 的制卡点，请先在后台登记")
        target: Path = options["credential_file"]
        if options["keep"] and _holds_credential(target, station):
            return
        try:
            _, credential = enrol_station(station, actor=_actor(options["actor"]))
        except PortalError as exc:
            raise CommandError(str(exc)) from exc
        _write(target, credential)
        self.stdout.write(f"{station.code} 的新凭证已写入 {target}，旧凭证即刻失效")


def _actor(username: str | None) -> User:
    if username is None:
        return User.objects.system()
    user = User.objects.filter(username=username).first()
    if user is None:
        raise CommandError(f"没有用户 {username}")
    return user


def _holds_credential(path: Path, station: Station) -> bool:
    try:
        return is_credential(station, path.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError):
        return False


def _write(target: Path, credential: str) -> None:
    """Replace the file in one step; mkstemp gives it mode 0600 from the start."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".credential-")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{credential}\n")
    Path(name).replace(target)
