"""Walk the audit chain: manage.py audit_verify [--start N]; exit code 1 names the first bad entry."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.audit import verify_chain

REASONS = {"missing": "缺失", "reordered": "次序被改动", "changed": "内容被改动"}


class Command(BaseCommand):
    """Say how many entries hold, or which is the first that does not."""

    help = "核对审计链：逐条重算 SM3，指出第一条被改动、删除、插入或移动的记录"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--start", type=int, default=1, help="从第几条开始，默认 1")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["start"] < 1:
            raise CommandError("--start：应为不小于 1 的整数")
        checked, fault = verify_chain(options["start"])
        if fault is not None:
            raise CommandError(f"第 {fault.position} 条{REASONS[fault.reason]}（此前 {checked:,} 条完好）")
        self.stdout.write(f"审计链完好：{checked:,} 条")
