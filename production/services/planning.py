"""Batches cut from an order, and the work plan the purchaser approves before any work starts (R-15)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence

from django.db.models import F
from django.utils import timezone

from orders.choices import OrderStatus, RecordStatus, SortOrder
from orders.models import BankProfile, CardholderRecord, Order
from portal.audit import unit_of_work
from portal.bulk import copy_rows
from portal.core.clock import day_of, today
from portal.core.errors import ConflictError, InputRefusedError
from portal.models import User
from portal.roles import require, require_second_person
from portal.workflow import check_move, locked, move
from production.choices import BatchStatus, ItemStatus, PlanStatus
from production.models import Batch, BatchItem, RosterMember, WorkPlan

BATCH_SIZE = 2000


class BatchPlanError(InputRefusedError):
    """Sizes of batches that do not fit the order."""

    code = "batch_plan"


class WorkPlanError(InputRefusedError):
    """A work plan that breaks R-15; `where` names the part."""

    code = "work_plan"


def plan_batches(
    order: Order, *, batch_size: int = BATCH_SIZE, sizes: Sequence[int] | None = None, actor: User
) -> list[Batch]:
    """Cut an open order into batches, its records in one fixed order; the order goes into production.

    `sizes` gives each batch's quantity and must sum to the order's records; otherwise all have
    `batch_size` but the last.
    """
    require(actor, "production.plan_batch", order)
    with unit_of_work(actor) as work:
        fresh = move(order, OrderStatus.IN_PRODUCTION, actor=actor)
        profile = BankProfile.objects.filter(organisation=fresh.bank).first() or BankProfile()
        records = _sorted_records(fresh, profile.sort_order)
        quantities = _quantities(len(records), batch_size, sizes)
        batches = _create_batches(fresh, profile, quantities, actor)
        copy_rows(
            BatchItem,
            ("batch", "sequence", "record", "delivery_point", "status"),
            _item_rows(batches, records),
        )
        for batch in batches:
            work.record("batch.planned", batch, order=fresh.number, quantity=batch.quantity)
    return batches


def propose_plan(
    batch: Batch,
    *,
    place: str,
    starts_at: dt.datetime,
    ends_at: dt.datetime,
    leader: RosterMember,
    people: Iterable[RosterMember],
    actor: User,
) -> WorkPlan:
    """Put place, time and people of a batch before the purchaser (R-15).

    The leader is one of the people, all are active on the contract's roster, and work ends by the due
    date, or today where that has passed already.
    """
    require(actor, "production.propose_plan", batch)
    crew = {person.pk: person for person in people}
    with unit_of_work(actor) as work:
        fresh = locked(batch)
        check_move(fresh, BatchStatus.APPROVED)
        if fresh.plans.filter(status__in=[PlanStatus.PROPOSED, PlanStatus.APPROVED]).exists():
            raise ConflictError("该批次已有待批或已批的工作日程", where=fresh.number)
        _check_times(fresh, place, starts_at, ends_at)
        _check_people(fresh, leader, crew.keys())
        plan = WorkPlan.objects.create(
            batch=fresh,
            place=place.strip(),
            starts_at=starts_at,
            ends_at=ends_at,
            leader=leader,
            proposed_by=actor,
        )
        plan.people.set(crew.values())
        work.record("workplan.proposed", plan, batch=fresh.number, people=len(crew))
    return plan


def decide_plan(plan: WorkPlan, *, approve: bool, reason: str = "", actor: User) -> WorkPlan:
    """Approve a plan and with it the batch, or refuse it with a reason, as the purchaser (R-15)."""
    require(actor, "production.approve_plan", plan)
    require_second_person(plan.proposed_by, actor, plan)
    if not approve and not reason.strip():
        raise WorkPlanError("驳回须说明原因", where="审批意见")
    target = PlanStatus.APPROVED if approve else PlanStatus.REFUSED
    with unit_of_work(actor):
        decided = move(
            plan, target, actor=actor, decided_by=actor, decided_at=timezone.now(), reason=reason.strip()
        )
        if approve:
            batch = move(decided.batch, BatchStatus.APPROVED, actor=actor)
            # People may have left the roster since the proposal.
            _check_people(batch, decided.leader, decided.people.values_list("pk", flat=True))
    return decided


def _sorted_records(order: Order, sort_order: str) -> list[tuple[int, int]]:
    """Return id and delivery point of the order's records: by point, then employer, then as received.

    Numbers stand sealed; cards of a bank that sorts by number get their places at packing (R-19).
    """
    records = CardholderRecord.objects.filter(order=order, status=RecordStatus.ORDERED)
    keys = ["delivery_point__code", "package_id", "row_number", "version"]
    if sort_order == SortOrder.EMPLOYER:
        keys.insert(1, "employer_code")
    return list(records.order_by(*keys).values_list("id", "delivery_point_id"))


def _quantities(total: int, batch_size: int, sizes: Sequence[int] | None) -> list[int]:
    if total < 1:
        raise BatchPlanError("订单没有可排产的记录", expected="≥ 1", got="0")
    if sizes is None:
        if batch_size < 1:
            raise BatchPlanError("每批数量须为正", expected="≥ 1", got=str(batch_size))
        return [min(batch_size, total - done) for done in range(0, total, batch_size)]
    if any(size < 1 for size in sizes) or sum(sizes) != total:
        raise BatchPlanError(
            "各批数量之和与订单不符", expected=str(total), got="+".join(map(str, sizes))[:60]
        )
    return list(sizes)


def _create_batches(order: Order, profile: BankProfile, quantities: list[int], actor: User) -> list[Batch]:
    width = max(2, len(str(len(quantities))))
    return Batch.objects.bulk_create(
        [
            Batch(
                number=f"{order.number}-{place:0{width}d}",
                order=order,
                quantity=quantity,
                card_kind=order.card_kind,
                sort_order=profile.sort_order,
                carton_size=profile.carton_size,
                due_on=order.due_on,
                created_by=actor,
            )
            for place, quantity in enumerate(quantities, 1)
        ]
    )


def _item_rows(
    batches: list[Batch], records: list[tuple[int, int]]
) -> Iterator[tuple[int, int, int, int, str]]:
    left = iter(records)
    for batch in batches:
        for sequence in range(1, batch.quantity + 1):
            record_id, point_id = next(left)
            yield batch.pk, sequence, record_id, point_id, ItemStatus.PENDING.value


def _check_times(batch: Batch, place: str, starts_at: dt.datetime, ends_at: dt.datetime) -> None:
    if not place.strip():
        raise WorkPlanError("须填写工作地点", where="工作地点")
    if ends_at <= starts_at:
        raise WorkPlanError("结束时间必须晚于开始时间", where="结束时间")
    latest = max(batch.due_on, today())
    if day_of(ends_at) > latest:
        raise WorkPlanError(
            "工作日程晚于交付期限（R-10）",
            where="结束时间",
            expected=f"不晚于 {latest}",
            got=f"{day_of(ends_at)}",
        )


def _check_people(batch: Batch, leader: RosterMember, crew: Iterable[int]) -> None:
    wanted = set(crew)
    if leader.pk not in wanted:
        raise WorkPlanError("负责人须在人员之中", where="负责人", got=leader.name)
    roster = RosterMember.objects.filter(contract_id=batch.order.contract_id, is_active=True)
    foreign = wanted - set(roster.filter(pk__in=wanted).values_list("pk", flat=True))
    if foreign:
        names = RosterMember.objects.filter(pk__in=foreign).values_list("name", flat=True)
        raise WorkPlanError(
            "人员不在该合同的在岗名册中（R-15）", where="人员", got="、".join(sorted(names))[:100]
        )


def sync_deadlines() -> int:
    """Take over due dates that an edit of the calendar moved; return how many batches changed."""
    running = [
        status
        for status in BatchStatus
        if status not in {BatchStatus.SIGNED, BatchStatus.DESTROYED, BatchStatus.CANCELLED}
    ]
    stale = Batch.objects.filter(status__in=running).exclude(due_on=F("order__due_on"))
    moved = 0
    for batch in stale.select_related("order"):
        with unit_of_work(User.objects.system()) as work:
            fresh = locked(batch)
            fresh.due_on = batch.order.due_on
            fresh.save(update_fields=["due_on"])
            work.record("batch.due_moved", fresh, before=str(batch.due_on), after=str(fresh.due_on))
            moved += 1
    return moved
