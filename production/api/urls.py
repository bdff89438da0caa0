"""Addresses of the production app's API."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from production.api.views import CartonViewSet, CertificateViewSet, DeliveryViewSet, ReturnFileViewSet

router = SimpleRouter(trailing_slash=False)
router.register("deliveries", DeliveryViewSet, basename="delivery")
router.register("cartons", CartonViewSet, basename="carton")
router.register("return-files", ReturnFileViewSet, basename="return-file")
router.register("destruction-certificates", CertificateViewSet, basename="destruction-certificate")
urlpatterns = router.urls
