"""Addresses of the production app's API."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from production.api.destruction import DestructionAlarmViewSet, DestructionRequestViewSet
from production.api.views import CartonViewSet, CertificateViewSet, DeliveryViewSet, ReturnFileViewSet
from production.api.waste import CardDestructionViewSet

router = SimpleRouter(trailing_slash=False)
router.register("deliveries", DeliveryViewSet, basename="delivery")
router.register("cartons", CartonViewSet, basename="carton")
router.register("return-files", ReturnFileViewSet, basename="return-file")
router.register("destruction-certificates", CertificateViewSet, basename="destruction-certificate")
router.register("card-destructions", CardDestructionViewSet, basename="card-destruction")
router.register("destruction-requests", DestructionRequestViewSet, basename="destruction-request")
router.register("destruction-alarms", DestructionAlarmViewSet, basename="destruction-alarm")
urlpatterns = router.urls
