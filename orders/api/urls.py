"""Addresses of the orders app's API."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from orders.api.account_packages import AccountPackageViewSet
from orders.api.views import AccountFileViewSet, OrderViewSet, PackageViewSet

router = SimpleRouter(trailing_slash=False)
router.register("packages", PackageViewSet, basename="package")
router.register("orders", OrderViewSet, basename="order")
router.register("account-files", AccountFileViewSet, basename="account-file")
router.register("account-packages", AccountPackageViewSet, basename="account-package")
urlpatterns = router.urls
