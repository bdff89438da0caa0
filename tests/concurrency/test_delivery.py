"""Two signatures, two packers, two closers at once, and kills while data is destroyed (D7, R-22, R-23)."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from django.core.files.storage import default_storage
from django.db.models import Sum

from orders.choices import OrderStatus, PackageStatus
from orders.models import CardholderRecord, Order, Package
from portal.audit import verify_chain
from portal.choices import Role
from portal.files import keystore
from portal.models import AuditEntry, PendingRemoval, User
from portal.removal import remove_pending
from production.choices import BatchStatus
from production.models import (
    Batch,
    Card,
    Carton,
    Delivery,
    DestructionCertificate,
    Receipt,
    ReturnFile,
    StockLot,
    StockMovement,
)
from production.services.closing import close_batch, ledger_counts, take_samples, totals
from production.services.delivery import confirm_carton, sign_delivery
from production.services.destruction import destroy_batch
from production.services.packing import pack_batch
from quality.models import Defect, Hold, Inspection
from quality.services.defects import ensure_codes
from quality.services.inspection import conclude_pass
from tests.concurrency.rivals import at_once, killed_at
from tests.production.light import (
    light_batch,
    light_closed,
    light_dispatched,
    light_inspected,
    light_signed,
)
from tests.production.world import World, build_world, run_queued

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(transactional_db: None) -> World:
    made = build_world()
    Package.objects.update(status=PackageStatus.VALIDATED)
    User.objects.system()
    return made


@pytest.fixture
def bank(world: World) -> User:
    return User.objects.create(username="bank", organisation=world.bank, roles=[Role.BANK_CLERK])


def counted(batch: Batch, bank: User) -> list[Delivery]:
    """Confirm every carton of a batch; return its deliveries, unsigned."""
    for carton in Carton.objects.filter(delivery__batch=batch):
        confirm_carton(carton, counted=carton.card_count, actor=bank)
    return list(batch.deliveries.order_by("number"))


class TestDelivery:
    def test_one_of_two_signatures_counts(self, world: World, bank: User) -> None:
        """R-23: signed once, accepted once, one entry."""
        delivery = counted(light_dispatched(world, 4), bank)[0]
        found = at_once([lambda: sign_delivery(delivery, actor=bank)] * 4)
        assert found == {"True": 1, "transition_refused": 3}
        assert Card.objects.filter(accepted_on__isnull=False).count() == 2
        assert AuditEntry.objects.filter(action="delivery.signed").count() == 1

    def test_the_last_two_deliveries_at_once_sign_the_batch_once(self, world: World, bank: User) -> None:
        """R-23: neither may think that the other is still to come."""
        batch = light_dispatched(world, 4)
        calls = [lambda d=d: sign_delivery(d, actor=bank) for d in counted(batch, bank)]
        assert at_once(calls) == {"True": 2}
        batch.refresh_from_db()
        assert (batch.status, Order.objects.get().status) == (BatchStatus.SIGNED, OrderStatus.COMPLETED)
        assert AuditEntry.objects.filter(action="batch.signed").count() == 1
        assert verify_chain()[1] is None

    def test_a_carton_is_counted_once(self, world: World, bank: User) -> None:
        light_dispatched(world, 4)
        carton = Carton.objects.earliest("pk")
        found = at_once([lambda: confirm_carton(carton, counted=2, actor=bank)] * 4)
        assert found == {"True": 1, "conflict": 3}
        assert Receipt.objects.count() == 1

    def test_a_batch_is_packed_once(self, world: World) -> None:
        batch = light_closed(world, 4)
        found = at_once([lambda: pack_batch(batch, actor=world.operator)] * 4)
        assert found == {"True": 1, "transition_refused": 3}
        assert (Delivery.objects.count(), Carton.objects.count()) == (2, 2)


class TestBalance:
    def test_a_batch_is_closed_once(self, world: World) -> None:
        """R-21: no blank is posted twice."""
        batch = light_inspected(world, 3, rejected=1)
        counts = asdict(totals(ledger_counts(batch)))
        found = at_once([lambda: close_batch(batch, **counts, actor=world.operator)] * 4)
        assert found == {"True": 1, "transition_refused": 3}
        moved = StockMovement.objects.filter(batch=batch).values_list("kind").annotate(sum=Sum("quantity"))
        assert dict(moved.order_by()) == {"withdrawal": 14, "good": 3, "spoilage": 1, "return": 10}

    def test_samples_are_never_more_than_the_free_blanks(self, world: World) -> None:
        """R-21: 10 free blanks, six times 3 wanted."""
        batch = light_inspected(world, 3)
        lot = StockLot.objects.get()
        found = at_once([lambda: take_samples(batch, lot, 3, actor=world.operator)] * 6)
        assert found == {"True": 3, "stock_short": 3}
        assert StockMovement.objects.filter(kind="sample").values("note").distinct().count() == 3


class TestInspection:
    def test_two_concludes_make_one_inspection(self, world: World) -> None:
        """R-26: one inspection, one hold, one remake."""
        ensure_codes()
        batch = light_batch(world, 4, rejected=1)
        found = at_once([lambda: conclude_pass(batch.pk)] * 4)
        assert sum(found.values()) == 4
        assert (Inspection.objects.count(), Hold.objects.count(), Defect.objects.count()) == (1, 1, 1)
        assert AuditEntry.objects.filter(action="batch.inspected").count() == 2  # verdict and step
        batch.refresh_from_db()
        assert batch.status == BatchStatus.INSPECTED


def returned(world: World, bank: User) -> Batch:
    batch = light_signed(world, 3, bank)
    ReturnFile.objects.create(batch=batch, stored_name="r", card_count=3, failed_count=0, digest=bytes(32))
    return batch


class TestDestruction:
    def test_a_batch_is_destroyed_once(self, world: World, bank: User) -> None:
        batch = returned(world, bank)
        found = at_once([lambda: destroy_batch(batch, actor=world.clerk)] * 4)
        assert found == {"True": 1, "transition_refused": 3}
        assert DestructionCertificate.objects.count() == 1

    def test_two_batches_of_a_package_at_once_close_it_once(self, world: World, bank: User) -> None:
        """R-22: the second one sees that the first left nothing."""
        batches = [returned(world, bank), returned(world, bank)]
        found = at_once([lambda b=b: destroy_batch(b, actor=world.clerk) for b in batches])
        assert found == {"True": 2}
        assert Package.objects.get().status == PackageStatus.DESTROYED
        assert AuditEntry.objects.filter(action="package.destroyed").count() == 1

    @pytest.mark.parametrize("point", ["portal.audit._append", "orders.services.destruction._close_package"])
    def test_killed_before_the_commit_nothing_happened(self, world: World, bank: User, point: str) -> None:
        """R-22: all or nothing; done again it is done."""
        batch = returned(world, bank)
        assert killed_at(point, 1, lambda: destroy_batch(batch, actor=world.clerk))
        batch.refresh_from_db()
        assert (batch.status, CardholderRecord.objects.count()) == (BatchStatus.SIGNED, 3)
        assert keystore().exists(batch.key_id)
        assert not PendingRemoval.objects.exists()
        destroy_batch(batch, actor=world.clerk)
        assert not keystore().exists(batch.key_id)

    @pytest.mark.parametrize("point", ["portal.removal._remove", "portal.core.key_folder.shred"])
    def test_killed_after_the_commit_the_sweeper_finishes(self, world: World, bank: User, point: str) -> None:
        """R-22: rows are gone, keys and files follow; only then is it certified."""
        batch = returned(world, bank)
        lists = list(batch.deliveries.values_list("list_name", flat=True))
        assert killed_at(point, 1, lambda: destroy_batch(batch, actor=world.clerk))
        batch.refresh_from_db()
        assert (batch.status, CardholderRecord.objects.count()) == (BatchStatus.DESTROYED, 0)
        assert PendingRemoval.objects.exists()
        assert remove_pending() > 0
        assert not PendingRemoval.objects.exists()
        assert not keystore().exists(batch.key_id)
        assert not any(map(default_storage.exists, lists))
        run_queued()
        assert bytes(DestructionCertificate.objects.get().signature)
