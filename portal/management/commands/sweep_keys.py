"""Destroy data keys that no row refers to: what killed processes left (R-22)."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from portal.core.errors import PortalError
from portal.models import User
from portal.services.orphan_keys import AT_MOST, OLD_ENOUGH, destroy_orphans, orphan_keys

HOURS = int(OLD_ENOUGH.total_seconds() // 3600)


class Command(BaseCommand):
    """List or destroy them; the scheduler runs it every night."""

    help = "销毁没有数据引用的密钥（进程中断所留）；过多时拒绝，以防数据库与密钥库不相符"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--hours", type=int, default=HOURS, help=f"生成多少小时以上，默认且至少 {HOURS}")
        parser.add_argument("--at-most", type=int, default=AT_MOST, help=f"最多销毁多少个，默认 {AT_MOST}")
        parser.add_argument("--list", action="store_true", help="只列出，不销毁")

    def handle(self, *args: Any, **options: Any) -> None:
        """Destroy and say how many."""
        if options["hours"] < HOURS:
            raise CommandError(f"--hours：应不小于 {HOURS}，否则会销毁正在写入的数据的密钥")
        older_than = timedelta(hours=options["hours"])
        try:
            if options["list"]:
                for key in orphan_keys(older_than):
                    self.stdout.write(f"{key.created_at:%Y-%m-%d %H:%M} {key.key_id}")
                return
            destroyed = destroy_orphans(
                older_than=older_than, at_most=options["at_most"], actor=User.objects.system()
            )
        except PortalError as exc:
            raise CommandError(str(exc)) from exc
        if destroyed:
            self.stdout.write(f"已销毁没有数据引用的密钥 {len(destroyed)} 个")
