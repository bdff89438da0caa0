"""Addresses of the billing app's API."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from billing.api.views import AdjustmentViewSet, StatementViewSet

router = SimpleRouter(trailing_slash=False)
router.register("statements", StatementViewSet, basename="statement")
router.register("adjustments", AdjustmentViewSet, basename="adjustment")
urlpatterns = router.urls
