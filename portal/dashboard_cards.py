"""The cards of the start page: whose work they are, which rows they count and where they lead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from billing.models import Adjustment, Statement
from orders.models import AccountFile, CardholderRecord, Order, Package
from orders.selectors.orders import FINISHED
from portal.choices import KeyImportStatus, Role, RoleRequestStatus, TaskStatus
from portal.core.clock import start_of_today, today
from portal.models import AuditEntry, KeyImport, RoleRequest, Task, User
from production.choices import BatchStatus, DeliveryStatus, Outcome, PlanStatus, RequestStatus
from production.models import (
    Batch,
    CardDestruction,
    Delivery,
    DestructionAlarm,
    DestructionRequest,
    StockRequest,
    UnknownDecision,
    WorkPlan,
)
from production.models import Card as MadeCard
from quality.choices import HoldStatus
from quality.models import Hold
from stations.models import BlankRequest, EmergencyCase, FeederRun, Issuance, StationBlank

Rows = Callable[[User], QuerySet[Any]]
CLERK, APPROVER = Role.PURCHASER_CLERK, Role.PURCHASER_APPROVER
PLANNER, OPERATOR, QUALITY = Role.SUPPLIER_PLANNER, Role.SUPPLIER_OPERATOR, Role.SUPPLIER_QUALITY
KEEPER, BANK = Role.WAREHOUSE_KEEPER, Role.BANK_CLERK
COUNTER, SUPERVISOR = Role.COUNTER_OPERATOR, Role.COUNTER_SUPERVISOR


@dataclass(frozen=True, slots=True)
class Card:
    """One thing that may wait; `query` leads to the same rows in the list that it counts."""

    model: str
    title: Any
    note: Any
    icon: str
    roles: tuple[str, ...]
    rows: Rows
    query: Mapping[str, str] = field(default_factory=dict)
    tone: str = "info"

    @property
    def permission(self) -> str:
        """Return the permission to see the list that the card leads to."""
        app, model = self.model.split(".")
        return f"{app}.view_{model}"


def _of(model: Any, **wanted: Any) -> Rows:
    return lambda user: model.objects.visible_to(user).filter(**wanted)


def _batches(status: str) -> Rows:
    return _of(Batch, status=status)


def _late(user: User) -> QuerySet[Order]:
    return Order.objects.visible_to(user).filter(due_on__lt=today()).exclude(status__in=FINISHED)


def _status_card(model: Any, status: str, title: Any, note: Any, icon: str, *roles: str) -> Card:
    query = {"status__exact": status}
    return Card(
        model._meta.label_lower, title, note, icon, roles, _of(model, status=status), query, "warning"
    )


def _batch_card(status: str, title: Any, note: Any, icon: str, *roles: str, tone: str = "info") -> Card:
    query = {"status__exact": status}
    return Card("production.batch", title, note, icon, roles, _batches(status), query, tone)


CARDS: tuple[Card, ...] = (
    Card(
        "orders.package",
        _("被拒收的数据包"),
        _("查看原因并通知发送方"),
        "gpp_bad",
        (CLERK,),
        _of(Package, status="refused"),
        {"status__exact": "refused"},
        "danger",
    ),
    Card(
        "orders.package",
        _("正在校验的数据包"),
        _("后台处理中"),
        "hourglass_top",
        (CLERK,),
        _of(Package, status="validating"),
        {"status__exact": "validating"},
    ),
    Card(
        "orders.cardholderrecord",
        _("退回待补录的记录"),
        _("改正后重新校验"),
        "edit_note",
        (CLERK,),
        _of(CardholderRecord, status="returned"),
        {"status__exact": "returned"},
        "warning",
    ),
    Card(
        "orders.cardholderrecord",
        _("未匹配账号的记录"),
        _("等待银行提供账号"),
        "link_off",
        (CLERK, BANK),
        _of(CardholderRecord, status="accepted"),
        {"status__exact": "accepted"},
        "warning",
    ),
    Card(
        "orders.cardholderrecord",
        _("已匹配待下单的记录"),
        _("可以生成订单"),
        "post_add",
        (CLERK,),
        _of(CardholderRecord, status="matched"),
        {"status__exact": "matched"},
    ),
    Card(
        "orders.order",
        _("逾期的订单"),
        _("已超过 6 个工作日"),
        "alarm",
        (CLERK, APPROVER, PLANNER, OPERATOR, BANK),
        _late,
        {"deadline": "late"},
        "danger",
    ),
    Card(
        "orders.order",
        _("待排产的订单"),
        _("拆分为批次"),
        "call_split",
        (PLANNER,),
        _of(Order, status="open"),
        {"status__exact": "open"},
        "warning",
    ),
    Card(
        "production.workplan",
        _("待批准的工作日程"),
        _("核对地点、时间和人员"),
        "event_available",
        (APPROVER,),
        _of(WorkPlan, status=PlanStatus.PROPOSED),
        {"status__exact": PlanStatus.PROPOSED},
        "warning",
    ),
    Card(
        "quality.hold",
        _("冻结中的批次"),
        _("处置后由采购人解除"),
        "front_hand",
        (APPROVER, QUALITY, PLANNER),
        _of(Hold, status=HoldStatus.ACTIVE),
        {"status__exact": HoldStatus.ACTIVE},
        "danger",
    ),
    _batch_card(BatchStatus.PLANNED, _("待提交日程的批次"), _("提交工作日程"), "pending", PLANNER),
    _batch_card(BatchStatus.APPROVED, _("待领料的批次"), _("申请领用白卡"), "output", KEEPER, PLANNER),
    _batch_card(BatchStatus.RELEASED, _("待准备数据的批次"), _("开始数据准备"), "dataset", OPERATOR),
    _batch_card(BatchStatus.PREPARED, _("待上机的批次"), _("开始制作"), "precision_manufacturing", OPERATOR),
    _batch_card(BatchStatus.INSPECTING, _("检验中的批次"), _("读回核对"), "search_check", QUALITY, OPERATOR),
    _batch_card(BatchStatus.INSPECTED, _("待核对数量的批次"), _("盲点后关闭"), "balance", OPERATOR),
    _batch_card(BatchStatus.CLOSED, _("待装箱的批次"), _("按排序装箱"), "box", OPERATOR),
    _batch_card(BatchStatus.PACKED, _("待发货的批次"), _("核对清单后发货"), "local_shipping", OPERATOR),
    _batch_card(
        BatchStatus.SIGNED,
        _("待销毁数据的批次"),
        _("回盘后销毁个人数据"),
        "delete_forever",
        CLERK,
        APPROVER,
        tone="warning",
    ),
    Card(
        "production.destructionalarm",
        _("销毁逾期"),
        _("个人数据超过期限仍未销毁"),
        "alarm",
        (CLERK, APPROVER, Role.AUDITOR),
        _of(DestructionAlarm, cleared_at=None),
        {"cleared_at__isempty": "1"},
        "danger",
    ),
    Card(
        "production.destructionrequest",
        _("待复核的提前销毁"),
        _("须由另一人复核"),
        "auto_delete",
        (APPROVER,),
        _of(DestructionRequest, status=RequestStatus.REQUESTED),
        {"status__exact": RequestStatus.REQUESTED},
        "warning",
    ),
    Card(
        "production.stockrequest",
        _("待复核的领用与调整"),
        _("须由另一人复核"),
        "fact_check",
        (KEEPER,),
        _of(StockRequest, status=RequestStatus.REQUESTED),
        {"status__exact": RequestStatus.REQUESTED},
        "warning",
    ),
    Card(
        "production.carddestruction",
        _("待监销的废卡"),
        _("须由另一人现场监销"),
        "delete_sweep",
        (KEEPER, QUALITY),
        _of(CardDestruction, status=RequestStatus.REQUESTED),
        {"status__exact": RequestStatus.REQUESTED},
        "warning",
    ),
    Card(
        "production.card",
        _("结果未知的卡"),
        _("读回或两人认定"),
        "help",
        (OPERATOR, QUALITY),
        _of(MadeCard, outcome=Outcome.UNKNOWN),
        {"outcome__exact": Outcome.UNKNOWN},
        "danger",
    ),
    Card(
        "production.unknowndecision",
        _("待复核的未知卡认定"),
        _("须由另一人复核"),
        "help_center",
        (OPERATOR, QUALITY),
        _of(UnknownDecision, status=RequestStatus.REQUESTED),
        {"status__exact": RequestStatus.REQUESTED},
        "warning",
    ),
    Card(
        "orders.accountfile",
        _("预检完成待导入的文件"),
        _("核对问题后导入"),
        "database_upload",
        (BANK,),
        _of(AccountFile, status="checked"),
        {"status__exact": "checked"},
        "warning",
    ),
    Card(
        "orders.accountfile",
        _("被拒收的账号文件"),
        _("改正后重新上传"),
        "gpp_bad",
        (BANK,),
        _of(AccountFile, status="refused"),
        {"status__exact": "refused"},
        "danger",
    ),
    Card(
        "production.delivery",
        _("待签收的交付"),
        _("逐箱点收后签字"),
        "signature",
        (BANK,),
        _of(Delivery, status=DeliveryStatus.DISPATCHED),
        {"status__exact": DeliveryStatus.DISPATCHED},
        "warning",
    ),
    Card(
        "billing.statement",
        _("结算单草稿"),
        _("核对后结算"),
        "request_quote",
        (CLERK, APPROVER),
        _of(Statement, status="draft"),
        {"status__exact": "draft"},
    ),
    Card(
        "billing.adjustment",
        _("待复核的结算调整"),
        _("须由另一人复核"),
        "exposure",
        (APPROVER,),
        _of(Adjustment, status=RequestStatus.REQUESTED),
        {"status__exact": RequestStatus.REQUESTED},
        "warning",
    ),
    Card(
        "portal.task",
        _("失败的后台任务"),
        _("排除原因后重试"),
        "error",
        (Role.SYSTEM_ADMINISTRATOR,),
        lambda user: Task.objects.filter(status=TaskStatus.FAILED),
        {"status__exact": TaskStatus.FAILED},
        "danger",
    ),
    Card(
        "portal.keyimport",
        _("等待分量二的主密钥"),
        _("须由另一名安全管理员录入"),
        "lock",
        (Role.SECURITY_ADMINISTRATOR,),
        _of(KeyImport, status=KeyImportStatus.WAITING),
        {"status__exact": KeyImportStatus.WAITING},
        "warning",
    ),
    Card(
        "stations.emergencycase",
        _("待复核的应急制卡"),
        _("核对本人和证件后同意或驳回"),
        "emergency",
        (SUPERVISOR,),
        _of(EmergencyCase, status="requested"),
        {"status__exact": "requested"},
        "warning",
    ),
    Card(
        "stations.issuance",
        _("结果未知的卡"),
        _("再次插卡读取，或两人认定"),
        "help_center",
        (COUNTER, SUPERVISOR),
        _of(Issuance, status="unknown"),
        {"status__exact": "unknown"},
        "danger",
    ),
    Card(
        "stations.issuance",
        _("待确认外观的卡"),
        _("在柜台页面确认良品或废品"),
        "visibility",
        (COUNTER,),
        _of(Issuance, status="awaiting_look"),
        {"status__exact": "awaiting_look"},
    ),
    _status_card(FeederRun, "stopped", _("停下的送卡制作"), _("排除原因后继续"), "dynamic_feed", OPERATOR),
    _status_card(
        BlankRequest, "requested", _("待复核的制卡点领卡"), _("同意后序列号划给制卡点"), "input", KEEPER
    ),
    Card(
        "stations.stationblank",
        _("制卡点可用的白卡"),
        _("不足时申请领用"),
        "sim_card",
        (SUPERVISOR,),
        _of(StationBlank, status="available"),
        {"status__exact": "available"},
    ),
    Card(
        "portal.rolerequest",
        _("待批准的角色"),
        _("核对后批准或驳回"),
        "how_to_reg",
        (Role.SECURITY_ADMINISTRATOR,),
        lambda user: RoleRequest.objects.filter(status=RoleRequestStatus.PENDING),
        {"status__exact": RoleRequestStatus.PENDING},
        "warning",
    ),
    Card(
        "portal.user",
        _("停用的用户"),
        _("定期清理"),
        "person_off",
        (Role.SYSTEM_ADMINISTRATOR,),
        lambda user: User.objects.filter(is_active=False),
        {"is_active__exact": "0"},
    ),
    Card(
        "portal.auditentry",
        _("今日的审计记录"),
        _("抽查可疑操作"),
        "policy",
        (Role.AUDITOR,),
        lambda user: AuditEntry.objects.filter(at__gte=start_of_today()),
    ),
    Card(
        "portal.auditentry",
        _("今日被拒绝的操作"),
        _("核对是否为越权或攻击"),
        "block",
        (Role.AUDITOR,),
        lambda user: AuditEntry.objects.filter(at__gte=start_of_today(), result="refused"),
        {},
        "warning",
    ),
)
