"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BillingConfig(AppConfig):
    """The billing app."""

    name = "billing"
    verbose_name = _("结算")
