"""Choices of the stations app."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class IssuanceStatus(models.TextChoices):
    """The life of one try to make one card at a counter (D8)."""

    QUEUED = "queued", _("排队中")
    RUNNING = "running", _("写卡中")
    PRINTING = "printing", _("打印中")
    AWAITING_LOOK = "awaiting_look", _("待确认外观")
    MADE = "made", _("已制成")  # at a feeder: the batch's own inspection still decides
    GOOD = "good", _("良品")
    REJECTED = "rejected", _("废品")
    UNKNOWN = "unknown", _("结果未知")
    RESOLVING = "resolving", _("重新读卡")
    CANCELLED = "cancelled", _("已取消")


class StepKind(models.TextChoices):
    """What one step of an issuance does, as the counter page shows it."""

    QUEUE = "queue", _("等待制卡点")
    IDENTIFY = "identify", _("识别卡片")
    PERSONALIZE = "personalize", _("写卡与读回")
    RESOLVE = "resolve", _("重新读卡")
    PRINT = "print", _("打印卡面")
    LOOK = "look", _("确认外观")
    HAND_OVER = "hand_over", _("交付本人")


class StepStatus(models.TextChoices):
    """Where a step stands."""

    RUNNING = "running", _("进行中")
    DONE = "done", _("完成")
    FAILED = "failed", _("失败")


class SelfTestKind(models.TextChoices):
    """What a test asks of a station."""

    READ = "read", _("读卡")
    PRINT = "print", _("打印测试卡")


class BlankStatus(models.TextChoices):
    """Where one blank of a station's stock stands."""

    AVAILABLE = "available", _("可用")
    USED = "used", _("已使用")
    RETURNED = "returned", _("已退回")


class CaseStatus(models.TextChoices):
    """States of an emergency case: one asks, another decides (architecture §3)."""

    REQUESTED = "requested", _("待复核")
    APPROVED = "approved", _("已同意")
    REFUSED = "refused", _("已拒绝")


class PrintState(models.TextChoices):
    """What the printer, or the agent about it, last said; `completed` proves no printed card (D8)."""

    NONE = "", _("未打印")
    NOT_SUBMITTED = "not-submitted", _("未提交")
    SUBMITTED = "submitted", _("已提交")
    PROCESSING = "processing", _("打印中")
    STOPPED = "stopped", _("打印机停止")
    COMPLETED = "completed", _("打印机报告完成")
    ABORTED = "aborted", _("打印中止")
    CANCELED = "canceled", _("打印取消")
    LOST = "lost", _("失去联系")


class FeederStatus(models.TextChoices):
    """Where a batch at a station with a feeder stands."""

    RUNNING = "running", _("制作中")
    STOPPED = "stopped", _("已停")
    ENDED = "ended", _("已完成")
