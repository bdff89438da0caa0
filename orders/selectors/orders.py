"""Reads about orders: days left, the light, whose choice counts, and what waits to be ordered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import Count, Min, QuerySet

from orders.choices import CardKind, OrderStatus, RecordStatus
from orders.models import CardholderRecord, Order, SupplierChoice
from orders.selectors.calendar import work_calendar
from orders.selectors.contracts import order_refusal
from portal.core.clock import today as city_today
from portal.core.errors import PortalError
from portal.core.workdays import WorkCalendar
from portal.models import Organisation, User

AMBER_DAYS = 2  # working days left from which an order is shown amber
RED_DAYS = 0  # due today, or late
FINISHED = (OrderStatus.COMPLETED, OrderStatus.CANCELLED)


class NoChoiceError(PortalError):
    """The bank has not chosen a supplier yet (R-6)."""

    code = "no_supplier_choice"


@dataclass(frozen=True, slots=True)
class Progress:
    """How an order stands against its deadline (R-10); `days_left` are working days, negative when late."""

    days_left: int
    light: str


@dataclass(frozen=True, slots=True)
class WaitingGroup:
    """Matched records of one bank and card kind without an order; `refusal` says why none can be placed."""

    bank: Organisation
    card_kind: str
    quantity: int
    matched_at: datetime
    refusal: PortalError | None

    @property
    def card_kind_label(self) -> str:
        """Return the Chinese name of the card kind."""
        return str(CardKind(self.card_kind).label)


def days_left(order: Order, today: date | None = None, calendar: WorkCalendar | None = None) -> int:
    """Count the working days from `today` to the deadline; 0 on the day itself, negative when late."""
    start = today or city_today()
    calendar = calendar or work_calendar(start, order.due_on)
    return calendar.workdays_between(start, order.due_on)


def light(order: Order, today: date | None = None, calendar: WorkCalendar | None = None) -> str:
    """Return green, amber (2 working days or fewer left), red (due today or late), or done."""
    if order.status in FINISHED:
        return "done"
    left = days_left(order, today, calendar)
    late = order.due_on <= (today or city_today())
    if late or left <= RED_DAYS:
        return "red"
    return "amber" if left <= AMBER_DAYS else "green"


def progress(orders: Iterable[Order], today: date | None = None) -> dict[int, Progress]:
    """Return the progress of a page of orders by key, reading the calendar once."""
    start, page = today or city_today(), list(orders)
    calendar = work_calendar(start, *{order.due_on for order in page})
    return {
        order.pk: Progress(days_left(order, start, calendar), light(order, start, calendar)) for order in page
    }


def current_choices(banks: Iterable[int], on: date) -> dict[int, SupplierChoice]:
    """Return the supplier choice of each bank (by key) that is in force on a day (R-6)."""
    rows = (
        SupplierChoice.objects.filter(bank__in=list(banks), valid_from__lte=on)
        .order_by("bank_id", "-valid_from", "-id")
        .distinct("bank_id")
        .select_related("contract__supplier")
    )
    return {choice.bank_id: choice for choice in rows}


def current_choice(bank: Organisation, on: date | None = None) -> SupplierChoice | None:
    """Return the bank's supplier choice in force on a day, by default today (R-6)."""
    return current_choices([bank.pk], on or city_today()).get(bank.pk)


def matched_records(bank: Organisation | None = None) -> QuerySet[CardholderRecord]:
    """Return the records that wait for an order."""
    records: QuerySet[CardholderRecord] = CardholderRecord.objects.filter(status=RecordStatus.MATCHED)
    return records if bank is None else records.filter(bank=bank)


def waiting_groups(user: User, *, bank: Organisation | None = None) -> list[WaitingGroup]:
    """List matched records without an order by bank and card kind, with what keeps them waiting."""
    records = matched_records(bank).filter(pk__in=CardholderRecord.objects.visible_to(user).values("pk"))
    rows = list(
        records.order_by("bank_id", "card_kind")
        .values("bank", "card_kind")
        .annotate(quantity=Count("id"), matched_at=Min("matched_at"))
    )
    banks = Organisation.objects.in_bulk({row["bank"] for row in rows})
    choices = current_choices(banks, city_today())
    return [
        WaitingGroup(
            banks[row["bank"]],
            row["card_kind"],
            row["quantity"],
            row["matched_at"],
            refusal_of(choices.get(row["bank"]), row["card_kind"], row["quantity"]),
        )
        for row in rows
    ]


def refusal_of(choice: SupplierChoice | None, card_kind: str, quantity: int) -> PortalError | None:
    """Say why no order can be placed for a group today, or None (R-1, R-2, R-6)."""
    if choice is None:
        return NoChoiceError("该银行尚未选定中标人（R-6）")
    return order_refusal(choice.contract, card_kind, quantity, city_today())
