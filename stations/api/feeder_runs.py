"""API of batches made at stations with a feeder, for people and plant systems; agents use `feeding`."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from portal.apikit.idempotency import answer_once
from portal.apikit.views import KEY_PARAMETER, ScopedViewSet, choice_parameter
from portal.core.errors import InputRefusedError
from portal.roles import require
from production.models import Batch
from stations.choices import FeederStatus
from stations.models import FeederRun, Station
from stations.selectors import counted_runs
from stations.services.feeding import (
    BLANK_REASONS,
    continue_feeder,
    spoil_blanks,
    start_feeder,
    stop_feeder,
)


class BatchUnknownError(InputRefusedError):
    """No batch of the caller's has this number."""

    code = "batch_unknown"


class StationUnknownError(InputRefusedError):
    """No station of the caller's has this code."""

    code = "station_unknown"


class FeederRunSerializer(serializers.ModelSerializer[FeederRun]):
    """A run with its cards counted: with their outcome and without; of rows of `counted_runs`."""

    batch = serializers.CharField(source="batch.number", read_only=True)
    station = serializers.CharField(source="station.code", read_only=True)
    operator = serializers.CharField(source="operator.username", read_only=True)
    done_count = serializers.IntegerField(read_only=True)
    waiting_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = FeederRun
        fields = [
            "id", "batch", "station", "operator", "status", "prints", "reason", "reason_text",
            "done_count", "waiting_count", "started_at", "continued_at", "heard_at", "ended_at",
        ]  # fmt: skip
        read_only_fields = fields


class StartSerializer(serializers.Serializer[Any]):
    """Which prepared batch is made at which station."""

    batch = serializers.CharField(max_length=64)
    station = serializers.SlugField(max_length=32)


class ContinueSerializer(serializers.Serializer[Any]):
    """At which station to go on; without one at the same."""

    station = serializers.SlugField(max_length=32, required=False)


class SpoilSerializer(serializers.Serializer[Any]):
    """Which waiting blanks cannot be made, and why."""

    serials = serializers.ListField(child=serializers.CharField(max_length=32), min_length=1)
    reason = serializers.ChoiceField(choices=list(BLANK_REASONS))

    def validate_serials(self, serials: list[str]) -> list[str]:
        """Return the serials, each once, no more than a run can hold."""
        if len(serials) > settings.FEEDER_MOST_CARDS:
            raise serializers.ValidationError(f"不超过 {settings.FEEDER_MOST_CARDS} 张")
        return list(dict.fromkeys(serials))


@extend_schema_view(list=extend_schema(parameters=[choice_parameter("status", FeederStatus)]))
class FeederRunViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[FeederRun]):
    """Batches made card after card at a station (R-16, R-18)."""

    permission: ClassVar[str] = "stations.view_feederrun"
    queryset = FeederRun.objects.select_related("batch", "station", "operator")
    serializer_class = FeederRunSerializer

    def get_queryset(self) -> QuerySet[FeederRun]:
        """Return the visible runs with their cards counted, of one status when asked."""
        return counted_runs(self.chosen(super().get_queryset(), "status", FeederStatus))

    @extend_schema(request=StartSerializer, responses={201: FeederRunSerializer}, parameters=[KEY_PARAMETER])
    def create(self, request: Request) -> Response:
        """Start a prepared batch at a station, in place of the line."""
        require(self.actor, "stations.run_feeder")
        form = StartSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return answer_once(request, partial(self._start, **form.validated_data))

    def _start(self, batch: str, station: str) -> Response:
        found = Batch.objects.visible_to(self.actor).filter(number=batch).first()
        if found is None:
            raise BatchUnknownError("没有这个批次", where="batch", got=batch)
        run = start_feeder(found, station=self._station(station), actor=self.actor)
        return self._answer(run, status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=FeederRunSerializer, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str) -> Response:
        """Stop after the card in the reader."""
        run = self.get_object()
        return answer_once(request, lambda: self._answer(stop_feeder(run, actor=self.actor)))

    @extend_schema(request=ContinueSerializer, responses=FeederRunSerializer, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"], url_path="continue")
    def go_on(self, request: Request, pk: str) -> Response:
        """Go on with the cards that are left, at the same station or at another one."""
        run = self.get_object()
        form = ContinueSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return answer_once(request, partial(self._go_on, run, form.validated_data.get("station")))

    def _go_on(self, run: FeederRun, station: str | None) -> Response:
        target = self._station(station) if station else None
        return self._answer(continue_feeder(run, station=target, actor=self.actor))

    @extend_schema(request=SpoilSerializer, responses=FeederRunSerializer, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"])
    def spoil(self, request: Request, pk: str) -> Response:
        """Reject waiting blanks of a stopped run that cannot be made, all or none."""
        run = self.get_object()
        form = SpoilSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return answer_once(request, partial(self._spoil, run, **form.validated_data))

    def _spoil(self, run: FeederRun, serials: list[str], reason: str) -> Response:
        return self._answer(spoil_blanks(run, serials, reason=reason, actor=self.actor))

    def _station(self, code: str) -> Station:
        found: Station | None = Station.objects.visible_to(self.actor).filter(code=code).first()
        if found is None:
            raise StationUnknownError("没有这个制卡点", where="station", got=code)
        return found

    def _answer(self, run: FeederRun, code: int = status.HTTP_200_OK) -> Response:
        return Response(FeederRunSerializer(counted_runs(self.queryset).get(pk=run.pk)).data, status=code)
