"""Addresses of the billing app's API."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from billing.api.views import StatementViewSet

router = SimpleRouter(trailing_slash=False)
router.register("statements", StatementViewSet, basename="statement")
urlpatterns = router.urls
