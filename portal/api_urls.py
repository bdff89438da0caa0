"""Addresses of the API, version 1; joins the apps' routes like portal.urls joins the pages."""

from __future__ import annotations

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

urlpatterns = [
    path("", include("orders.api.urls")),
    path("", include("production.api.urls")),
    path("", include("billing.api.urls")),
    path("", include("stations.api.urls")),
    path("schema", SpectacularAPIView.as_view(), name="api-schema"),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="api-schema"), name="api-docs"),
]
