"""A batch's verbs in the admin: who may press what, what it says and what it leaves behind."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from portal.choices import Role
from portal.models import Task
from production.choices import BatchStatus, PlanStatus, RequestStatus
from production.models import (
    Batch,
    Delivery,
    DestructionCertificate,
    ReturnFile,
    StockMovement,
    StockRequest,
    WorkPlan,
)
from production.services.cards import hold_batch
from tests.portal.desk import audited, last_action, make_person, page, said, text
from tests.production.stages import Stages, build_stages
from tests.production.world import run_queued, work_off

BATCH, PLAN, REQUEST, LOT = (
    "production.batch",
    "production.workplan",
    "production.stockrequest",
    "production.stocklot",
)


@pytest.fixture
def stages(db: None, settings: Any) -> Stages:
    return build_stages(settings)


def state() -> tuple[Any, ...]:
    return (
        audited(),
        Task.objects.count(),
        list(Batch.objects.order_by("id").values_list()),
        list(WorkPlan.objects.order_by("id").values_list()),
        list(StockRequest.objects.order_by("id").values_list()),
        list(StockMovement.objects.order_by("id").values_list()),
        list(Delivery.objects.order_by("id").values_list()),
    )


def refused(client: Client, address: str, values: dict[str, Any] | None = None) -> str:
    """Press a verb that must be refused with a message; assert that nothing changed."""
    before = state()
    answer = client.post(address, values or {})
    assert answer.status_code == 409
    assert state() == before
    return said(answer)


class TestPlanning:
    def test_the_planner_splits_an_open_order(self, stages: Stages) -> None:
        order = stages.world.order(5)
        planner = stages.desk("planner")
        assert f"{order}　工商银行　成品卡　5" in text(planner.get(page(BATCH, "split")))
        answer = planner.post(page(BATCH, "split"), {"order": order.pk, "batch_size": 2})
        assert said(answer) == f"已拆分为 3 个批次：{order}-01 至 {order}-03"
        assert answer["Location"] == page(BATCH, "changelist")
        assert list(Batch.objects.order_by("id").values_list("quantity", flat=True)) == [2, 2, 1]

    def test_another_supplier_is_not_offered_the_order(self, stages: Stages) -> None:
        order = stages.world.order(2)
        before = state()
        stranger = stages.desk("other_planner")
        assert str(order) not in text(stranger.get(page(BATCH, "split")))
        answer = stranger.post(page(BATCH, "split"), {"order": order.pk, "batch_size": 2})
        assert answer.status_code == 422
        assert state() == before

    def test_a_plan_is_proposed_and_approved_by_the_purchaser(self, stages: Stages) -> None:
        """R-15: place, time and people from the roster; the purchaser approves before work starts."""
        batch = self._planned(stages)
        planner = stages.desk("planner")
        answer = planner.post(page(BATCH, "propose", batch.pk), self._plan(stages))
        assert said(answer) == "工作日程已提交，待采购人批准"
        plan = WorkPlan.objects.get()
        assert set(plan.people.all()) == set(stages.world.roster[:2])
        assert "提交工作日程" not in text(planner.get(page(BATCH, "change", batch.pk)))
        answer = stages.desk("approver").post(page(PLAN, "approve", plan.pk), {"reason": ""})
        assert said(answer) == f"工作日程已批准，批次 {batch} 可以领用白卡"
        batch.refresh_from_db()
        assert batch.status == BatchStatus.APPROVED

    def test_only_people_of_the_contract_in_service_are_offered(self, stages: Stages) -> None:
        """R-15: the people must be on the contract's roster."""
        batch, gone = self._planned(stages), stages.world.roster[2]
        type(gone).objects.filter(pk=gone.pk).update(is_active=False)
        planner = stages.desk("planner")
        assert gone.name not in text(planner.get(page(BATCH, "propose", batch.pk)))
        before = state()
        answer = planner.post(page(BATCH, "propose", batch.pk), {**self._plan(stages), "people": [gone.pk]})
        assert answer.status_code == 422
        assert state() == before

    def test_a_plan_without_its_leader_is_refused_with_the_reason(self, stages: Stages) -> None:
        batch = self._planned(stages)
        plan = {**self._plan(stages), "people": [stages.world.roster[1].pk]}
        message = refused(stages.desk("planner"), page(BATCH, "propose", batch.pk), plan)
        assert message == "负责人须在人员之中；位置：负责人；实为：甲一（work_plan）"

    def test_a_refusal_needs_its_reason(self, stages: Stages) -> None:
        batch = self._planned(stages)
        plan = stages.world.propose(batch)
        approver, before = stages.desk("approver"), state()
        assert approver.post(page(PLAN, "refuse", plan.pk), {"reason": ""}).status_code == 422
        assert state() == before
        assert said(approver.post(page(PLAN, "refuse", plan.pk), {"reason": "人手不足"})) == "工作日程已驳回"
        plan.refresh_from_db()
        assert (plan.status, plan.reason) == (PlanStatus.REFUSED, "人手不足")
        assert "人手不足" in text(stages.desk("planner").get(page(BATCH, "change", batch.pk)))

    def test_the_planner_cannot_approve(self, stages: Stages) -> None:
        plan = stages.world.propose(self._planned(stages))
        before = state()
        assert stages.desk("planner").post(page(PLAN, "approve", plan.pk)).status_code == 403
        assert state() == before

    def _planned(self, stages: Stages) -> Batch:
        from production.services.planning import plan_batches

        return plan_batches(stages.world.order(2), actor=stages.world.planner)[0]

    def _plan(self, stages: Stages) -> dict[str, Any]:
        now = timezone.localtime()
        return {
            "place": "佛山一车间",
            "starts_at": f"{now:%Y-%m-%dT%H:%M}",
            "ends_at": f"{now + dt.timedelta(hours=8):%Y-%m-%dT%H:%M}",
            "leader": stages.world.roster[0].pk,
            "people": [person.pk for person in stages.world.roster[:2]],
        }


class TestBlanks:
    def test_two_keepers_withdraw_and_the_batch_is_released(self, stages: Stages) -> None:
        """R-21: every blank leaves the warehouse by two people."""
        batch, lot = self._approved(stages)
        first = stages.desk("keeper")
        shown = text(first.get(page(BATCH, "withdraw", batch.pk)))
        assert f"{lot}（库存 100）" in shown
        assert "建议 9 张（含备用）" in shown
        answer = first.post(page(BATCH, "withdraw", batch.pk), {"lot": lot.pk, "quantity": 9, "reason": ""})
        assert said(answer) == "已提出领用申请，须由另一名仓库管理员复核"
        request = StockRequest.objects.get()
        message = refused(first, page(REQUEST, "approve", request.pk))
        assert message == "须由另一人办理：同一用户不能既提出又复核（same_person）"
        assert (
            said(stages.desk("keeper_two").post(page(REQUEST, "approve", request.pk))) == "已同意，流水已记账"
        )
        batch.refresh_from_db()
        assert batch.status == BatchStatus.RELEASED
        moved = StockMovement.objects.get(kind="withdrawal")
        assert (moved.quantity, moved.requested_by, moved.approved_by) == (
            9, stages.world.keeper, stages.world.keeper_two,
        )  # fmt: skip

    def test_more_than_there_is_is_refused(self, stages: Stages) -> None:
        batch, lot = self._approved(stages)
        values = {"lot": lot.pk, "quantity": 101, "reason": ""}
        message = refused(stages.desk("keeper"), page(BATCH, "withdraw", batch.pk), values)
        assert message == f"白卡库数量不足；位置：{lot}；应为：≥ 101；实为：100（stock_short）"

    def test_the_second_keeper_refuses(self, stages: Stages) -> None:
        batch, lot = self._approved(stages)
        stages.desk("keeper").post(
            page(BATCH, "withdraw", batch.pk), {"lot": lot.pk, "quantity": 9, "reason": ""}
        )
        request = StockRequest.objects.get()
        assert said(stages.desk("keeper_two").post(page(REQUEST, "refuse", request.pk))) == "已拒绝"
        request.refresh_from_db()
        assert request.status == RequestStatus.REFUSED
        assert not StockMovement.objects.filter(kind="withdrawal").exists()
        assert "同意" not in text(stages.desk("keeper_two").get(page(REQUEST, "change", request.pk)))

    def test_a_lot_is_received_and_shown_with_its_balance(self, stages: Stages) -> None:
        keeper = stages.desk("keeper")
        values = {
            "contract": stages.world.contract.pk, "number": "BK-77", "serial_prefix": "FS77",
            "first_serial": 1, "quantity": 1500, "received_on": "2026-11-23",
        }  # fmt: skip
        answer = keeper.post(page(LOT, "receive"), values)
        assert said(answer) == "白卡批 BK-77 已入库 1,500 张"
        assert "1,500" in text(keeper.get(page(LOT, "changelist")))
        message = refused(keeper, page(LOT, "receive"), values)
        assert message == "白卡批号已入库；实为：BK-77（stock_refused）"

    def test_an_adjustment_waits_for_the_second_keeper(self, stages: Stages) -> None:
        lot = stages.world.lot(100)
        answer = stages.desk("keeper").post(page(LOT, "adjust", lot.pk), {"quantity": -3, "reason": "盘亏"})
        assert said(answer) == "已提出调整申请，须由另一人复核"
        assert StockMovement.objects.count() == 1
        stages.desk("keeper_two").post(page(REQUEST, "approve", StockRequest.objects.get().pk))
        assert "97" in text(stages.desk("keeper").get(page("production.stocklocation", "changelist")))

    def _approved(self, stages: Stages) -> tuple[Batch, Any]:
        from production.services.planning import plan_batches

        batch = plan_batches(stages.world.order(4), actor=stages.world.planner)[0]
        stages.world.approve(batch)
        return batch, stages.world.lot(100)


class TestMaking:
    def test_prepare_run_and_inspect(self, stages: Stages) -> None:
        """R-16: preparation, the line, the inspection; each button comes when its turn has come."""
        batch = stages.world.released(3)
        operator, quality = stages.desk("operator"), stages.desk("quality")
        assert "开始数据准备" in text(operator.get(page(BATCH, "change", batch.pk)))
        assert said(operator.post(page(BATCH, "prepare", batch.pk))) == "数据准备已开始"
        shown = text(operator.get(page(BATCH, "change", batch.pk)))
        assert "后台处理中" in shown
        work_off(batch)
        assert said(operator.post(page(BATCH, "run", batch.pk))) == "批次已上机"
        work_off(batch)
        assert said(quality.post(page(BATCH, "inspect", batch.pk))) == "读回检验已开始"
        assert stages.worked(batch).status == BatchStatus.INSPECTED
        shown = text(quality.get(page(BATCH, "change", batch.pk)))
        assert "0.000 %" in shown
        assert "后台处理中" not in shown

    def test_a_late_click_is_refused_and_changes_nothing(self, stages: Stages) -> None:
        batch = stages.world.released(2)
        message = refused(stages.desk("operator"), page(BATCH, "run", batch.pk))
        assert (
            message == f"批次 {batch} 当前状态不允许此操作；应为：待上机；实为：已下达（transition_refused）"
        )

    def test_a_remake_needs_blanks(self, stages: Stages, settings: Any) -> None:
        """R-11: rejects are made again from blanks that were withdrawn for it."""
        batch = stages.world.made(2, blanks=2)
        batch.cards.update(outcome="rejected")
        batch.items.update(status="pending")
        message = refused(stages.desk("operator"), page(BATCH, "remake", batch.pk))
        assert message == f"已领用的白卡不足，还缺 2 张；位置：{batch}；应为：2；实为：0（blanks_missing）"
        stages.world.withdraw(batch, stages.world.lot(2, first=77), 2)
        assert said(stages.desk("operator").post(page(BATCH, "remake", batch.pk))) == "第 2 轮已开始"


class TestClosing:
    COUNTS = {"good": 4, "rejected": 0, "samples": 0, "returned": 10}

    def test_blind_counts_that_differ_name_which_and_no_figures(self, stages: Stages) -> None:
        """R-21: nobody copies the system's numbers."""
        batch = stages.inspected()
        operator = stages.desk("operator")
        answer = operator.post(page(BATCH, "close", batch.pk), {**self.COUNTS, "good": 3})
        assert said(answer) == "清点数与系统账不符，请重新清点；位置：良品（counts_differ）"
        assert answer.status_code == 409
        batch.refresh_from_db()
        assert batch.status == BatchStatus.INSPECTED
        assert last_action() == "batch.counts_differ"
        assert said(operator.post(page(BATCH, "close", batch.pk), self.COUNTS)) == "数量相符，批次已核对"
        batch.refresh_from_db()
        assert batch.status == BatchStatus.CLOSED

    def test_who_counts_does_not_see_the_counts(self, stages: Stages) -> None:
        batch = stages.inspected()
        shown = text(stages.desk("operator").get(page(BATCH, "change", batch.pk)))
        for heading in ("良品进度", "读回", "已领用", "结果未知"):
            assert heading not in shown
        assert "良品进度" in text(stages.desk("approver").get(page(BATCH, "change", batch.pk)))
        assert 'value="4"' not in text(stages.desk("operator").get(page(BATCH, "close", batch.pk)))

    @pytest.mark.parametrize("name", ["quality", "planner", "keeper", "clerk"])
    def test_others_may_not_close(self, stages: Stages, name: str) -> None:
        batch = stages.inspected()
        before = state()
        assert stages.desk(name).post(page(BATCH, "close", batch.pk), self.COUNTS).status_code == 403
        assert state() == before


class TestShipping:
    def test_pack_and_dispatch(self, stages: Stages) -> None:
        """R-19, R-23: sorted into cartons, one delivery a point, lists written before it leaves."""
        batch = stages.closed()
        operator = stages.desk("operator")
        assert said(operator.post(page(BATCH, "pack", batch.pk))) == "已装箱，正在生成交接清单"
        message = refused(operator, page(BATCH, "dispatch", batch.pk))
        assert message == f"交接清单尚未生成完毕；位置：{batch}；实为：还有 2 份（list_not_ready）"
        run_queued()
        assert said(operator.post(page(BATCH, "dispatch", batch.pk))) == "已发货，待银行签收"
        assert set(Delivery.objects.values_list("status", "card_count")) == {("dispatched", 2)}

    def test_a_held_batch_neither_packs_nor_shows_itself_free(self, stages: Stages) -> None:
        """R-26: nothing ships until the hold is released."""
        batch = hold_batch(stages.closed(), "抽检不合格", actor=stages.world.quality)
        message = refused(stages.desk("operator"), page(BATCH, "pack", batch.pk))
        assert message == f"批次已冻结，不能装箱或发货；位置：{batch}；实为：抽检不合格（batch_held）"
        shown = text(stages.desk("clerk").get(page(BATCH, "changelist")))
        assert "冻结" in shown
        assert "抽检不合格" in text(stages.desk("clerk").get(page(BATCH, "change", batch.pk)))


class TestEnding:
    def test_return_file_destruction_and_certificate(self, stages: Stages) -> None:
        """R-22: the province's file first, then the data goes, then the certificate that proves it."""
        stages.province()
        batch = stages.signed()
        clerk = stages.desk("clerk")
        values = {"number": batch.number}
        assert refused(clerk, page(BATCH, "destroy", batch.pk), values) == (
            f"请先生成回盘文件；位置：{batch}（return_file_missing）"
        )
        assert said(clerk.post(page(BATCH, "send_return", batch.pk))) == "正在生成回盘文件"
        run_queued()
        file = ReturnFile.objects.get()
        answer = clerk.get(page("production.returnfile", "download", file.pk))
        assert answer["Content-Disposition"] == f'attachment; filename="{batch.number}.scp"'
        content = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
        assert content.startswith(b"PK")
        assert last_action() == "returnfile.downloaded"
        assert (
            said(clerk.post(page(BATCH, "destroy", batch.pk), values)) == "个人数据已销毁，正在签署销毁证明"
        )

    def test_another_number_does_not_destroy(self, stages: Stages) -> None:
        batch = stages.signed(2)
        before = state()
        answer = stages.desk("clerk").post(page(BATCH, "destroy", batch.pk), {"number": "X"})
        assert answer.status_code == 422
        assert "与本批次的批次号不一致" in text(answer)
        assert state() == before

    def test_certificate_downloads_and_verification(
        self, stages: Stages, django_capture_on_commit_callbacks: Any
    ) -> None:
        """R-22: signed, readable as PDF, checkable offline; a changed one is found out."""
        paper = self._certified(stages, django_capture_on_commit_callbacks)
        clerk, address = stages.desk("clerk"), "production.destructioncertificate"
        pdf = clerk.get(page(address, "pdf", paper.pk))
        assert pdf["Content-Type"] == "application/pdf"
        assert b"".join(pdf.streaming_content).startswith(b"%PDF")  # type: ignore[attr-defined]
        json = b"".join(clerk.get(page(address, "json", paper.pk)).streaming_content)  # type: ignore[attr-defined]
        assert paper.number.encode() in json
        assert said(clerk.post(page(address, "verify", paper.pk))).startswith("签名有效，公钥指纹 ")
        DestructionCertificate.objects.update(content={**paper.content, "record_count": 1})
        answer = clerk.post(page(address, "verify", paper.pk))
        assert said(answer) == f"签名不符：证明内容已被改动；位置：{paper}（certificate_forged）"

    def test_an_unsigned_certificate_is_not_given_out(self, stages: Stages) -> None:
        batch = stages.world.released(2)
        paper = DestructionCertificate.objects.create(number="XH-1", batch=batch, content={}, signature=b"")
        answer = stages.desk("clerk").get(page("production.destructioncertificate", "pdf", paper.pk))
        assert said(answer) == "数据仍在清除，证明尚未签署；位置：XH-1（certificate_unsigned）"
        assert answer.status_code == 302

    def _certified(self, stages: Stages, commits: Any) -> DestructionCertificate:
        stages.province()
        batch = stages.signed(2)
        clerk = stages.desk("clerk")
        with commits(execute=True):
            clerk.post(page(BATCH, "send_return", batch.pk))
        run_queued()
        with commits(execute=True):
            answer = clerk.post(page(BATCH, "destroy", batch.pk), {"number": batch.number})
        assert answer.status_code == 302, said(answer)
        run_queued()
        return DestructionCertificate.objects.get()


class TestHoldsFromTheBatch:
    def test_quality_stops_a_batch_and_the_purchaser_frees_it(self, stages: Stages) -> None:
        """R-26, R-31: a hold ends with a measure, by another person."""
        batch = stages.closed(2)
        answer = stages.desk("quality").post(page(BATCH, "hold", batch.pk), {"reason": "划痕"})
        assert said(answer) == "批次已冻结"
        hold = batch.holds.get()
        approver = stages.desk("approver")
        assert approver.post(page("quality.hold", "release", hold.pk), {"measure": ""}).status_code == 422
        answer = approver.post(page("quality.hold", "release", hold.pk), {"measure": "更换夹具"})
        assert said(answer) == f"批次 {batch} 已解除冻结"
        batch.refresh_from_db()
        assert batch.held_reason == ""
        assert "更换夹具" in text(approver.get(page(BATCH, "change", batch.pk)))


def test_a_counter_operator_sees_no_batches(stages: Stages) -> None:
    person = make_person(Role.COUNTER_OPERATOR, stages.world.bank, "counter")
    stages.bank_clerk = person
    assert stages.desk("bank_clerk").get(page(BATCH, "changelist")).status_code == 403
