"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import pgettext_lazy


class OrdersConfig(AppConfig):
    """The orders app."""

    name = "orders"
    verbose_name = pgettext_lazy("plural", "订单")
