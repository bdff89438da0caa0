"""Background work of delivery: lists and return files."""

from __future__ import annotations

from orders.services.rekeying import hold_packages
from portal.core.crypto import sm3_hasher
from portal.core.sheets import write_list as write_sheet
from portal.files import read_sealed, write_sealed
from portal.models import Task
from production import delivery_list
from production.models import Batch, Delivery
from production.services import returns

RELATED = ("delivery_point", "batch__order__bank", "batch__order__contract__supplier")


def write_list(task: Task) -> None:
    """Write a delivery's list as a sealed Excel file; a second run writes the same name again."""
    delivery = Delivery.objects.select_related(*RELATED).get(pk=task.subject_id)
    name = f"batches/{delivery.batch_id}/lists/{delivery.pk}.xlsx"
    items = delivery.batch.items.filter(record__isnull=False)
    hold_packages(items.values_list("record__package_id", flat=True).order_by().distinct())
    with write_sealed(name, delivery.batch.key_id) as target:
        write_sheet(
            target,
            title=f"社会保障卡交接清单 {delivery.number}",
            columns=delivery_list.COLUMNS,
            rows=delivery_list.rows(delivery),
            header_lines=delivery_list.header_lines(delivery),
        )
    Delivery.objects.filter(pk=delivery.pk).update(list_name=name, list_digest=_digest(name, delivery.batch))


def _digest(name: str, batch: Batch) -> bytes:
    hasher = sm3_hasher()
    with read_sealed(name, batch.key_id) as reader:
        while block := reader.read(1 << 16):
            hasher.update(block)
    return hasher.finalize()


def write_return_file(task: Task) -> None:
    """Write the return file of a signed batch."""
    batch = Batch.objects.select_related("order__bank").get(pk=task.subject_id)
    returns.write_return_file(batch, actor=task.requested_by)
