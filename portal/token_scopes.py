"""What an API token may be issued for: areas of the API, each a few permissions of the roles table.

A token carries the permissions of its scopes that its owner's roles have as well, never more. Whoever adds a
view to the API adds its permissions here; a test walks every view.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from portal.models import User


@dataclass(frozen=True, slots=True)
class Scope:
    """One area of the API."""

    label: Any
    permissions: frozenset[str]


def _scope(label: Any, *permissions: str) -> Scope:
    return Scope(label, frozenset(permissions))


SCOPES: Mapping[str, Scope] = {
    "packages.read": _scope(_("查看数据包"), "orders.view_package"),
    "packages.write": _scope(_("提交数据包"), "orders.view_package", "orders.receive_package"),
    "returns.read": _scope(_("下载退回清单"), "orders.view_package", "orders.export_returns"),
    "orders.read": _scope(_("查看订单"), "orders.view_order"),
    "accounts.read": _scope(_("查看账号文件"), "orders.view_accountfile", "orders.view_accountpackage"),
    "accounts.write": _scope(
        _("上传账号文件"),
        "orders.view_accountfile",
        "orders.view_accountpackage",
        "orders.upload_accounts",
    ),
    "deliveries.view": _scope(_("查看交付"), "production.view_delivery", "production.view_carton"),
    "deliveries.read": _scope(
        _("查看交付与清单"),
        "production.view_delivery",
        "production.view_carton",
        "production.download_list",
    ),
    "deliveries.write": _scope(
        _("点收与签收"), "production.view_delivery", "production.view_carton", "production.sign_delivery"
    ),
    "return_files.read": _scope(_("下载回盘文件"), "production.view_returnfile"),
    "certificates.read": _scope(_("查看销毁证明"), "production.view_destructioncertificate"),
    "destructions.read": _scope(
        _("查看提前销毁申请与销毁预警"),
        "production.view_destructionrequest",
        "production.view_destructionalarm",
    ),
    "destruction.request": _scope(
        _("申请提前销毁"), "production.view_destructionrequest", "production.request_destruction"
    ),
    "destruction.decide": _scope(
        _("复核提前销毁"), "production.view_destructionrequest", "production.decide_destruction"
    ),
    "waste.read": _scope(_("查看废卡销毁单"), "production.view_carddestruction"),
    "waste.write": _scope(
        _("提交废卡销毁单"), "production.view_carddestruction", "production.request_carddestruction"
    ),
    "waste.decide": _scope(
        _("监销废卡"), "production.view_carddestruction", "production.decide_carddestruction"
    ),
    "statements.read": _scope(_("查看结算单与调整"), "billing.view_statement", "billing.view_adjustment"),
    "statements.write": _scope(
        _("关闭结算单、申请调整"),
        "billing.view_statement",
        "billing.view_adjustment",
        "billing.close_statement",
        "billing.request_adjustment",
    ),
    "statements.decide": _scope(_("复核结算调整"), "billing.view_adjustment", "billing.decide_adjustment"),
    "stations.read": _scope(_("查看制卡点"), "stations.view_station"),
    "issuances.read": _scope(_("查看即时制卡"), "stations.view_issuance"),
    "issuances.print": _scope(_("再次打印未提交的卡"), "stations.view_issuance", "stations.issue_card"),
    "feeders.read": _scope(_("查看送卡制作"), "stations.view_feederrun"),
    "feeders.run": _scope(
        _("送卡制作：开始、停止、继续、报废白卡"),
        "stations.view_feederrun",
        "stations.run_feeder",
        "stations.stop_feeder",
        "production.run_batch",
    ),
    "stations.test": _scope(_("制卡点自检"), "stations.view_station", "stations.test_station"),
}


def permissions_of(scopes: Iterable[str]) -> frozenset[str]:
    """Return what scopes allow; one that no longer exists allows nothing."""
    return frozenset().union(*(SCOPES[name].permissions for name in scopes if name in SCOPES))


def scopes_open_to(user: User) -> list[str]:
    """Return the scopes all of whose permissions the user's roles have."""
    owned = user.get_all_permissions()
    return [name for name, scope in SCOPES.items() if scope.permissions <= owned]
