"""The verbs of a batch in the order of its flow (R-16); each calls one service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant

from portal.adminkit import in_status, signed_in, verb
from production.admin.batch_forms import BlindCountForm, DestroyForm, PlanForm, SplitForm, WithdrawalForm
from production.choices import BatchStatus, PlanStatus, RunStatus
from production.models import Batch, ReturnFile
from production.selectors.batches import runs_of_pass
from production.services.closing import close_batch
from production.services.delivery import dispatch_batch
from production.services.destruction import destroy_batch
from production.services.packing import pack_batch
from production.services.planning import plan_batches, propose_plan
from production.services.preparation import prepare_batch, start_remake
from production.services.returns import send_return_file
from production.services.running import run_batch
from production.services.stock import TAKES_BLANKS, request_withdrawal

OPEN_PLANS = (PlanStatus.PROPOSED, PlanStatus.APPROVED)
Answer = dict[str, Any]


def _not_held(state: BatchStatus) -> Callable[[Batch], bool]:
    return lambda batch: batch.status == state and not batch.held_reason


def _read_back(batch: Batch) -> bool:
    """Say whether the pass is read back, so that what is missing is known."""
    waiting = runs_of_pass(batch).exclude(status=RunStatus.INSPECTED)
    return batch.status == BatchStatus.INSPECTING and not waiting.exists()


def _without_plan(batch: Batch) -> bool:
    return batch.status == BatchStatus.PLANNED and not batch.plans.filter(status__in=OPEN_PLANS).exists()


def _return_file_missing(batch: Batch) -> bool:
    return batch.status == BatchStatus.SIGNED and not ReturnFile.objects.filter(batch=batch).exists()


class BatchVerbs:
    """Everything that people do to a batch inside production."""

    @verb(
        label=_("从订单拆分批次"),
        permission="production.plan_batch",
        form=SplitForm,
        icon="call_split",
        variant=ActionVariant.PRIMARY,
    )
    def split(self, request: HttpRequest, row: None, cleaned: Answer) -> str:
        """Cut an open order into batches."""
        batches = plan_batches(cleaned["order"], batch_size=cleaned["batch_size"], actor=signed_in(request))
        names = {"count": len(batches), "first": batches[0], "last": batches[-1]}
        return _t("已拆分为 %(count)s 个批次：%(first)s 至 %(last)s") % names

    @verb(
        label=_("提交工作日程"),
        permission="production.propose_plan",
        form=PlanForm,
        when=_without_plan,
        icon="event",
        variant=ActionVariant.PRIMARY,
        help_text=_("经采购人批准后方可开工；人员须在合同名册中。"),
    )
    def propose(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Put a work plan before the purchaser."""
        propose_plan(row, **cleaned, actor=signed_in(request))
        return _t("工作日程已提交，待采购人批准")

    @verb(
        label=_("申请领用白卡"),
        permission="production.request_stock",
        form=WithdrawalForm,
        when=in_status(*TAKES_BLANKS),
        icon="outbox",
        variant=ActionVariant.PRIMARY,
    )
    def withdraw(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Ask for blanks; a second keeper decides."""
        request_withdrawal(
            row, cleaned["lot"], cleaned["quantity"], reason=cleaned["reason"], actor=signed_in(request)
        )
        return _t("已提出领用申请，须由另一名仓库管理员复核")

    @verb(
        label=_("开始数据准备"),
        permission="production.prepare_batch",
        when=in_status(BatchStatus.RELEASED),
        icon="dataset",
        variant=ActionVariant.PRIMARY,
    )
    def prepare(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Let the machine files be written."""
        prepare_batch(row, actor=signed_in(request))
        return _t("数据准备已开始")

    @verb(
        label=_("上机制作"),
        permission="production.run_batch",
        when=in_status(BatchStatus.PREPARED),
        icon="precision_manufacturing",
        variant=ActionVariant.PRIMARY,
    )
    def run(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Send the batch to the line."""
        run_batch(row, actor=signed_in(request))
        return _t("批次已上机")

    @verb(
        label=_("重制缺少的卡"),
        permission="production.prepare_batch",
        when=_read_back,
        icon="replay",
        help_text=_("为没有良品、也没有未知卡的明细再制一张；须先领足白卡。"),
    )
    def remake(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Start another pass for what is missing."""
        batch = start_remake(row, actor=signed_in(request))
        return _t("第 %(number)s 轮已开始") % {"number": batch.pass_number}

    @verb(
        label=_("清点核对"),
        permission="production.close_batch",
        form=BlindCountForm,
        when=in_status(BatchStatus.INSPECTED),
        icon="fact_check",
        variant=ActionVariant.PRIMARY,
        help_text=_("请填写实际清点的数量。系统账不予显示；四项全部相符才能核对通过。"),
    )
    def close(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Close the batch by blind counts."""
        close_batch(row, **cleaned, actor=signed_in(request))
        return _t("数量相符，批次已核对")

    @verb(
        label=_("装箱"),
        permission="production.pack_batch",
        when=_not_held(BatchStatus.CLOSED),
        icon="package_2",
        variant=ActionVariant.PRIMARY,
    )
    def pack(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Sort the cards into cartons."""
        pack_batch(row, actor=signed_in(request))
        return _t("已装箱，正在生成交接清单")

    @verb(
        label=_("发货"),
        permission="production.dispatch_batch",
        when=_not_held(BatchStatus.PACKED),
        icon="local_shipping",
        variant=ActionVariant.PRIMARY,
    )
    def dispatch(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Send the cartons off."""
        dispatch_batch(row, actor=signed_in(request))
        return _t("已发货，待银行签收")

    @verb(
        label=_("生成回盘文件"),
        permission="production.send_return_file",
        when=_return_file_missing,
        icon="upload_file",
        variant=ActionVariant.PRIMARY,
    )
    def send_return(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Let the return file be written."""
        send_return_file(row, actor=signed_in(request))
        return _t("正在生成回盘文件")

    @verb(
        label=_("销毁个人数据"),
        permission="production.destroy_batch",
        form=DestroyForm,
        when=in_status(BatchStatus.SIGNED),
        icon="delete_forever",
        variant=ActionVariant.DANGER,
        help_text=_("销毁后，持卡人记录、账号、机器文件和清单均无法恢复。"),
    )
    def destroy(self, request: HttpRequest, row: Batch, cleaned: Answer) -> str:
        """Destroy the batch's personal data."""
        destroy_batch(row, actor=signed_in(request))
        return _t("个人数据已销毁，正在签署销毁证明")
