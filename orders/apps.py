"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy


class OrdersConfig(AppConfig):
    """The orders app."""

    name = "orders"
    verbose_name = gettext_lazy("数据与订单")
