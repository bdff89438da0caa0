"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PortalConfig(AppConfig):
    """The portal app."""

    name = "portal"
    verbose_name = _("平台")

    def ready(self) -> None:
        """Register what the OpenAPI document needs to know."""
        from portal.apikit import schema  # noqa: F401 - importing registers it; apps must be loaded first
