"""The contract's roster: who may be named in a work plan; every change is on record (R-15)."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from orders.models import Contract
from portal.audit import unit_of_work
from portal.core.errors import ConflictError, InputRefusedError
from portal.models import User
from portal.roles import require
from portal.workflow import locked
from production.models import RosterMember


class RosterRefusedError(InputRefusedError):
    """A roster entry without a name or a position."""

    code = "roster_refused"


def add_member(contract: Contract, *, name: str, position: str, actor: User) -> RosterMember:
    """Put a person on the contract's roster."""
    require(actor, "production.manage_roster", contract)
    name, position = name.strip(), position.strip()
    if not name or not position:
        raise RosterRefusedError("须填写姓名和岗位")
    with unit_of_work(actor) as work:
        try:
            with transaction.atomic():
                member = RosterMember.objects.create(contract=contract, name=name, position=position)
        except IntegrityError as exc:
            raise ConflictError("该姓名已在合同名册中", where=contract.number, got=name) from exc
        work.record("rostermember.added", member)
    return member


def set_member_active(member: RosterMember, *, active: bool, actor: User) -> RosterMember:
    """Take a person off the roster, or put them back; past plans keep their people."""
    require(actor, "production.manage_roster", member)
    with unit_of_work(actor) as work:
        fresh = locked(member)
        if fresh.is_active == active:
            raise ConflictError("人员已在岗" if active else "人员已离岗", where=fresh.name)
        fresh.is_active = active
        fresh.save(update_fields=["is_active"])
        work.record("rostermember.returned" if active else "rostermember.left", fresh)
    return fresh
