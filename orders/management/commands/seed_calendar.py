"""Bring the calendar of working days up to date: manage.py seed_calendar [YEAR…]."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from orders.services.calendar import seed_calendar
from portal.core.errors import PortalError


class Command(BaseCommand):
    """Seed holidays and make-up days; days people have edited stay."""

    help = "更新工作日历：节假日与调休上班日（人工修改过的日期保持不变）"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("years", nargs="*", type=int, help="年份；不填为上一年至后两年")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            changed = seed_calendar(options["years"] or None)
        except PortalError as exc:
            raise CommandError(f"{exc.code}: {exc}") from exc
        self.stdout.write(f"工作日历已更新：{changed} 天有变化")
