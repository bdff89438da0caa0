"""Addresses of the stations app's API; `station/…` is for agents, the plural for people."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from stations.api.exchange import BeginView, FacesView, OrderView, PrintView, StepView
from stations.api.feeder_runs import FeederRunViewSet
from stations.api.feeding import CurrentRunView, NextCardView
from stations.api.views import (
    EnrolView,
    HeartbeatView,
    IssuanceViewSet,
    ResultView,
    SelfTestViewSet,
    StationViewSet,
)

router = SimpleRouter(trailing_slash=False)
router.register("stations", StationViewSet, basename="station")
router.register("self-tests", SelfTestViewSet, basename="self-test")
router.register("issuances", IssuanceViewSet, basename="issuance")
router.register("feeder-runs", FeederRunViewSet, basename="feeder-run")
urlpatterns = [
    *router.urls,
    path("station/enrol", EnrolView.as_view(), name="station-enrol"),
    path("station/heartbeat", HeartbeatView.as_view(), name="station-heartbeat"),
    path("station/issuances/<int:pk>/begin", BeginView.as_view(), name="station-issuance-begin"),
    path("station/issuances/<int:pk>/steps/<int:step>", StepView.as_view(), name="station-issuance-step"),
    path("station/issuances/<int:pk>/faces", FacesView.as_view(), name="station-issuance-faces"),
    path("station/issuances/<int:pk>/print", PrintView.as_view(), name="station-issuance-print"),
    path("station/issuances/<int:pk>/print-order", OrderView.as_view(), name="station-issuance-order"),
    path("station/feeder-run", CurrentRunView.as_view(), name="station-feeder-run"),
    path("station/feeder-runs/<int:pk>/next", NextCardView.as_view(), name="station-feeder-next"),
    path("station/self-tests/<int:pk>", ResultView.as_view(), name="station-self-test"),
]
