"""The start page and the navigation: what waits for whom.

Every count starts from `visible_to(user)` and stops at 1,000; how many queries there are depends on the
roles only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext_lazy

from orders.models import Order
from orders.selectors.orders import FINISHED, Progress, progress
from portal.adminkit import badge, days_text, grouped, light_badge, link, table
from portal.dashboard_cards import CARDS, Card
from portal.models import User
from portal.texts import listed, told

MOST_COUNTED = 1000
DEADLINES_SHOWN = 12
COUNTER = ("stations.issue_card", "stations.decide_case")

# Navigation: the steps of the main job (architecture §3), then what supports them.
GROUPS: Sequence[tuple[Any, Sequence[tuple[str, str]]]] = (
    (
        "数据接收",
        (
            ("orders.package", "inventory_2"),
            ("orders.cardholderrecord", "groups"),
            ("orders.accountfile", "account_balance"),
            ("orders.accountpackage", "mark_email_read"),
        ),
    ),
    (
        pgettext_lazy("plural", "订单"),
        (
            ("orders.order", "receipt_long"),
            ("orders.supplierchoice", "how_to_vote"),
            ("orders.contract", "contract"),
            ("orders.workcalendarday", "calendar_month"),
        ),
    ),
    (
        "生产",
        (
            ("production.batch", "layers"),
            ("production.workplan", "event_note"),
            ("production.rostermember", "badge"),
            ("production.machinefile", "description"),
            ("production.card", "credit_card"),
            ("production.unknowndecision", "help_center"),
        ),
    ),
    (
        "白卡库存",
        (
            ("production.stocklot", "package_2"),
            ("production.stockrequest", "fact_check"),
            ("production.stockmovement", "swap_horiz"),
            ("production.stocklocation", "warehouse"),
            ("production.carddestruction", "delete_sweep"),
        ),
    ),
    (
        "质量",
        (
            ("quality.inspection", "search_check"),
            ("quality.defect", "report"),
            ("quality.hold", "front_hand"),
            ("quality.defectcode", "list_alt"),
        ),
    ),
    (
        "交付与销毁",
        (
            ("production.delivery", "local_shipping"),
            ("production.carton", "box"),
            ("production.receipt", "signature"),
            ("production.returnfile", "assignment_return"),
            ("production.destructioncertificate", "delete_forever"),
            ("production.destructionrequest", "auto_delete"),
            ("production.destructionalarm", "alarm"),
        ),
    ),
    (
        "即时制卡",
        (
            ("stations.issuance", "contactless"),
            ("stations.feederrun", "dynamic_feed"),
            ("stations.emergencycase", "emergency"),
            ("stations.stationblank", "sim_card"),
            ("stations.blankrequest", "move_to_inbox"),
            ("stations.stationday", "event_available"),
            ("stations.station", "point_of_sale"),
        ),
    ),
    (
        "结算",
        (
            ("billing.statement", "request_quote"),
            ("billing.adjustment", "exposure"),
            ("billing.settlementperiod", "date_range"),
        ),
    ),
    (
        "基础资料",
        (
            ("orders.bankprofile", "tune"),
            ("orders.deliverypoint", "location_on"),
            ("portal.organisation", "domain"),
        ),
    ),
    (
        "系统",
        (
            ("portal.user", "person"),
            ("portal.rolerequest", "how_to_reg"),
            ("portal.usersession", "devices"),
            ("portal.signinattempt", "lock_clock"),
            ("orders.senderkey", "key"),
            ("portal.keyimport", "lock"),
            ("portal.apitoken", "vpn_key"),
            ("portal.task", "pending_actions"),
            ("portal.auditentry", "policy"),
            ("portal.auditanchor", "anchor"),
        ),
    ),
)


def environment(request: HttpRequest) -> tuple[str, str] | None:
    """Return the badge that tells a test system from the real one."""
    return None if settings.PRODUCTION else (_("开发环境"), "warning")


def without_inline_style(request: HttpRequest) -> dict[str, Any]:
    """Keep unfold from writing its colours into each page; they stand in portal/static/portal/colours.css."""
    return {"colors": {}}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar's groups: work steps with the pages the user's roles may see."""
    first = [{"title": _("待办事项"), "icon": "home", "link": reverse("admin:index")}]
    if any(request.user.has_perm(permission) for permission in COUNTER):
        first.append({"title": _("制卡柜台"), "icon": "add_card", "link": reverse("counter")})
    groups: list[dict[str, Any]] = [{"title": "", "items": first}]
    for title, entries in GROUPS:
        items = [
            _entry(apps.get_model(label), icon)
            for label, icon in entries
            if admin.site.is_registered(apps.get_model(label)) and _may_see(request, label)
        ]
        if items:
            groups.append({"title": told(title), "separator": True, "collapsible": False, "items": items})
    return groups


def _may_see(request: HttpRequest, label: str) -> bool:
    app, model = label.split(".")
    return cast("User", request.user).has_perm(f"{app}.view_{model}")


def _entry(model: type[Model], icon: str) -> dict[str, Any]:
    options = model._meta
    return {
        "title": str(options.verbose_name_plural),
        "icon": icon,
        "link": reverse(f"admin:{options.app_label}_{options.model_name}_changelist"),
    }


def start_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Fill the start page: what waits for the user, and the deadlines that come first."""
    user = cast("User", request.user)
    shown = [_shown(card, user) for card in CARDS if _offered(card, user)]
    context["waiting"] = sorted(shown, key=lambda card: card.count == 0)
    context["organisation"] = user.organisation
    context["role_names"] = role_names(user)
    context["counter"] = any(user.has_perm(permission) for permission in COUNTER)
    if user.has_perm("orders.view_order"):
        context["deadlines"] = deadlines(user)
    return context


def role_names(user: User) -> str:
    """Return the names of a user's roles."""
    names = dict(cast("Any", User._meta.get_field("roles")).base_field.choices)
    return listed(names.get(role, role) for role in user.roles)


@dataclass(frozen=True, slots=True)
class ShownCard:
    """A card with its count; `text` says 1,000+ where counting stopped."""

    title: str
    note: str
    icon: str
    tone: str
    address: str
    count: int

    @property
    def text(self) -> str:
        """Return the count as it is shown."""
        return f"{grouped(MOST_COUNTED)}+" if self.count > MOST_COUNTED else grouped(self.count)


def _offered(card: Card, user: User) -> bool:
    registered = admin.site.is_registered(apps.get_model(card.model))
    return registered and not set(card.roles).isdisjoint(user.roles) and user.has_perm(card.permission)


def _shown(card: Card, user: User) -> ShownCard:
    rows = card.rows(user)
    count = rows.order_by().values("pk")[: MOST_COUNTED + 1].count()
    address = reverse(f"admin:{card.model.replace('.', '_')}_changelist")
    query = urlencode(card.query)
    return ShownCard(
        title=str(card.title),
        note=str(card.note),
        icon=card.icon,
        tone=card.tone if count else "plain",
        address=f"{address}?{query}" if query else address,
        count=count,
    )


def deadlines(user: User) -> Any:
    """Return the running orders that are due first, with days left and light (R-10)."""
    rows = (
        Order.objects.visible_to(user)
        .exclude(status__in=FINISHED)
        .select_related("bank", "contract__supplier")
        .order_by("due_on", "id")[:DEADLINES_SHOWN]
    )
    orders = list(rows)
    if not orders:
        return table([], [], empty=_("没有未完成的订单"))
    states = progress(orders)
    return table(
        [_("订单"), _("银行"), _("中标人"), _("数量"), _("状态"), _("交付期限"), _("剩余工作日")],
        [_deadline(order, states[order.pk]) for order in orders],
    )


def _deadline(order: Order, state: Progress) -> tuple[Any, ...]:
    return (
        link(reverse("admin:orders_order_change", args=[order.pk]), order.number),
        order.bank,
        order.contract.supplier,
        grouped(order.quantity),
        badge(order.get_status_display()),
        date_format(order.due_on),
        light_badge(state.light, days_text(state.days_left)),
    )
