"""Batches brought to each stage of the flow, and everybody's desk, for tests of the pages."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.test import Client
from django.utils import timezone

from orders.choices import PackageStatus
from orders.models import SenderKey
from portal.choices import OrganisationKind, Role
from portal.core.crypto import Sm2PrivateKey
from portal.models import Organisation, User
from production.models import Batch, Delivery
from production.services.closing import close_batch, ledger_counts, totals
from production.services.delivery import confirm_carton, dispatch_batch, sign_delivery
from production.services.packing import pack_batch
from quality.jobs import advance_all
from quality.services.inspection import inspect_batch
from tests.portal.desk import make_person, sign_in
from tests.production.world import World, build_world, run_queued


@dataclass
class Stages:
    """A world with banks at their desks, whose batches can be brought on."""

    world: World

    @cached_property
    def bank_clerk(self) -> User:
        """Return the clerk of the bank the cards are for."""
        return make_person(Role.BANK_CLERK, self.world.bank, "bank")

    @cached_property
    def stranger(self) -> User:
        """Return the clerk of another bank."""
        other = Organisation.objects.create(
            kind=OrganisationKind.BANK, code="95599", name="农行", short_name="农行"
        )
        return make_person(Role.BANK_CLERK, other, "stranger")

    def desk(self, name: str) -> Client:
        """Sign somebody in, by the name of the world's attribute or of this one's."""
        user: User = getattr(self, name, None) or getattr(self.world, name)
        return sign_in(user)

    def inspected(self, count: int = 4, **options: Any) -> Batch:
        """Return a batch whose cards are all good."""
        batch = self.world.made(count, **options)
        inspect_batch(batch, actor=self.world.quality)
        return self.worked(batch)

    def closed(self, count: int = 4) -> Batch:
        """Return a balanced batch."""
        batch = self.inspected(count)
        counts = totals(ledger_counts(batch))
        return close_batch(
            batch,
            good=counts.good,
            rejected=counts.rejected,
            samples=counts.samples,
            returned=counts.returned,
            actor=self.world.operator,
        )

    def packed(self, count: int = 4) -> Batch:
        """Return a batch in cartons, its lists written."""
        return self.worked(pack_batch(self.closed(count), actor=self.world.operator))

    def dispatched(self, count: int = 4) -> Batch:
        """Return a batch on its way."""
        return dispatch_batch(self.packed(count), actor=self.world.operator)

    def signed(self, count: int = 4) -> Batch:
        """Return a batch its bank has signed for."""
        batch = self.dispatched(count)
        for delivery in batch.deliveries.all():
            self.sign(delivery)
        batch.refresh_from_db()
        return batch

    def sign(self, delivery: Delivery) -> None:
        """Confirm every carton and sign."""
        for carton in delivery.cartons.all():
            confirm_carton(carton, counted=carton.card_count, actor=self.bank_clerk)
        sign_delivery(delivery, actor=self.bank_clerk)

    def province(self) -> Sm2PrivateKey:
        """Give the province a key to seal return files to."""
        key, now = Sm2PrivateKey.generate(), timezone.now()
        organisation = Organisation.objects.create(
            kind=OrganisationKind.PROVINCE, code="GD", name="省卡系统", short_name="省卡系统"
        )
        SenderKey.objects.create(
            organisation=organisation,
            public_key=key.public.to_pem(),
            valid_from=now - dt.timedelta(days=1),
            valid_until=now + dt.timedelta(days=1),
        )
        return key

    def worked(self, batch: Batch) -> Batch:
        """Run what is queued, conclude passes, and return the batch fresh."""
        run_queued()
        advance_all()
        run_queued()
        batch.refresh_from_db()
        return batch


def build_stages(settings: Any) -> Stages:
    """Return a world whose line makes no faults."""
    set_rates(settings)
    world = build_world()
    # The world's package came in before the story starts.
    type(world.package).objects.update(status=PackageStatus.VALIDATED)
    return Stages(world)


def set_rates(settings: Any, wrong: float = 0, bad: float = 0, unknown: float = 0) -> None:
    """Set what the virtual line does wrong."""
    settings.LINE_WRONG_RATE, settings.LINE_BAD_RATE, settings.LINE_UNKNOWN_RATE = wrong, bad, unknown
