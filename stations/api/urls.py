"""Addresses of the stations app's API; `station/…` is for agents, the plural for people."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from stations.api.views import HeartbeatView, ResultView, SelfTestViewSet, StationViewSet

router = SimpleRouter(trailing_slash=False)
router.register("stations", StationViewSet, basename="station")
router.register("self-tests", SelfTestViewSet, basename="self-test")
urlpatterns = [
    *router.urls,
    path("station/heartbeat", HeartbeatView.as_view(), name="station-heartbeat"),
    path("station/self-tests/<int:pk>", ResultView.as_view(), name="station-self-test"),
]
