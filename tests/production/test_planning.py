"""Batches and work plans: nobody works before the purchaser approved place, time and people (R-15)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from orders.choices import OrderStatus
from orders.models import BankProfile, CardholderRecord, Contract, Order
from portal.core.clock import CITY_ZONE
from portal.core.errors import (
    ConflictError,
    PermissionRefusedError,
    SamePersonError,
    TransitionRefusedError,
)
from portal.models import AuditEntry
from production.choices import BatchStatus, PlanStatus
from production.models import Batch, BatchItem, RosterMember, WorkPlan
from production.services import planning
from tests.production.world import World, audit_count, build_world
from tests.refusals import refused


@pytest.fixture
def world(db: None) -> World:
    return build_world()


def state() -> tuple[Any, ...]:
    return (
        audit_count(),
        list(Order.objects.values_list("id", "status")),
        list(Batch.objects.order_by("id").values_list()),
        BatchItem.objects.count(),
        list(WorkPlan.objects.order_by("id").values_list()),
    )


def planned(world: World, count: int = 10) -> Batch:
    return planning.plan_batches(world.order(count), actor=world.planner)[0]


class TestBatches:
    def test_an_order_is_cut_into_batches(self, world: World) -> None:
        order = world.order(25)
        batches = planning.plan_batches(order, batch_size=10, actor=world.planner)
        order.refresh_from_db()
        assert order.status == OrderStatus.IN_PRODUCTION
        assert [(batch.number, batch.quantity) for batch in batches] == [
            (f"{order.number}-01", 10), (f"{order.number}-02", 10), (f"{order.number}-03", 5),
        ]  # fmt: skip
        assert {(batch.status, batch.due_on, batch.card_kind) for batch in batches} == {
            (BatchStatus.PLANNED, order.due_on, order.card_kind)
        }
        items = BatchItem.objects.filter(batch__in=batches)
        assert set(items.values_list("record", flat=True)) == set(order.records.values_list("id", flat=True))
        assert [list(batch.items.values_list("sequence", flat=True)) for batch in batches] == [
            list(range(1, 11)), list(range(1, 11)), list(range(1, 6)),
        ]  # fmt: skip
        assert not items.exclude(delivery_point=F("record__delivery_point")).exists()
        assert AuditEntry.objects.filter(action="batch.planned").count() == 3

    def test_positions_stand_by_point_employer_and_receipt(self, world: World) -> None:
        """R-19: a batch is in packing order as far as sealed columns allow."""
        batch = planned(world, 30)
        found = list(
            batch.items.order_by("sequence").values_list(
                "delivery_point__code", "record__employer_code", "record__row_number"
            )
        )
        assert found == sorted(found)
        assert len({code for code, _, _ in found}) == 2

    def test_sizes_may_be_given(self, world: World) -> None:
        batches = planning.plan_batches(world.order(10), sizes=[3, 7], actor=world.planner)
        assert [batch.quantity for batch in batches] == [3, 7]

    @pytest.mark.parametrize(
        "options",
        [{"sizes": [3, 6]}, {"sizes": [10, 0]}, {"sizes": []}, {"batch_size": 0}, {"batch_size": -1}],
    )
    def test_sizes_that_do_not_fit_are_refused(self, world: World, options: dict[str, Any]) -> None:
        order = world.order(10)
        before = state()
        with pytest.raises(planning.BatchPlanError):
            planning.plan_batches(order, actor=world.planner, **options)
        assert state() == before

    def test_an_order_is_cut_once(self, world: World) -> None:
        order = world.order(4)
        planning.plan_batches(order, actor=world.planner)
        before = state()
        with pytest.raises(TransitionRefusedError):
            planning.plan_batches(order, actor=world.planner)
        assert state() == before

    def test_an_order_without_records_is_refused(self, world: World) -> None:
        order = world.order(2)
        CardholderRecord.objects.filter(order=order).delete()
        before = state()
        with pytest.raises(planning.BatchPlanError):
            planning.plan_batches(order, actor=world.planner)
        assert state() == before

    def test_the_banks_packing_is_taken_over(self, world: World) -> None:
        """R-19: each bank says how its cards are sorted and how many go into a carton."""
        BankProfile.objects.filter(organisation=world.bank).update(sort_order="number", carton_size=77)
        batch = planned(world)
        assert (batch.sort_order, batch.carton_size) == ("number", 77)

    def test_another_supplier_is_refused(self, world: World) -> None:
        order = world.order(4)
        before = state()
        for actor in (world.other_planner, world.operator, world.clerk):
            with pytest.raises(PermissionRefusedError):
                planning.plan_batches(order, actor=actor)
        assert state() == before

    def test_a_due_date_that_moved_is_taken_over_once(self, world: World) -> None:
        """R-10: an edited calendar moves orders; their batches follow."""
        batch = planned(world)
        later = batch.due_on + dt.timedelta(days=1)
        Order.objects.update(due_on=later)
        assert planning.sync_deadlines() == 1
        assert planning.sync_deadlines() == 0
        batch.refresh_from_db()
        assert batch.due_on == later


class TestPlans:
    def test_the_purchaser_approves_what_the_supplier_proposes(self, world: World) -> None:
        """R-15: place, start, end and people, approved by the purchaser."""
        batch = planned(world)
        plan = world.propose(batch)
        assert (plan.status, set(plan.people.all())) == (PlanStatus.PROPOSED, set(world.roster[:2]))
        decided = planning.decide_plan(plan, approve=True, actor=world.approver)
        batch.refresh_from_db()
        assert (decided.status, decided.decided_by, batch.status) == (
            PlanStatus.APPROVED, world.approver, BatchStatus.APPROVED,
        )  # fmt: skip

    def test_a_refused_plan_makes_room_for_the_next(self, world: World) -> None:
        batch = planned(world)
        planning.decide_plan(world.propose(batch), approve=False, reason="人员不足", actor=world.approver)
        batch.refresh_from_db()
        assert batch.status == BatchStatus.PLANNED
        planning.decide_plan(world.propose(batch), approve=True, actor=world.approver)
        assert list(batch.plans.order_by("id").values_list("status", flat=True)) == ["refused", "approved"]

    def test_one_plan_at_a_time(self, world: World) -> None:
        batch = planned(world)
        plan = world.propose(batch)
        before = state()
        with pytest.raises(ConflictError):
            world.propose(batch)
        assert state() == before
        with pytest.raises(IntegrityError, match="work_plan_one_open"), transaction.atomic():
            WorkPlan.objects.create(
                batch=batch, place="x", starts_at=plan.starts_at, ends_at=plan.ends_at, leader=plan.leader,
                proposed_by=world.planner,
            )  # fmt: skip

    def test_refusing_needs_a_reason(self, world: World) -> None:
        plan = world.propose(planned(world))
        before = state()
        with pytest.raises(planning.WorkPlanError):
            planning.decide_plan(plan, approve=False, reason=" ", actor=world.approver)
        assert state() == before

    @pytest.mark.parametrize("actor", ["planner", "clerk", "operator", "other_planner"])
    def test_only_the_purchasers_approver_decides(self, world: World, actor: str) -> None:
        plan = world.propose(planned(world))
        before = state()
        with pytest.raises(PermissionRefusedError):
            planning.decide_plan(plan, approve=True, actor=getattr(world, actor))
        assert state() == before

    def test_the_proposer_never_decides(self, world: World) -> None:
        plan = world.propose(planned(world))
        WorkPlan.objects.update(proposed_by=world.approver)
        plan.refresh_from_db()
        with refused(SamePersonError, audited=["second_person.refused"]):
            planning.decide_plan(plan, approve=True, actor=world.approver)
        with pytest.raises(IntegrityError, match="work_plan_two_people"), transaction.atomic():
            WorkPlan.objects.update(decided_by=world.approver)

    def test_work_ends_by_the_due_date(self, world: World) -> None:
        """R-10, R-15: the last minute of the due date, on the city's clock, is still in time."""
        batch = planned(world)
        midnight = dt.datetime.combine(batch.due_on + dt.timedelta(days=1), dt.time(), CITY_ZONE)
        before = state()
        with pytest.raises(planning.WorkPlanError) as refused:
            world.propose(batch, ends_at=midnight)
        assert refused.value.where == "结束时间"
        assert state() == before
        assert world.propose(batch, ends_at=midnight - dt.timedelta(minutes=1)).pk

    def test_a_batch_that_is_late_already_can_still_be_planned_for_today(self, world: World) -> None:
        batch = planned(world)
        Batch.objects.update(due_on=dt.date(2026, 1, 5))
        now = timezone.now()
        with pytest.raises(planning.WorkPlanError):
            world.propose(batch, ends_at=now + dt.timedelta(days=2))
        assert world.propose(batch, starts_at=now - dt.timedelta(hours=1), ends_at=now).pk

    def test_hostile_times_places_and_people(self, world: World) -> None:
        """R-15: people must be active on the roster of this very contract, the leader among them."""
        batch = planned(world)
        contract = Contract.objects.create(
            number="HT-2", lot=2, supplier=world.contract.supplier, quantity_cap=10, budget=10,
            finished_price=9, face_fee=1, signed_on=dt.date(2026, 1, 1),
        )  # fmt: skip
        stranger = RosterMember.objects.create(contract=contract, name="丁四", position="操作")
        absent = RosterMember.objects.create(
            contract=world.contract, name="戊五", position="操作", is_active=False
        )
        now, leader = timezone.now(), world.roster[0]
        before = state()
        for changes, where in (
            ({"place": "  "}, "工作地点"),
            ({"starts_at": now, "ends_at": now}, "结束时间"),
            ({"starts_at": now, "ends_at": now - dt.timedelta(hours=1)}, "结束时间"),
            ({"people": [leader, stranger]}, "人员"),
            ({"people": [leader, absent]}, "人员"),
            ({"people": []}, "负责人"),
            ({"leader": world.roster[2]}, "负责人"),
            ({"leader": stranger, "people": [stranger]}, "人员"),
        ):
            with pytest.raises(planning.WorkPlanError) as refused:
                world.propose(batch, **changes)
            assert refused.value.where == where
        assert state() == before

    def test_who_left_the_roster_meanwhile_stops_the_approval(self, world: World) -> None:
        """R-15: the roster counts at the moment of approval."""
        plan = world.propose(planned(world))
        RosterMember.objects.filter(pk=world.roster[1].pk).update(is_active=False)
        before = state()
        with pytest.raises(planning.WorkPlanError) as refused:
            planning.decide_plan(plan, approve=True, actor=world.approver)
        assert refused.value.got == "乙二"
        assert state() == before

    def test_an_approved_batch_takes_no_other_plan(self, world: World) -> None:
        batch = planned(world)
        world.approve(batch)
        before = state()
        with pytest.raises(TransitionRefusedError):
            world.propose(batch)
        assert state() == before
