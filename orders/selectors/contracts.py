"""What of a contract is used and left, and why an order may not be placed under it (R-1, R-2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from django.db.models import DecimalField, ExpressionWrapper, F, Sum

from orders.choices import CardKind, ContractStatus, OrderStatus
from orders.models import Contract, Order
from portal.core.clock import format_day
from portal.core.errors import PortalError
from portal.core.money import format_yuan

BILLED_KINDS = (CardKind.FINISHED, CardKind.PREMADE)  # test and sample cards are never billed


class ContractRefusedError(PortalError):
    """The contract does not carry another order; subclasses name the reason."""

    code = "contract_refused"


class ContractInactiveError(ContractRefusedError):
    """The contract is a draft or closed."""

    code = "contract_inactive"


class ContractEndedError(ContractRefusedError):
    """Three years after signing are over (R-2)."""

    code = "contract_ended"


class ContractQuantityError(ContractRefusedError):
    """The lot's quantity would be exceeded (R-1)."""

    code = "contract_quantity"


class ContractBudgetError(ContractRefusedError):
    """The lot's budget would be exceeded (R-1, R-44)."""

    code = "contract_budget"


@dataclass(frozen=True, slots=True)
class ContractUse:
    """Cards and yuan ordered under a contract and what is left; test and sample cards count for neither."""

    quantity: int
    amount: Decimal
    quantity_left: int
    amount_left: Decimal

    @property
    def is_used_up(self) -> bool:
        """Tell whether nothing more can be ordered, which ends the contract early (R-2)."""
        return self.quantity_left <= 0 or self.amount_left <= 0


def contract_use(contract: Contract) -> ContractUse:
    """Add up the orders of a contract that are not cancelled (R-1, R-2)."""
    price = ExpressionWrapper(F("quantity") * F("unit_price"), output_field=DecimalField())
    placed = (
        Order.objects.filter(contract=contract, card_kind__in=BILLED_KINDS)
        .exclude(status=OrderStatus.CANCELLED)
        .aggregate(cards=Sum("quantity"), yuan=Sum(price))
    )
    quantity, amount = placed["cards"] or 0, placed["yuan"] or Decimal("0.00")
    return ContractUse(quantity, amount, contract.quantity_cap - quantity, contract.budget - amount)


def term_refusal(contract: Contract, on: date) -> ContractRefusedError | None:
    """Say why no order can be placed under the contract on a day, or None (R-2)."""
    if contract.status != ContractStatus.ACTIVE:
        return ContractInactiveError(
            "合同不在执行中", where=str(contract), expected="执行中", got=str(contract.get_status_display())
        )
    if on > contract.ends_on:
        return ContractEndedError(
            "合同已到期（R-2）",
            where=str(contract),
            expected=f"不晚于{format_day(contract.ends_on)}",
            got=format_day(on),
        )
    return None


def order_refusal(contract: Contract, card_kind: str, quantity: int, on: date) -> ContractRefusedError | None:
    """Say why an order of `quantity` cards cannot be placed on a day, or None (R-1, R-2)."""
    refusal = term_refusal(contract, on)
    if refusal is not None or card_kind not in BILLED_KINDS:
        return refusal
    use = contract_use(contract)
    if quantity > use.quantity_left:
        return ContractQuantityError(
            "超出合同数量（R-1）",
            where=str(contract),
            expected=f"剩余 {use.quantity_left} 张",
            got=f"{quantity} 张",
        )
    amount = quantity * contract.price_of(card_kind)
    if amount > use.amount_left:
        return ContractBudgetError(
            "超出合同预算（R-1）",
            where=str(contract),
            expected=f"剩余 {format_yuan(use.amount_left)}",
            got=format_yuan(amount),
        )
    return None
