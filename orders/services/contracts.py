"""Put contracts into force and end them (R-1, R-2)."""

from __future__ import annotations

from django.db import IntegrityError

from orders.choices import ContractStatus
from orders.models import Contract
from orders.selectors.contracts import ContractEndedError
from portal.choices import OrganisationKind
from portal.core.clock import format_day, today
from portal.core.errors import ConflictError, InputRefusedError
from portal.models import User
from portal.roles import require
from portal.workflow import move


def activate_contract(contract: Contract, *, actor: User) -> Contract:
    """Bring a signed contract into force; a lot has one such contract at a time (R-1)."""
    require(actor, "orders.activate_contract", contract)
    _check_term(contract)
    if contract.supplier.kind != OrganisationKind.SUPPLIER or not contract.supplier.is_active:
        raise InputRefusedError(
            "合同的中标人不是启用的中标人", where=str(contract), got=str(contract.supplier)
        )
    try:
        return move(contract, ContractStatus.ACTIVE, actor=actor)
    except IntegrityError as exc:
        raise ConflictError("该包组已有执行中的合同（R-1）", where=str(contract.get_lot_display())) from exc


def close_contract(contract: Contract, *, reason: str, actor: User) -> Contract:
    """End a contract; orders placed under it are still made and settled (R-2)."""
    require(actor, "orders.activate_contract", contract)
    if not reason.strip():
        raise InputRefusedError("请填写终止原因")
    return move(contract, ContractStatus.CLOSED, actor=actor, details={"reason": reason.strip()[:200]})


def _check_term(contract: Contract) -> None:
    contract.refresh_from_db()
    now = today()
    if contract.signed_on > now:
        raise InputRefusedError(
            "合同签订日期在今天之后",
            where=str(contract),
            expected=f"不晚于{format_day(now)}",
            got=format_day(contract.signed_on),
        )
    if contract.ends_on < now:
        raise ContractEndedError("合同已到期（R-2）", where=str(contract), got=format_day(contract.ends_on))
