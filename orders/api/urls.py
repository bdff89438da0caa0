"""Addresses of the orders app's API."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from orders.api.views import AccountFileViewSet, OrderViewSet, PackageViewSet

router = SimpleRouter(trailing_slash=False)
router.register("packages", PackageViewSet, basename="package")
router.register("orders", OrderViewSet, basename="order")
router.register("account-files", AccountFileViewSet, basename="account-file")
urlpatterns = router.urls
