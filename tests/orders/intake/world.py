"""A small programme for the tests of intake: sender, banks, a clerk, and packages of invented people."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from orders.models import DeliveryPoint, Package, SenderKey
from orders.services.packages import receive_package
from portal import files
from portal.choices import Role, TaskStatus
from portal.core import clock
from portal.core.crypto import Sm2PrivateKey
from portal.models import AuditEntry, Organisation, Task, User
from portal.queue import run_task
from portal.samples.banks import BANKS
from portal.samples.hostile import Parties, hostile, inner_of, sealed
from portal.samples.package import PackageHead, SampleOrder, SampleReport, write_inner_zip

SENDER = "PROVINCE"


@dataclass
class World:
    """Everybody a package needs; keys are drawn per test."""

    province: Organisation
    purchaser: Organisation
    clerk: User
    sender_key: Sm2PrivateKey
    stranger: Sm2PrivateKey = field(default_factory=Sm2PrivateKey.generate)

    def head(self, number: str = "P-1", **changes: Any) -> PackageHead:
        created = timezone.now().replace(microsecond=0) - timedelta(minutes=1)
        return PackageHead(number, SENDER, settings.PORTAL_CODE, created, **changes)

    def parties(self, number: str = "P-1", **changes: Any) -> Parties:
        recipient = files.portal_key().public
        return Parties(self.sender_key, recipient, self.stranger, self.head(number, **changes))

    def inner(
        self, count: int, *, number: str = "P-1", fault_rate: float = 0.0, start: int = 0, **changes: Any
    ) -> tuple[bytes, SampleReport]:
        target = io.BytesIO()
        order = SampleOrder(count, start=start, fault_rate=fault_rate, issue_date=clock.today())
        report = write_inner_zip(target, order, self.head(number, **changes))
        return target.getvalue(), report

    def container(self, count: int = 5, *, number: str = "P-1", **changes: Any) -> bytes:
        return sealed(self.inner(count, number=number, **changes)[0], self.parties(number))

    def container_of(self, members: dict[str, bytes], number: str = "P-1") -> bytes:
        return sealed(inner_of(members), self.parties(number))

    def hostile(self, kind: str) -> bytes:
        return hostile(kind, self.parties("HOSTILE-1"))

    def receive(self, container: bytes, name: str = "p.sealed") -> Package:
        return receive_package(io.BytesIO(container), file_name=name, actor=self.clerk)

    def take_in(self, count: int = 5, **changes: Any) -> Package:
        """Receive a package and run its tasks to the end."""
        package = self.receive(self.container(count, **changes))
        run_tasks()
        package.refresh_from_db()
        return package


def make_world() -> World:
    purchaser = Organisation.objects.create(kind="purchaser", code="HRSS", name="采购人", short_name="采购人")
    province = Organisation.objects.create(kind="province", code=SENDER, name="省系统", short_name="省系统")
    clerk = User.objects.create(username="clerk", organisation=purchaser, roles=[Role.PURCHASER_CLERK])
    for spec in BANKS:
        bank = Organisation.objects.create(kind="bank", code=spec.code, name=spec.name, short_name=spec.code)
        DeliveryPoint.objects.bulk_create(
            DeliveryPoint(bank=bank, code=point, name=point, address="佛山") for point in spec.points
        )
    key = Sm2PrivateKey.generate()
    add_sender_key(province, key)
    User.objects.system()
    return World(province, purchaser, clerk, key)


def add_sender_key(sender: Organisation, key: Sm2PrivateKey, **changes: Any) -> SenderKey:
    now = timezone.now()
    values = {"valid_from": now - timedelta(days=30), "valid_until": now + timedelta(days=30)} | changes
    return SenderKey.objects.create(organisation=sender, public_key=key.public.to_pem(), **values)


def run_tasks() -> int:
    """Run every waiting task here, as workers would, until none is left; return how many ran."""
    ran = 0
    while waiting := list(Task.objects.filter(status=TaskStatus.QUEUED).order_by("pk")):
        ran += sum(run_task(task.pk) for task in waiting)
    return ran


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("position").values_list("action", flat=True))
