"""Turn matched records into orders for the supplier each bank has chosen (R-6, R-10)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from orders.choices import CardKind, RecordStatus
from orders.models import CardholderRecord, Contract, Order, SupplierChoice
from orders.selectors.contracts import term_refusal
from orders.selectors.orders import current_choices, matched_records, refusal_of
from orders.services.calendar import due_date, hold_calendar, work_calendar
from orders.services.locking import lock_banks
from portal.audit import UnitOfWork, unit_of_work
from portal.choices import OrganisationKind
from portal.core.clock import day_of, format_day, today
from portal.core.errors import ConflictError, InputRefusedError, PortalError
from portal.models import Organisation, User
from portal.roles import require
from portal.workflow import locked, move

LETTERS: Mapping[str, str] = {
    CardKind.FINISHED: "F",
    CardKind.PREMADE: "P",
    CardKind.TEST: "T",
    CardKind.SAMPLE: "S",
}


class ChoiceRefusedError(InputRefusedError):
    """A choice of supplier that cannot be made."""

    code = "choice_refused"


class RecordNotMatchedError(ConflictError):
    """A record that is not matched, or that has its order already."""

    code = "record_not_matched"


class MatchDayRefusedError(InputRefusedError):
    """Matching cannot have been completed on this day."""

    code = "matched_on_refused"


def choose_supplier(
    bank: Organisation, contract: Contract, *, valid_from: date, reason: str = "", actor: User
) -> SupplierChoice:
    """Record a bank's decision which supplier makes its cards from a day on; earlier ones stay (R-6)."""
    require(actor, "orders.choose_supplier", bank)
    if bank.kind != OrganisationKind.BANK:
        raise ChoiceRefusedError("只有银行可以选定中标人", got=str(bank))
    with unit_of_work(actor) as work:
        contract = Contract.objects.select_for_update(no_key=True).get(pk=contract.pk)
        if refusal := term_refusal(contract, max(valid_from, today())):
            raise refusal
        if valid_from < contract.signed_on:
            raise ChoiceRefusedError(
                "生效日期早于合同签订日期",
                expected=f"不早于{format_day(contract.signed_on)}",
                got=format_day(valid_from),
            )
        choice = SupplierChoice.objects.create(
            bank=bank, contract=contract, valid_from=valid_from, reason=reason.strip()[:200], chosen_by=actor
        )
        work.record(
            "supplier.chosen", choice, bank=bank.code, contract=contract.number, valid_from=f"{valid_from}"
        )
    return choice


def create_orders(
    *, actor: User, matched_on: date | None = None, bank: Organisation | None = None
) -> list[Order]:
    """Order everything that is matched: one order for each bank and card kind, due 6 working days on (R-10).

    `matched_on` is the day matching was completed, by default the earliest day on which a record of the
    group was matched. A group that cannot be ordered (no choice, contract over or used up) is audited
    and stays matched; `selectors.orders.waiting_groups` says why.
    """
    require(actor, "orders.create_order", bank)
    if matched_on is not None and matched_on > today():
        raise MatchDayRefusedError("匹配完成日期在今天之后", got=format_day(matched_on))
    with unit_of_work(actor) as work:
        hold_calendar()
        waiting = matched_records(bank).order_by("bank_id").values_list("bank_id", flat=True).distinct()
        choices = _locked_choices(set(waiting))
        orders = []
        for held in lock_banks(waiting):
            orders += _order_bank(held, choices.get(held.pk), matched_on, work)
    return orders


def order_record(record: CardholderRecord, *, actor: User) -> Order:
    """Place an order for one matched record that is made at a counter today (R-14).

    Raises what keeps its group from being ordered, and RecordNotMatchedError for any other record.
    """
    require(actor, "stations.issue_card")
    with unit_of_work(actor) as work:
        hold_calendar()
        assert record.bank_id is not None, "a matched record has its bank"
        (bank,) = lock_banks([record.bank_id])
        choices = _locked_choices({bank.pk})
        fresh = locked(record)
        if fresh.status != RecordStatus.MATCHED:
            raise RecordNotMatchedError(
                "该记录不是待下单的已匹配记录",
                expected=str(RecordStatus.MATCHED.label),
                got=str(fresh.get_status_display()),
            )
        order = _place(bank, choices.get(bank.pk), fresh.card_kind, 1, today(), work)
        move(fresh, RecordStatus.ORDERED, actor=actor, order=order)
    return order


def _locked_choices(banks: set[int]) -> dict[int, SupplierChoice]:
    """Return the choices in force with their contracts locked: caps are checked one order at a time (R-1)."""
    choices = current_choices(banks, today())
    wanted = {choice.contract_id for choice in choices.values()}
    contracts = {
        contract.pk: contract
        for contract in Contract.objects.select_for_update(no_key=True).filter(pk__in=wanted).order_by("pk")
    }
    for choice in choices.values():
        choice.contract = contracts[choice.contract_id]
    return choices


def _order_bank(
    bank: Organisation, choice: SupplierChoice | None, matched_on: date | None, work: UnitOfWork
) -> list[Order]:
    orders = []
    for card_kind in CardKind.values:
        records = matched_records(bank).filter(card_kind=card_kind)
        # The lock keeps corrections and cancellations out until the records have their order.
        moments = records.select_for_update().order_by("id").values_list("matched_at", flat=True)
        days = [day_of(at) if at else today() for at in moments]
        if not days:
            continue
        try:
            order = _place(bank, choice, card_kind, len(days), matched_on or min(days), work)
        except PortalError as exc:
            details = {"code": exc.code, "card_kind": card_kind, "quantity": len(days)}
            work.record("order.refused", bank, result="refused", **details)
            continue
        records.update(status=RecordStatus.ORDERED, order=order)
        orders.append(order)
    return orders


def _place(
    bank: Organisation,
    choice: SupplierChoice | None,
    card_kind: str,
    quantity: int,
    matched_on: date,
    work: UnitOfWork,
) -> Order:
    """Write the order of one group; raise what keeps it from being placed."""
    if refusal := refusal_of(choice, card_kind, quantity):
        raise refusal
    assert choice is not None
    due_on, provisional = due_date(matched_on, work_calendar(matched_on))
    order = Order.objects.create(
        number=_next_number(bank, card_kind),
        bank=bank,
        contract=choice.contract,
        card_kind=card_kind,
        quantity=quantity,
        unit_price=choice.contract.price_of(card_kind),
        matched_on=matched_on,
        due_on=due_on,
        due_is_provisional=provisional,
        created_by=work.actor or User.objects.system(),
    )
    work.record(
        "order.created", order, quantity=quantity, contract=choice.contract.number, due_on=f"{due_on}"
    )
    return order


def _next_number(bank: Organisation, card_kind: str) -> str:
    """Return the next number of the day, such as DD20261123-ICBC-F-001; the bank's lock keeps it single."""
    prefix = f"DD{today():%Y%m%d}-{bank.code[:20]}-{LETTERS[card_kind]}-"
    taken = Order.objects.filter(number__startswith=prefix).values_list("number", flat=True)
    last = max((int(number.removeprefix(prefix)) for number in taken), default=0)
    return f"{prefix}{last + 1:03d}"
