"""Destroy personal data that has served its purpose, or say what is overdue (R-22): manage.py destroy_due."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from orders.services.account_destruction import destroy_retired_rows
from orders.services.rekeying import start_due_rekeys
from portal.core.errors import PortalError
from portal.models import User
from production.choices import BatchStatus
from production.models import Batch
from production.selectors.overdue import destruction_light, overdue
from production.services.destruction import destroy_batch
from production.services.destruction_alarms import update_alarms
from production.services.destruction_sweep import sweep_leftovers
from production.services.returns import send_return_file

LIGHTS = {"amber": "待办", "red": "逾期"}


class Command(BaseCommand):
    """Send missing return files first; a batch is destroyed in the round after its file stands."""

    help = "已签收批次：先生成回盘文件，再销毁个人数据并出具证明；清理到期账号与残留；--check 只检查逾期"

    def add_arguments(self, parser: CommandParser) -> None:
        kinds = parser.add_mutually_exclusive_group()
        kinds.add_argument("--list", action="store_true", help="只列出，不执行")
        kinds.add_argument("--check", action="store_true", help="只检查逾期；有逾期时退出码为 1")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["check"]:
            self._check()
            return
        due = Batch.objects.filter(status=BatchStatus.SIGNED).order_by("signed_at", "pk")
        if options["list"]:
            for batch in due:
                light = LIGHTS[destruction_light(batch)]
                self.stdout.write(f"{batch}  {'待销毁' if _is_ready(batch) else '待回盘'}  {light}")
            return
        failed = sum(not self._handle(batch) for batch in due)
        self._clean_up()
        if failed:
            raise CommandError(f"{failed} 个批次未能处理")

    def _handle(self, batch: Batch) -> bool:
        try:
            self.stdout.write(f"{batch}  {_done(batch)}")
        except PortalError as exc:
            self.stderr.write(f"{batch}: {exc.code}: {exc}")
            return False
        return True

    def _clean_up(self) -> None:
        started, retired = start_due_rekeys(), destroy_retired_rows()
        swept = sum(sweep_leftovers().values())
        alarms = update_alarms()
        told = ((started, "个数据包开始重新密封"), (retired, "行到期账号已销毁"), (swept, "项残留已清理"))
        for count, text in told:
            if count:
                self.stdout.write(f"{count} {text}")
        for alarm in alarms:
            self.stderr.write(f"逾期：{alarm}")

    def _check(self) -> None:
        late = overdue()
        update_alarms()
        for each in late:
            days = (timezone.now() - each.due_at).days
            self.stdout.write(f"{each.kind.label}  {each.subject}  {each.count}  逾期 {days} 天")
        if late:
            raise CommandError(f"{len(late)} 项逾期")
        self.stdout.write("没有逾期")


def _is_ready(batch: Batch) -> bool:
    return hasattr(batch, "return_file")


def _done(batch: Batch) -> str:
    actor = User.objects.system()
    if _is_ready(batch):
        destroy_batch(batch, actor=actor)
        return "个人数据已销毁"
    send_return_file(batch, actor=actor)
    return "正在生成回盘文件"
