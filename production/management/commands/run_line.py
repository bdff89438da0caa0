"""Send prepared batches to the line: manage.py run_line [BATCH…]; without a number, all of them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.core.errors import PortalError
from portal.models import User
from production.choices import BatchStatus
from production.models import Batch
from production.services.running import run_batch


class Command(BaseCommand):
    """Start the (virtual) plant line; workers make the cards."""

    help = "把待上机的批次送上生产线；不填批次号为全部"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("numbers", nargs="*", metavar="BATCH", help="批次号")

    def handle(self, *args: Any, **options: Any) -> None:
        failed = 0
        for batch in batches(options["numbers"], BatchStatus.PREPARED):
            try:
                run_batch(batch, actor=User.objects.system())
            except PortalError as exc:
                failed += 1
                self.stderr.write(f"{batch}: {exc.code}: {exc}")
            else:
                self.stdout.write(f"{batch}  {batch.quantity:,} 张  已上机")
        if failed:
            raise CommandError(f"{failed} 个批次未能上机")


def batches(numbers: list[str], status: str) -> list[Batch]:
    """Return the batches of these numbers, or all in `status`; refuse a number that is not there."""
    if not numbers:
        return list(Batch.objects.filter(status=status).order_by("pk"))
    found = {batch.number: batch for batch in Batch.objects.filter(number__in=numbers)}
    missing = [number for number in numbers if number not in found]
    if missing:
        raise CommandError(f"没有批次 {missing[0][:40]}")
    return [found[number] for number in numbers]
