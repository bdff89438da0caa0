"""Batches whose cards have their outcomes without chips, faces or files: for what only counts cards."""

from __future__ import annotations

from dataclasses import asdict

from portal.models import Task, User
from production.choices import BatchStatus, ItemStatus, Outcome, RunStatus
from production.models import Batch, BatchItem, Card, Delivery, MachineFile
from production.services import preparation
from production.services.closing import close_batch, ledger_counts, totals
from production.services.delivery import confirm_carton, dispatch_batch, sign_delivery
from production.services.packing import pack_batch
from tests.production.world import World, run_queued


def light_batch(
    world: World, quantity: int, *, rejected: int = 0, reason: str = "print_fault", batch: Batch | None = None
) -> Batch:
    """Return a batch in inspection whose positions have good cards, after so many rejected ones."""
    batch = batch or world.released(quantity, blanks=quantity + rejected + 10)
    batch = preparation.prepare_batch(batch, actor=world.operator)
    while rejected:
        spoiled = min(rejected, quantity)
        _settle(batch, spoiled, reason)
        batch = preparation.start_remake(batch, actor=world.operator)
        rejected -= spoiled
    _settle(batch, 0, "")
    Task.objects.filter(subject_type="production.machinefile").delete()
    batch.refresh_from_db()
    return batch


def _settle(batch: Batch, spoiled: int, reason: str) -> None:
    made = Card.objects.filter(batch=batch, outcome=Outcome.PENDING).order_by("pk")
    bad = list(made.values_list("pk", "item_id")[:spoiled])
    Card.objects.filter(pk__in=[pk for pk, _ in bad]).update(outcome=Outcome.REJECTED, reason=reason)
    BatchItem.objects.filter(pk__in=[item for _, item in bad]).update(status=ItemStatus.PENDING)
    good = Card.objects.filter(batch=batch, outcome=Outcome.PENDING)
    BatchItem.objects.filter(pk__in=good.values("item")).update(status=ItemStatus.GOOD)
    good.update(outcome=Outcome.GOOD)
    MachineFile.objects.filter(batch=batch).update(status=RunStatus.INSPECTED)
    Batch.objects.filter(pk=batch.pk).update(status=BatchStatus.INSPECTING)


def light_inspected(world: World, quantity: int, *, rejected: int = 0, batch: Batch | None = None) -> Batch:
    """Return such a batch with its inspection finished."""
    batch = light_batch(world, quantity, rejected=rejected, batch=batch)
    Batch.objects.filter(pk=batch.pk).update(status=BatchStatus.INSPECTED)
    batch.refresh_from_db()
    return batch


def light_closed(world: World, quantity: int, *, batch: Batch | None = None) -> Batch:
    """Return such a batch with its counts balanced."""
    batch = light_inspected(world, quantity, batch=batch)
    counts = totals(ledger_counts(batch))
    return close_batch(batch, **asdict(counts), actor=world.operator)


def light_packed(world: World, quantity: int, *, batch: Batch | None = None) -> Batch:
    """Return such a batch in cartons, its lists written."""
    packed = pack_batch(light_closed(world, quantity, batch=batch), actor=world.operator)
    run_queued()
    return packed


def light_dispatched(world: World, quantity: int, *, batch: Batch | None = None) -> Batch:
    """Return such a batch on its way to the bank."""
    return dispatch_batch(light_packed(world, quantity, batch=batch), actor=world.operator)


def sign(delivery: Delivery, clerk: User) -> Delivery:
    """Confirm every carton and sign."""
    for carton in delivery.cartons.all():
        confirm_carton(carton, counted=carton.card_count, actor=clerk)
    return sign_delivery(delivery, actor=clerk)


def light_signed(world: World, quantity: int, clerk: User, *, batch: Batch | None = None) -> Batch:
    """Return such a batch with every delivery signed for."""
    sent = light_dispatched(world, quantity, batch=batch)
    for delivery in sent.deliveries.all():
        sign(delivery, clerk)
    sent.refresh_from_db()
    return sent
