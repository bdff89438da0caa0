"""Match waiting records with the banks' accounts: manage.py match [--bank CODE] [--now]."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from orders.choices import UnmatchedReason
from orders.management.commands.create_orders import bank_of
from orders.services.matching import match_bank, match_records
from portal.choices import OrganisationKind
from portal.core.errors import PortalError
from portal.models import Organisation, User


class Command(BaseCommand):
    """Schedule matching for the workers, or run it here and print what came of it."""

    help = "按号码、姓名、银行匹配待匹配记录与银行账号"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bank", help="银行代码；不填为全部银行")
        parser.add_argument("--now", action="store_true", help="立即在本进程执行并显示结果")

    def handle(self, *args: Any, **options: Any) -> None:
        bank = bank_of(options["bank"])
        actor = User.objects.system()
        try:
            if options["now"]:
                self._run(actor, bank)
            else:
                tasks = match_records(actor=actor, bank=bank)
                self.stdout.write(f"已安排 {len(tasks)} 家银行的匹配")
        except PortalError as exc:
            raise CommandError(f"{exc.code}: {exc}") from exc

    def _run(self, actor: User, bank: Organisation | None) -> None:
        banks = [bank] if bank else Organisation.objects.filter(kind=OrganisationKind.BANK).order_by("code")
        for each in banks:
            result = match_bank(each, actor=actor)
            waiting = "，".join(f"{UnmatchedReason(code).label} {n}" for code, n in result.unmatched.items())
            self.stdout.write(f"{each}：匹配 {result.matched}，未匹配 {waiting or 0}")
