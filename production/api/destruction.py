"""API of destruction: requests that two people decide, and what is overdue (R-22)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from portal.apikit.idempotency import answer_once
from portal.apikit.views import KEY_PARAMETER, ScopedViewSet
from production.models import DestructionAlarm, DestructionRequest
from production.services.destruction_requests import (
    decide_early_destruction,
    find_subject,
    request_early_destruction,
)


class DestructionRequestSerializer(serializers.ModelSerializer[DestructionRequest]):
    """A request for early destruction and what became of it."""

    package = serializers.CharField(source="package.number", read_only=True)
    requested_by = serializers.CharField(source="requested_by.username", read_only=True)
    decided_by = serializers.CharField(source="decided_by.username", read_only=True, default=None)
    certificate = serializers.CharField(source="certificate.number", read_only=True, default=None)

    class Meta:
        model = DestructionRequest
        fields = [
            "id", "package", "row_number", "reason", "status", "record_count", "requested_by", "requested_at",
            "decided_by", "decided_at", "certificate",
        ]  # fmt: skip
        read_only_fields = fields


class EarlyDestructionSerializer(serializers.Serializer[Any]):
    """What is to be destroyed early: a package, or one row of it, and why."""

    package = serializers.CharField(max_length=64)
    row_number = serializers.IntegerField(min_value=1, required=False, allow_null=True, default=None)
    reason = serializers.CharField(max_length=200)


class DecisionSerializer(serializers.Serializer[Any]):
    """The second person's word."""

    approve = serializers.BooleanField()


class DestructionRequestViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[DestructionRequest]):
    """Requests for early destruction."""

    permission: ClassVar[str] = "production.view_destructionrequest"
    queryset = DestructionRequest.objects.select_related(
        "package", "requested_by", "decided_by", "certificate"
    )
    serializer_class = DestructionRequestSerializer

    @extend_schema(
        request=EarlyDestructionSerializer,
        responses={201: DestructionRequestSerializer},
        parameters=[KEY_PARAMETER],
    )
    def create(self, request: Request) -> Response:
        """Ask to destroy a package's open records, or one person's, before cards are made."""
        form = EarlyDestructionSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return answer_once(request, partial(self._create, form.validated_data))

    def _create(self, wanted: dict[str, Any]) -> Response:
        subject = find_subject(wanted["package"], wanted["row_number"], actor=self.actor)
        made = request_early_destruction(subject, reason=wanted["reason"], actor=self.actor)
        return Response(DestructionRequestSerializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(
        request=DecisionSerializer,
        responses={200: DestructionRequestSerializer},
        parameters=[KEY_PARAMETER],
    )
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, pk: str) -> Response:
        """Approve or refuse as the second person; an approval destroys at once."""
        row = self.get_object()
        form = DecisionSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return answer_once(request, partial(self._decide, row, form.validated_data["approve"]))

    def _decide(self, row: DestructionRequest, approve: bool) -> Response:
        decided = decide_early_destruction(row, approve=approve, actor=self.actor)
        return Response(DestructionRequestSerializer(decided).data)


class DestructionAlarmSerializer(serializers.ModelSerializer[DestructionAlarm]):
    """What is, or was, overdue for destruction."""

    class Meta:
        model = DestructionAlarm
        fields = ["id", "kind", "subject", "count", "due_at", "raised_at", "cleared_at"]
        read_only_fields = fields


class DestructionAlarmViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[DestructionAlarm]):
    """Personal data past its limit; `cleared_at` is empty while it still is."""

    permission: ClassVar[str] = "production.view_destructionalarm"
    queryset = DestructionAlarm.objects.all()
    serializer_class = DestructionAlarmSerializer
