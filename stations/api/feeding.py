"""The addresses an agent talks to while its feeder makes a batch; only the station's own runs are there."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from stations.api.exchange_serializers import CODE, HexField
from stations.api.views import AgentView
from stations.models import FeederRun
from stations.services.feeding import Stopped, current_run, next_card


class StoppedSerializer(serializers.Serializer[Any]):
    """What stopped the feeder."""

    code = serializers.RegexField(CODE, max_length=64)
    text = serializers.CharField(max_length=200, allow_blank=True)


class NextCardSerializer(serializers.Serializer[Any]):
    """Which blank lies in the reader (none: empty), or what stopped the feeder."""

    atr = HexField(max_bytes=33)
    stopped = StoppedSerializer(required=False, allow_null=True, default=None)


class NextCardAnswerSerializer(serializers.Serializer[Any]):
    """What to do: bring a blank, make the card in the reader, put it aside, or stop and why."""

    action = serializers.ChoiceField(choices=["feed", "card", "other", "stop"])
    issuance = serializers.IntegerField()
    serial = serializers.CharField(allow_blank=True)
    prints = serializers.BooleanField()
    code = serializers.CharField(allow_blank=True)
    text = serializers.CharField(allow_blank=True)


class CurrentRunSerializer(serializers.Serializer[Any]):
    """The run that a restarted agent goes on with, null without one."""

    run = serializers.IntegerField(allow_null=True)


class NextCardView(AgentView):
    """The agent asks for its next card."""

    @extend_schema(request=NextCardSerializer, responses=NextCardAnswerSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Answer with what to do next."""
        runs = FeederRun.objects.select_related("station", "batch", "operator")
        run = get_object_or_404(runs, pk=pk, station=self.station)
        form = NextCardSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        values: dict[str, Any] = form.validated_data
        stopped = values["stopped"] and Stopped(**values["stopped"])
        return Response(next_card(run, atr=values["atr"], stopped=stopped))


class CurrentRunView(AgentView):
    """The agent was started again."""

    @extend_schema(responses=CurrentRunSerializer)
    def get(self, request: Request) -> Response:
        """Return the run that is to go on."""
        run = current_run(self.station)
        return Response(CurrentRunSerializer({"run": run and run.pk}).data)
