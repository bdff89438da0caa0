"""API views of the stations app: for people who watch stations, and for the stations' own agents."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, cast

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from portal.apikit.idempotency import answer_once
from portal.apikit.uploads import refuse_too_large
from portal.apikit.views import KEY_PARAMETER, ScopedViewSet
from stations.api.authentication import EnrolmentThrottle, IsStation, StationAuthentication, StationThrottle
from stations.api.serializers import (
    EnrolAnswerSerializer,
    EnrolSerializer,
    HeartbeatAnswerSerializer,
    HeartbeatSerializer,
    IssuanceSerializer,
    ResultSerializer,
    SelfTestSerializer,
    StationSerializer,
)
from stations.models import Issuance, SelfTest, Station
from stations.services.card_jobs import sides_at
from stations.services.printing import print_again
from stations.services.registry import note_heartbeat, redeem_enrolment
from stations.services.self_tests import Result, report_self_test, request_self_test


class StationViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[Station]):
    """Stations and whether they are online."""

    permission: ClassVar[str] = "stations.view_station"
    queryset = Station.objects.select_related("operator")
    serializer_class = StationSerializer

    @extend_schema(
        operation_id="stations_self_test",
        request=None,
        responses={202: SelfTestSerializer},
        parameters=[KEY_PARAMETER],
    )
    @action(detail=True, methods=["post"], url_path="self-test")
    def self_test(self, request: Request, pk: str) -> Response:
        """Ask the station to read the card in its reader."""
        station = self.get_object()
        return answer_once(request, partial(self._request, station))

    def _request(self, station: Station) -> Response:
        test = request_self_test(station, actor=self.actor)
        return Response(SelfTestSerializer(test).data, status=status.HTTP_202_ACCEPTED)


class SelfTestViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[SelfTest]):
    """Self-tests and their results."""

    permission: ClassVar[str] = "stations.view_station"
    queryset = SelfTest.objects.select_related("station")
    serializer_class = SelfTestSerializer


class IssuanceViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[Issuance]):
    """Cards made at stations."""

    permission: ClassVar[str] = "stations.view_issuance"
    queryset = Issuance.objects.select_related("station", "card")
    serializer_class = IssuanceSerializer

    @extend_schema(
        operation_id="issuances_print_again",
        request=None,
        responses=IssuanceSerializer,
        parameters=[KEY_PARAMETER],
    )
    @action(detail=True, methods=["post"], url_path="print-again")
    def print_again(self, request: Request, pk: str) -> Response:
        """Print the same card once more; refused unless the first print was certainly not submitted."""
        issuance = self.get_object()
        return answer_once(request, partial(self._print_again, issuance))

    def _print_again(self, issuance: Issuance) -> Response:
        return Response(IssuanceSerializer(print_again(issuance, actor=self.actor)).data)


class AgentView(APIView):
    """The base of what only a station's agent may call."""

    authentication_classes = [StationAuthentication]
    permission_classes = [IsStation]
    throttle_classes = [StationThrottle]
    most_bytes: ClassVar[int] = 0  # beyond the frame of a small message

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse what is too long before anything reads it."""
        refuse_too_large(request, self.most_bytes)
        super().initial(request, *args, **kwargs)

    @property
    def station(self) -> Station:
        """Return who calls."""
        return cast("Station", self.request.auth)


class EnrolView(APIView):
    """A counter machine exchanges its one-time code for a credential; it has nothing else to show."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = [EnrolmentThrottle]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse what is too long before anything reads it."""
        refuse_too_large(request, 0)
        super().initial(request, *args, **kwargs)

    @extend_schema(request=EnrolSerializer, responses=EnrolAnswerSerializer, auth=[])
    def post(self, request: Request) -> Response:
        """Return a new credential, once."""
        form = EnrolSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        values: dict[str, Any] = form.validated_data
        answer = {"credential": redeem_enrolment(values["code"], values["one_time"])}
        return Response(EnrolAnswerSerializer(answer).data)


class HeartbeatView(AgentView):
    """Every station says every ten seconds how it is."""

    @extend_schema(request=HeartbeatSerializer, responses=HeartbeatAnswerSerializer)
    def post(self, request: Request) -> Response:
        """Keep the states of reader and printer."""
        form = HeartbeatSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        note_heartbeat(self.station, form.report())
        sides = sides_at(self.station)
        answer = {"station": self.station.code, "server_time": timezone.now(), "sides": sides}
        return Response(HeartbeatAnswerSerializer(answer).data)


class ResultView(AgentView):
    """A station reports its self-tests."""

    @extend_schema(request=ResultSerializer, responses=SelfTestSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Take the result of one of the station's own self-tests."""
        test = get_object_or_404(SelfTest.objects.select_related("station"), pk=pk, station=self.station)
        form = ResultSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        values: dict[str, Any] = form.validated_data
        return Response(SelfTestSerializer(report_self_test(test, Result(**values))).data)
