"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ProductionConfig(AppConfig):
    """The production app."""

    name = "production"
    verbose_name = _("生产")
