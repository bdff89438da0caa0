"""Receiving a delivery: the bank's word on several cartons, taken together or not at all (R-23)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portal.audit import unit_of_work
from portal.core.errors import InputRefusedError
from portal.models import User
from portal.roles import require
from production.models import Delivery, Receipt
from production.services.delivery import confirm_carton


class NothingCountedError(InputRefusedError):
    """A confirmation that names no carton."""

    code = "nothing_counted"


@dataclass(frozen=True, slots=True)
class CartonCount:
    """What the bank counted in one carton."""

    counted: int
    missing_positions: Sequence[int] = ()
    note: str = ""


def confirm_cartons(delivery: Delivery, counts: Mapping[int, CartonCount], *, actor: User) -> list[Receipt]:
    """Take the counts of cartons by key; the first that is refused takes none of them."""
    require(actor, "production.sign_delivery", delivery)
    if not counts:
        raise NothingCountedError("请至少填写一箱的实点张数", where=delivery.number)
    with unit_of_work(actor):
        return [
            confirm_carton(
                carton,
                counted=counts[carton.pk].counted,
                missing_positions=counts[carton.pk].missing_positions,
                note=counts[carton.pk].note,
                actor=actor,
            )
            for carton in delivery.cartons.filter(pk__in=counts).order_by("number")
        ]
