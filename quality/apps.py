"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class QualityConfig(AppConfig):
    """The quality app."""

    name = "quality"
    verbose_name = _("质量")
