"""Write a sealed package of invented people, and make its invented sender known to this portal."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from orders.models import SenderKey
from portal import files
from portal.choices import OrganisationKind
from portal.core import clock
from portal.core.crypto import Sm2PrivateKey
from portal.models import Organisation
from portal.samples.package import FAULT_RATE, PackageHead, SampleOrder, make_package

SENDER = "SAMPLE-PROVINCE"
KEY_DAYS = 365


class Command(BaseCommand):
    """Refused in production: nothing invented belongs there."""

    help = "Write a sealed package of N invented people with invented photos."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("path", type=Path, metavar="PATH", help="file to write")
        parser.add_argument("--records", type=int, default=2000, help="people in the package (2000)")
        parser.add_argument("--number", default="", help="package number (from the time)")
        parser.add_argument("--sender", default=SENDER, help=f"code of the sender ({SENDER})")
        parser.add_argument("--seed", type=int, default=1, help="which invented world (1)")
        parser.add_argument("--start", type=int, default=0, help="first person of that world (0)")
        parser.add_argument("--fault-rate", type=float, default=FAULT_RATE, help=f"bad rows ({FAULT_RATE})")
        parser.add_argument("--encoding", choices=["utf-8", "gb18030"], default="utf-8")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the file."""
        if settings.PRODUCTION:
            raise CommandError("生产环境不得生成样例数据", returncode=2)
        if options["records"] < 0 or not 0 <= options["fault_rate"] <= 1:
            raise CommandError("--records 须不小于 0，--fault-rate 须在 0 与 1 之间", returncode=2)
        head = PackageHead(
            package_number=options["number"] or f"SAMPLE-{clock.local(clock.now()):%Y%m%d-%H%M%S}",
            sender=options["sender"],
            recipient=settings.PORTAL_CODE,
            created_at=timezone.now().replace(microsecond=0),
            encoding=options["encoding"],
        )
        order = SampleOrder(
            options["records"],
            options["seed"],
            options["start"],
            options["fault_rate"],
            issue_date=clock.today(),
        )
        report = make_package(
            options["path"],
            order,
            head,
            sender_key=sample_sender(options["sender"]),
            recipient_key=files.portal_key().public,
        )
        self.stdout.write(
            f"{options['path']}：{head.package_number}，{report.count} 条记录，{report.photo_count} 张照片，"
            f"其中 {len(report.bad)} 条有意出错"
        )


def sample_sender(code: str = SENDER) -> Sm2PrivateKey:
    """Return the key of an invented sender; the first call makes sender and key known."""
    sender, _ = Organisation.objects.get_or_create(
        code=code,
        defaults={"kind": OrganisationKind.PROVINCE, "name": f"样例发送方 {code}", "short_name": code},
    )
    key = files.keystore().ensure_sm2(f"sender-{code}"[:40])
    now = timezone.now()
    pem = key.public.to_pem()
    if not SenderKey.objects.filter(organisation=sender, public_key=pem, valid_until__gt=now).exists():
        SenderKey.objects.create(
            organisation=sender,
            public_key=pem,
            valid_from=now - timedelta(days=1),
            valid_until=now + timedelta(days=KEY_DAYS),
        )
    return key
