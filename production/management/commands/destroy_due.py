"""Destroy personal data of signed batches once their return file stands (R-22): manage.py destroy_due."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.core.errors import PortalError
from portal.models import User
from production.choices import BatchStatus
from production.models import Batch
from production.services.destruction import destroy_batch
from production.services.returns import send_return_file


class Command(BaseCommand):
    """Send missing return files first; a batch is destroyed in the round after its file stands."""

    help = "已签收批次：先生成回盘文件，再销毁个人数据并出具证明"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--list", action="store_true", help="只列出，不执行")

    def handle(self, *args: Any, **options: Any) -> None:
        due = Batch.objects.filter(status=BatchStatus.SIGNED).order_by("signed_at", "pk")
        failed = 0
        for batch in due:
            ready = hasattr(batch, "return_file")
            if options["list"]:
                self.stdout.write(f"{batch}  {'待销毁' if ready else '待回盘'}")
                continue
            try:
                self.stdout.write(f"{batch}  {_handle(batch, ready)}")
            except PortalError as exc:
                failed += 1
                self.stderr.write(f"{batch}: {exc.code}: {exc}")
        if failed:
            raise CommandError(f"{failed} 个批次未能处理")


def _handle(batch: Batch, ready: bool) -> str:
    actor = User.objects.system()
    if ready:
        destroy_batch(batch, actor=actor)
        return "个人数据已销毁"
    send_return_file(batch, actor=actor)
    return "正在生成回盘文件"
