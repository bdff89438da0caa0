"""Choices of the orders app."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class CardKind(models.TextChoices):
    """What kind of card is made (R-13); test and sample cards are never billed."""

    FINISHED = "finished", _("成品卡")
    PREMADE = "premade", _("预制卡")
    TEST = "test", _("测试卡")
    SAMPLE = "sample", _("样卡")


class IssueKind(models.TextChoices):
    """Why a card is made (R-13)."""

    FIRST = "first", _("首发")
    REPLACEMENT = "replacement", _("补卡")
    RENEWAL = "renewal", _("换卡")
    WARRANTY = "warranty", _("质保")
    REMAKE = "remake", _("重制")


class ContractStatus(models.TextChoices):
    """States of a contract."""

    DRAFT = "draft", _("草稿")
    ACTIVE = "active", _("执行中")
    CLOSED = "closed", _("已终止")


class PackageStatus(models.TextChoices):
    """States of a received package."""

    RECEIVED = "received", _("已接收")
    VALIDATING = "validating", _("校验中")
    VALIDATED = "validated", _("已校验")
    REFUSED = "refused", _("已拒收")
    DESTROYED = "destroyed", _("已销毁")


class RecordStatus(models.TextChoices):
    """States of a cardholder record until its batch takes over."""

    RETURNED = "returned", _("已退回")
    ACCEPTED = "accepted", _("待匹配")
    MATCHED = "matched", _("已匹配")
    ORDERED = "ordered", _("已下单")
    SUPERSEDED = "superseded", _("已补录替代")
    CANCELLED = "cancelled", _("已取消")


class UnmatchedReason(models.TextChoices):
    """Why an accepted record has no account yet (R-9)."""

    NONE = "", _("—")
    NO_ACCOUNT = "no_account", _("银行未提供账号")
    NAME_DIFFERS = "name_differs", _("姓名不一致")
    OTHER_BANK = "other_bank", _("账号在其他银行")
    ACCOUNT_REFUSED = "account_refused", _("账号数据有误")


class AccountFileStatus(models.TextChoices):
    """States of a bank's account file."""

    RECEIVED = "received", _("已接收")
    CHECKED = "checked", _("已预检")
    LOADED = "loaded", _("已导入")
    REFUSED = "refused", _("已拒收")
    DESTROYED = "destroyed", _("已销毁")


class AccountPackageStatus(models.TextChoices):
    """What became of a bank's sealed account package; the files in it go their own way."""

    RECEIVED = "received", _("已接收")
    REFUSED = "refused", _("已拒收")


class KeyUse(models.TextChoices):
    """What a party's SM2 key is for: some keep one pair to sign and another to decrypt (GM/T 0015)."""

    BOTH = "both", _("签名和加密")
    SIGNATURE = "signature", _("只用于签名")
    ENCRYPTION = "encryption", _("只用于加密")


class OrderStatus(models.TextChoices):
    """States of an order."""

    OPEN = "open", _("待排产")
    IN_PRODUCTION = "in_production", _("生产中")
    COMPLETED = "completed", _("已完成")
    CANCELLED = "cancelled", _("已取消")


class SortOrder(models.TextChoices):
    """How a bank's cards are sorted and packed (R-19)."""

    EMPLOYER = "employer", _("按单位")
    NUMBER = "number", _("按社会保障号码")
    RECEIVED = "received", _("按来件顺序")
