"""Turn matched records into orders: manage.py create_orders [--bank CODE] [--matched-on YYYY-MM-DD]."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from orders.selectors.orders import waiting_groups
from orders.services.ordering import create_orders
from portal.choices import OrganisationKind
from portal.core.errors import PortalError
from portal.models import Organisation, User


class Command(BaseCommand):
    """Order everything that is matched and say what has to wait, and why."""

    help = "按银行、卡种和所选中标人把已匹配记录下单"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bank", help="银行代码；不填为全部银行")
        parser.add_argument("--matched-on", type=date.fromisoformat, help="匹配完成日期，格式 2026-11-23")

    def handle(self, *args: Any, **options: Any) -> None:
        bank = bank_of(options["bank"])
        actor = User.objects.system()
        try:
            orders = create_orders(actor=actor, matched_on=options["matched_on"], bank=bank)
        except PortalError as exc:
            raise CommandError(f"{exc.code}: {exc}") from exc
        for order in orders:
            self.stdout.write(f"{order.number}  {order.quantity} 张  期限 {order.due_on}")
        for group in waiting_groups(actor, bank=bank):
            reason = f"{group.refusal.code}: {group.refusal}" if group.refusal else "可以下单"
            self.stdout.write(f"等待：{group.bank} {group.card_kind_label} {group.quantity} 张（{reason}）")


def bank_of(code: str | None) -> Organisation | None:
    """Find the bank of a code given on the command line."""
    if not code:
        return None
    try:
        return Organisation.objects.get(kind=OrganisationKind.BANK, code=code)
    except Organisation.DoesNotExist as exc:
        raise CommandError(f"account_bank_unknown: 没有代码为 {code[:32]} 的银行") from exc
