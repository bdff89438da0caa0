"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class StationsConfig(AppConfig):
    """The stations app."""

    name = "stations"
    verbose_name = _("制卡点")
