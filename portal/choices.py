"""Choices of the kernel."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class OrganisationKind(models.TextChoices):
    """Who takes part in the programme."""

    PURCHASER = "purchaser", _("采购人")
    SUPPLIER = "supplier", _("中标人")
    BANK = "bank", _("合作银行")
    PROVINCE = "province", _("省社保卡系统")


class Role(models.TextChoices):
    """What a person is here to do (architecture §3)."""

    PURCHASER_CLERK = "purchaser_clerk", _("采购人经办")
    PURCHASER_APPROVER = "purchaser_approver", _("采购人审批")
    SUPPLIER_PLANNER = "supplier_planner", _("中标人计划员")
    SUPPLIER_OPERATOR = "supplier_operator", _("中标人操作员")
    SUPPLIER_QUALITY = "supplier_quality", _("中标人质检员")
    WAREHOUSE_KEEPER = "warehouse_keeper", _("仓库管理员")
    BANK_CLERK = "bank_clerk", _("银行经办")
    COUNTER_OPERATOR = "counter_operator", _("柜台操作员")
    COUNTER_SUPERVISOR = "counter_supervisor", _("柜台主管")
    CARD_SYSTEM = "card_system", _("省社保卡系统接口")
    SYSTEM_ADMINISTRATOR = "system_administrator", _("系统管理员")
    SECURITY_ADMINISTRATOR = "security_administrator", _("安全管理员")
    AUDITOR = "auditor", _("审计员")


ADMINISTRATORS = frozenset({Role.SYSTEM_ADMINISTRATOR, Role.SECURITY_ADMINISTRATOR, Role.AUDITOR})


class TaskStatus(models.TextChoices):
    """States of a background task."""

    QUEUED = "queued", _("排队中")
    DONE = "done", _("已完成")
    FAILED = "failed", _("失败")


class KeyImportStatus(models.TextChoices):
    """States of the ceremony by which two people bring a card master key."""

    WAITING = "waiting", _("待录入分量二")
    IMPORTED = "imported", _("已导入")
    FAILED = "failed", _("校验不符")
    CANCELLED = "cancelled", _("已取消")
    EXPIRED = "expired", _("已逾期")


class RoleRequestStatus(models.TextChoices):
    """States of a request for roles."""

    PENDING = "pending", _("待批准")
    GRANTED = "granted", _("已批准")
    REJECTED = "rejected", _("已驳回")
    WITHDRAWN = "withdrawn", _("已撤回")
