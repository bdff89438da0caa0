"""The addresses an agent talks to while it makes a card; only the station's own issuances are there."""

from __future__ import annotations

import time
from base64 import b64encode
from typing import Any, ClassVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from stations.api.exchange_serializers import (
    BeginSerializer,
    ClaimSerializer,
    FacesSerializer,
    PrintAnswerSerializer,
    PrintOrderSerializer,
    PrintSerializer,
    StepAnswerSerializer,
    StepSerializer,
)
from stations.api.views import AgentView
from stations.models import Issuance
from stations.services.exchange import begin, faces, issuances_of, note_print, take_step
from stations.services.printing import claim_print


class IssuanceView(AgentView):
    """The base: one of the calling station's issuances."""

    most_bytes: ClassVar[int] = 2 << 20

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Say in the answer how long the portal took for it: the agent tells network and portal apart."""
        begun = time.perf_counter()
        answer = super().dispatch(request, *args, **kwargs)
        answer["Server-Timing"] = f"portal;dur={(time.perf_counter() - begun) * 1000:.1f}"
        return answer

    def issuance(self, pk: int) -> Issuance:
        """Return the issuance, 404 for one of another station."""
        return get_object_or_404(issuances_of(self.station), pk=pk)


class BeginView(IssuanceView):
    """The agent has a card in its reader."""

    @extend_schema(request=BeginSerializer, responses=StepAnswerSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Answer with the script that identifies the card."""
        form = BeginSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        values: dict[str, Any] = form.validated_data
        return Response(begin(self.issuance(pk), reader=values["reader"], atr=values["atr"]))


class StepView(IssuanceView):
    """The agent brings back what the card answered."""

    @extend_schema(request=StepSerializer, responses=StepAnswerSerializer)
    def post(self, request: Request, pk: int, step: int) -> Response:
        """Answer with the next script, or with what became of the card."""
        form = StepSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return Response(take_step(self.issuance(pk), step, form.report()))


class OrderView(IssuanceView):
    """A written card that no printer took yet is to be printed."""

    @extend_schema(request=ClaimSerializer, responses=PrintOrderSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Answer which sides are to be printed, to one claim only."""
        issuance, form = self.issuance(pk), ClaimSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return Response(claim_print(issuance, form.validated_data["claim"]))


class FacesView(IssuanceView):
    """What the printer prints."""

    @extend_schema(responses=FacesSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """Return the sides to print in one answer, only while they are to be printed."""
        found = [
            {"side": side, "jpeg": b64encode(content).decode()} for side, content in faces(self.issuance(pk))
        ]
        return Response(FacesSerializer({"faces": found}).data, headers={"Cache-Control": "no-store"})


class PrintView(IssuanceView):
    """The printer's word on its job."""

    @extend_schema(request=PrintSerializer, responses=PrintAnswerSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Note a change of the job's state."""
        form = PrintSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        issuance = note_print(self.issuance(pk), form.report())
        return Response(PrintAnswerSerializer({"status": issuance.status}).data)
