"""The parts of a batch's page: plan, blanks, runs, counts, deliveries and papers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Q
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t

from portal.adminkit import badge, grouped, table
from portal.adminkit.columns import Colour
from production.admin.plans import PLAN_COLOURS
from production.admin.references import listing, reference
from production.choices import ItemStatus, Outcome, RequestStatus
from production.models import (
    Batch,
    Card,
    Carton,
    Delivery,
    DestructionCertificate,
    MachineFile,
    ReturnFile,
    StockMovement,
    StockRequest,
)
from production.selectors.batches import item_counts
from production.selectors.stock import batch_blanks

RUN_COLOURS: Mapping[str, Colour] = {"queued": "", "prepared": "info", "made": "info", "inspected": "success"}
DELIVERY_COLOURS: Mapping[str, Colour] = {"packed": "info", "dispatched": "info", "signed": "success"}
RUNS_SHOWN = 40


def plans(batch: Batch) -> SafeString:
    """Show the batch's work plans, the newest first."""
    found = batch.plans.select_related("leader", "decided_by")
    rows = [
        (
            reference(plan, f"#{plan.pk}"),
            plan.place,
            f"{_moment(plan.starts_at)} – {_moment(plan.ends_at)}",
            plan.leader.name,
            badge(plan.get_status_display(), PLAN_COLOURS[plan.status]),
            plan.reason or "-",
        )
        for plan in found
    ]
    headers = [_t("日程"), _t("地点"), _t("时间"), _t("负责人"), _t("状态"), _t("审批意见")]
    return table(headers, rows, empty=_t("尚未提交工作日程"))


def blanks(batch: Batch) -> SafeString:
    """Show the batch's blanks by the ledger, with what waits for the second keeper."""
    held = batch_blanks(batch)
    waiting = StockRequest.objects.filter(batch=batch, status=RequestStatus.REQUESTED)
    links = [reference(request, f"{request} #{request.pk}") for request in waiting.select_related("batch")]
    row = (
        grouped(held.withdrawn),
        grouped(held.used),
        grouped(held.returned),
        grouped(held.free),
        format_html_join(", ", "{}", ((link,) for link in links)) if links else "-",
        listing(StockMovement, _t("流水"), batch=batch.number),
    )
    headers = [_t("已领用"), _t("已使用"), _t("已退库"), _t("未使用"), _t("待复核申请"), ""]
    return table(headers, [row])


def positions(batch: Batch) -> SafeString:
    """Show how many positions stand where."""
    counts = item_counts(batch)
    row = tuple(grouped(getattr(counts, status.value)) for status in ItemStatus)
    return table([status.label for status in ItemStatus], [row])


def outcomes(batch: Batch) -> SafeString:
    """Show the cards of every pass by outcome."""
    cards: Any = Card.objects.filter(batch=batch).values(number=F("machine_file__pass_number"))
    counted = cards.order_by("number").annotate(
        **{outcome.value: Count("id", filter=Q(outcome=outcome)) for outcome in Outcome}
    )
    rows = [(row["number"], *(grouped(row[outcome.value]) for outcome in Outcome)) for row in counted]
    found = table([_t("轮次"), *(outcome.label for outcome in Outcome)], rows, empty=_t("尚未制卡"))
    return (
        format_html("{}<p class='mt-2'>{}</p>", found, listing(Card, _t("查看卡片"), batch=batch.number))
        if rows
        else found
    )


def runs(batch: Batch) -> SafeString:
    """Show the machine files of the current pass."""
    files = MachineFile.objects.filter(batch=batch, pass_number=batch.pass_number)[:RUNS_SHOWN]
    rows = [
        (
            f"{run.pass_number}/{run.part}",
            grouped(run.card_count),
            badge(run.get_status_display(), RUN_COLOURS[run.status]),
            f"{run.seconds_per_card:.3f}" if run.seconds_per_card is not None else "-",
        )
        for run in files
    ]
    headers = [_t("轮次/分块"), _t("张数"), _t("状态"), _t("准备用时（秒/张）")]
    found = table(headers, rows, empty=_t("尚未开始数据准备"))
    if not rows:
        return found
    return format_html(
        "{}<p class='mt-2'>{}</p>", found, listing(MachineFile, _t("查看全部机器文件"), batch=batch.number)
    )


def deliveries(batch: Batch) -> SafeString:
    """Show the batch's deliveries with their cartons."""
    found = Delivery.objects.filter(batch=batch).select_related("delivery_point")
    counted = found.annotate(carton_count=Count("cartons"), confirmed=Count("cartons__receipt")).order_by(
        "number"
    )
    rows = [
        (
            reference(row),
            row.delivery_point,
            grouped(row.card_count),
            listing(Carton, row.carton_count, delivery=row.number),
            f"{row.confirmed} / {row.carton_count}",
            badge(row.get_status_display(), DELIVERY_COLOURS[row.status]),
        )
        for row in counted
    ]
    headers = [_t("交付单"), _t("网点"), _t("张数"), _t("箱数"), _t("已点收"), _t("状态")]
    return table(headers, rows, empty=_t("尚未装箱"))


def papers(batch: Batch) -> SafeString:
    """Link the return file and the destruction certificate."""
    rows = []
    if file := ReturnFile.objects.filter(batch=batch).first():
        rows.append((_t("回盘文件"), reference(file), _moment(file.created_at)))
    if paper := DestructionCertificate.objects.filter(batch=batch).first():
        rows.append((_t("数据销毁证明"), reference(paper), _moment(paper.issued_at)))
    return table([_t("文件"), _t("编号"), _t("时间")], rows, empty=_t("尚无"))


def milestones(batch: Batch) -> SafeString:
    """Show when the batch passed what."""
    moments = (batch.released_at, batch.closed_at, batch.dispatched_at, batch.signed_at, batch.destroyed_at)
    headers = [_t("下达"), _t("核对"), _t("发货"), _t("签收"), _t("销毁")]
    return table(headers, [[_moment(at) if at else "-" for at in moments]])


def _moment(at: datetime) -> str:
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M}"
