"""Choices of the quality app."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class DefectKind(models.TextChoices):
    """Wrong cards and bad cards count against 0.1 % (R-26)."""

    WRONG_CARD = "wrong_card", _("错卡")
    BAD_CARD = "bad_card", _("坏卡")


class Liability(models.TextChoices):
    """Who answers for a spoiled card (R-20)."""

    SUPPLIER = "supplier", _("中标人")
    SOURCE = "source", _("源数据")


class FoundAt(models.TextChoices):
    """Where a defect was found; what the bank finds counts as delivered."""

    LINE = "line", _("生产线")
    READ_BACK = "read_back", _("读回核对")
    BODY = "body", _("外观抽检")
    BANK = "bank", _("银行签收")


class InspectionResult(models.TextChoices):
    """The verdict on a batch's pass."""

    PASSED = "passed", _("合格")
    HELD = "held", _("超限冻结")


class HoldStatus(models.TextChoices):
    """States of a hold."""

    ACTIVE = "active", _("冻结中")
    RELEASED = "released", _("已解除")
