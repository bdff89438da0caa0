"""The bank of the demo that seals its account files, as its own system would."""

from __future__ import annotations

import io
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from orders.services.sealed_accounts import receive_accounts
from portal.choices import Role
from portal.core.account_parcel_write import pack_parcel
from portal.core.seal import seal_package
from portal.files import portal_key
from portal.management.demo.programme import Programme
from portal.models import Organisation


def send_sealed(programme: Programme, bank: Organisation, paths: list[Path]) -> list[int]:
    """Seal a bank's files, hand the package in and return the primary keys of the account files."""
    number = f"ZH-{timezone.localtime():%Y%m%d-%H%M%S-%f}"
    target = io.BytesIO()
    seal_package(
        pack_parcel(bank.code, number, paths),
        target,
        sender=bank.code,
        sender_key=programme.bank_key,
        recipient=settings.PORTAL_CODE,
        recipient_key=portal_key().public,
        package_number=number,
        created_at=timezone.now(),
    )
    clerk = programme.person(Role.BANK_CLERK, bank)
    package = receive_accounts(target, file_name=f"{number}.sealed", actor=clerk)
    return list(package.files.values_list("pk", flat=True))
