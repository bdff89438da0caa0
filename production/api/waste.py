"""API of the destruction of rejected cards: asked for by one person, witnessed by another (R-21)."""

from __future__ import annotations

from functools import partial
from typing import Any, BinaryIO, ClassVar

from django.db.models import QuerySet
from django.http import FileResponse
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from orders.models import Contract
from portal.adminkit.downloads import written
from portal.apikit.idempotency import answer_once
from portal.apikit.throttles import DOWNLOADS
from portal.apikit.views import FILE_RESPONSE, KEY_PARAMETER, ScopedViewSet, choice_parameter
from portal.core.errors import InputRefusedError
from portal.roles import require
from production.choices import DestructionMethod, RequestStatus
from production.models import CardDestruction
from production.services.waste import (
    MOST_CARDS,
    decide_card_destruction,
    destruction_record,
    request_card_destruction,
)


class ContractUnknownError(InputRefusedError):
    """No contract of the caller's has this number."""

    code = "contract_unknown"


class CardDestructionSerializer(serializers.ModelSerializer[CardDestruction]):
    """A request to destroy cards, or the record that they are."""

    contract = serializers.CharField(source="contract.number", read_only=True)
    serials = serializers.ListField(child=serializers.CharField(), read_only=True)
    requested_by = serializers.CharField(source="requested_by.username", read_only=True)
    decided_by = serializers.CharField(source="decided_by.username", read_only=True, default=None)

    class Meta:
        model = CardDestruction
        fields = [
            "id", "number", "contract", "method", "place", "card_count", "serials", "note", "status",
            "requested_by", "requested_at", "decided_by", "decided_at", "destroyed_on", "witnesses",
        ]  # fmt: skip
        read_only_fields = fields


class DestructionRequestSerializer(serializers.Serializer[Any]):
    """Which rejected cards of which contract; without serials all that wait in the spoiled store."""

    contract = serializers.CharField(max_length=40)
    serials = serializers.ListField(
        child=serializers.CharField(max_length=32), max_length=MOST_CARDS, min_length=1, required=False
    )
    method = serializers.ChoiceField(choices=DestructionMethod.choices)
    place = serializers.CharField(max_length=100)
    note = serializers.CharField(max_length=200, required=False, allow_blank=True)


class WitnessSerializer(serializers.Serializer[Any]):
    """Who else was there."""

    witnesses = serializers.CharField(max_length=200, required=False, allow_blank=True)


@extend_schema_view(list=extend_schema(parameters=[choice_parameter("status", RequestStatus)]))
class CardDestructionViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[CardDestruction]):
    """Destructions of rejected cards."""

    permission: ClassVar[str] = "production.view_carddestruction"
    queryset = CardDestruction.objects.select_related("contract", "requested_by", "decided_by")
    serializer_class = CardDestructionSerializer

    def get_queryset(self) -> QuerySet[CardDestruction]:
        """Return the visible destructions, of one status when asked."""
        return self.chosen(super().get_queryset(), "status", RequestStatus)

    @extend_schema(
        request=DestructionRequestSerializer,
        responses={201: CardDestructionSerializer},
        parameters=[KEY_PARAMETER],
    )
    def create(self, request: Request) -> Response:
        """Ask to destroy cards; a second person witnesses it."""
        require(self.actor, "production.request_carddestruction")
        form = DestructionRequestSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return answer_once(request, partial(self._ask, dict(form.validated_data)))

    def _ask(self, asked: dict[str, Any]) -> Response:
        number = asked.pop("contract")
        contract = Contract.objects.visible_to(self.actor).filter(number=number).first()
        if contract is None:
            raise ContractUnknownError("没有这份合同", where="contract", got=number)
        made = request_card_destruction(contract, **asked, actor=self.actor)
        return Response(CardDestructionSerializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=WitnessSerializer, responses=CardDestructionSerializer, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Confirm as the witness that the cards are destroyed."""
        destruction = self.get_object()
        form = WitnessSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return answer_once(request, partial(self._decide, destruction, approve=True, **form.validated_data))

    @extend_schema(request=None, responses=CardDestructionSerializer, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"])
    def refuse(self, request: Request, pk: str) -> Response:
        """Refuse as the second person."""
        return answer_once(request, partial(self._decide, self.get_object(), approve=False))

    def _decide(self, destruction: CardDestruction, *, approve: bool, witnesses: str = "") -> Response:
        decided = decide_card_destruction(destruction, approve=approve, witnesses=witnesses, actor=self.actor)
        return Response(CardDestructionSerializer(decided).data)

    @extend_schema(responses={200: FILE_RESPONSE})
    @action(detail=True, throttle_classes=DOWNLOADS)
    def record(self, request: Request, pk: str) -> FileResponse:
        """Download the record that both people sign as Excel; the export is audited."""
        destruction = self.get_object()
        return written(f"{destruction.number}.xlsx", partial(self._write, destruction))

    def _write(self, destruction: CardDestruction, target: BinaryIO) -> None:
        destruction_record(destruction, target, actor=self.actor)
