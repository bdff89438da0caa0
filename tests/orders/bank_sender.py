"""A bank that seals account files, honest or not, for the tests of the portal's door."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from portal import files
from portal.core.account_parcel_write import manifest_of
from portal.core.crypto import Sm2PrivateKey
from portal.core.seal import seal_package
from portal.models import Organisation
from portal.samples.hostile import inner_of
from tests.orders.scene import csv_file, person

CSV = csv_file([person(serial).row() for serial in range(1, 4)]).getvalue()


@dataclass
class Sender:
    """A bank with its key, and what it seals."""

    bank: Organisation
    key: Sm2PrivateKey

    def seal(self, inner: bytes, *, number: str = "A-1", **changes: Any) -> io.BytesIO:
        parties: dict[str, Any] = {
            "sender": self.bank.code,
            "sender_key": self.key,
            "recipient": settings.PORTAL_CODE,
            "recipient_key": files.portal_key().public,
            "package_number": number,
            "created_at": timezone.now() - timedelta(minutes=1),
        }
        target = io.BytesIO()
        seal_package(io.BytesIO(inner), target, **(parties | changes))
        target.seek(0)
        return target

    def parcel(self, *, number: str = "A-1", **changes: Any) -> io.BytesIO:
        return self.seal(parcel_of({"a.csv": CSV}, self.bank.code, number), number=number, **changes)


def parcel_of(found: dict[str, bytes], sender: str, number: str = "A-1", **manifest: Any) -> bytes:
    """Zip account files with their manifest; `manifest` overrides its fields."""
    head = json.loads(manifest_of(sender, number, list(found))) | manifest
    members = {f"accounts/{name}": content for name, content in found.items()}
    return inner_of({"manifest.json": json.dumps(head).encode()} | members)
