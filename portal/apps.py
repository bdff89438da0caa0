"""App configuration."""

from importlib import import_module

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PortalConfig(AppConfig):
    """The portal app."""

    name = "portal"
    verbose_name = _("平台")

    def ready(self) -> None:
        """Register what the OpenAPI document needs to know, and our checks."""
        import_module("portal.apikit.schema")  # importing registers it; apps must be loaded first
        import_module("portal.limits").check_rates()
        import_module("portal.role_table")  # registers its check
