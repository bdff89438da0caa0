"""Choices of the production app."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class BatchStatus(models.TextChoices):
    """The life of a batch (R-16); a remake goes back from inspecting to preparing."""

    PLANNED = "planned", _("待审批")
    APPROVED = "approved", _("已批准")
    RELEASED = "released", _("已下达")
    PREPARING = "preparing", _("数据准备中")
    PREPARED = "prepared", _("待上机")
    RUNNING = "running", _("制作中")
    INSPECTING = "inspecting", _("检验中")
    INSPECTED = "inspected", _("待核对")
    CLOSED = "closed", _("已核对")
    PACKED = "packed", _("已装箱")
    DISPATCHED = "dispatched", _("已发货")
    SIGNED = "signed", _("已签收")
    DESTROYED = "destroyed", _("数据已销毁")
    CANCELLED = "cancelled", _("已取消")


class PlanStatus(models.TextChoices):
    """States of a work plan (R-15)."""

    PROPOSED = "proposed", _("待批准")
    APPROVED = "approved", _("已批准")
    REFUSED = "refused", _("已驳回")


class ItemStatus(models.TextChoices):
    """Where one position of a batch stands."""

    PENDING = "pending", _("待准备")
    PREPARED = "prepared", _("已准备")
    GOOD = "good", _("良品")
    UNKNOWN = "unknown", _("结果未知")
    CANCELLED = "cancelled", _("已取消")


class Outcome(models.TextChoices):
    """What became of one physical card (D8); `made` waits for its inspection."""

    PENDING = "pending", _("待制作")
    MADE = "made", _("待检验")
    GOOD = "good", _("良品")
    REJECTED = "rejected", _("废品")
    UNKNOWN = "unknown", _("未知")
    UNUSED = "unused", _("未使用")


class RunStatus(models.TextChoices):
    """States of one machine file: a run of cards prepared, made and inspected together."""

    QUEUED = "queued", _("待准备")
    PREPARED = "prepared", _("已准备")
    MADE = "made", _("已制作")
    INSPECTED = "inspected", _("已检验")


class LocationKind(models.TextChoices):
    """Kinds of stock locations."""

    WAREHOUSE = "warehouse", _("白卡库")
    FLOOR = "floor", _("车间")
    SPOILED = "spoiled", _("废卡库")
    SAMPLES = "samples", _("样卡库")
    DELIVERED = "delivered", _("已交付")
    DESTROYED = "destroyed", _("已销毁卡片")
    COUNTER = "counter", _("制卡点")


class MovementKind(models.TextChoices):
    """Why blanks or cards moved."""

    RECEIPT = "receipt", _("入库")
    WITHDRAWAL = "withdrawal", _("领用")
    GOOD = "good", _("良品转出")
    SPOILAGE = "spoilage", _("报废")
    SAMPLE = "sample", _("留样")
    RETURN = "return", _("退库")
    ADJUSTMENT = "adjustment", _("调整")
    TRANSFER = "transfer", _("调拨制卡点")
    COUNTER = "counter", _("制卡点取用")
    DESTRUCTION = "destruction", _("销毁卡片")


class DestructionMethod(models.TextChoices):
    """How cards are made useless, chip included (R-21)."""

    SHREDDED = "shredded", _("粉碎")
    PUNCHED = "punched", _("芯片打孔并剪切")
    INCINERATED = "incinerated", _("焚毁")


class RequestStatus(models.TextChoices):
    """States of a request that a second person decides."""

    REQUESTED = "requested", _("待复核")
    APPROVED = "approved", _("已同意")
    REFUSED = "refused", _("已拒绝")


class DeliveryStatus(models.TextChoices):
    """States of a delivery to one delivery point (R-23)."""

    PACKED = "packed", _("已装箱")
    DISPATCHED = "dispatched", _("已发货")
    SIGNED = "signed", _("已签收")


class ReceiptResult(models.TextChoices):
    """What the bank found in a carton."""

    CONFIRMED = "confirmed", _("数量相符")
    DIFFERENT = "different", _("有差异")


class AlarmKind(models.TextChoices):
    """What is overdue for destruction (R-22)."""

    BATCH = "batch", _("已签收批次未销毁")
    CERTIFICATE = "certificate", _("销毁未完成")
    PACKAGE = "package", _("记录超过保存期限")
    REMOVAL = "removal", _("密钥或文件未清除")
