"""API views of the billing app: statements and their adjustments (R-39, R-40)."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any, BinaryIO, ClassVar

from django.db.models import OuterRef, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.http import FileResponse
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.serializers import (
    AdjustmentRequestSerializer,
    AdjustmentSerializer,
    StatementDetailSerializer,
    StatementSerializer,
)
from billing.models import Adjustment, AdjustmentStatus, Statement, StatementStatus
from billing.selectors import AMOUNT
from billing.services.closing import close_statement, decide_adjustment, request_adjustment
from billing.services.statements import statement_workbook
from portal.adminkit.downloads import written
from portal.apikit.idempotency import answer_once
from portal.apikit.throttles import DOWNLOADS
from portal.apikit.views import FILE_RESPONSE, KEY_PARAMETER, ScopedViewSet, choice_parameter
from portal.roles import require

_NOTHING = Value(Decimal("0.00"))
_AGREED = Adjustment.objects.filter(statement=OuterRef("pk"), status=AdjustmentStatus.APPROVED).order_by()
_ADDED = Subquery(_AGREED.values("statement").annotate(sum=Sum("amount", output_field=AMOUNT)).values("sum"))
_TOTAL = Coalesce(Sum("lines__amount"), _NOTHING, output_field=AMOUNT)
_ADJUSTED = Coalesce(_ADDED, _NOTHING, output_field=AMOUNT)


@extend_schema_view(
    list=extend_schema(parameters=[choice_parameter("status", StatementStatus)]),
    retrieve=extend_schema(responses=StatementDetailSerializer),
)
class StatementViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[Statement]):
    """Half-yearly statements of the contracts the user may see."""

    permission: ClassVar[str] = "billing.view_statement"
    queryset = Statement.objects.select_related("period__contract__supplier")
    serializer_class = StatementSerializer

    def get_queryset(self) -> QuerySet[Statement]:
        """Return the visible statements with their totals, of one status when asked."""
        rows = self.chosen(super().get_queryset(), "status", StatementStatus)
        rows = rows.annotate(total=_TOTAL, adjusted=_ADJUSTED)
        return rows.prefetch_related("lines__bank") if self.action in {"retrieve", "close"} else rows

    def get_serializer_class(self) -> Any:
        """Show the lines of a single statement."""
        return StatementDetailSerializer if self.action in {"retrieve", "close"} else StatementSerializer

    @extend_schema(request=None, responses=StatementDetailSerializer, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: str) -> Response:
        """Settle an ended half-year; its lines never change afterwards."""
        statement = self.get_object()
        require(self.actor, "billing.close_statement")
        return answer_once(request, partial(self._close, statement))

    def _close(self, statement: Statement) -> Response:
        close_statement(statement, actor=self.actor)
        return Response(StatementDetailSerializer(self.get_object()).data)

    @extend_schema(
        request=AdjustmentRequestSerializer, responses={201: AdjustmentSerializer}, parameters=[KEY_PARAMETER]
    )
    @action(detail=True, methods=["post"])
    def adjustments(self, request: Request, pk: str) -> Response:
        """Ask to correct a closed statement; a second person decides."""
        statement = self.get_object()
        require(self.actor, "billing.request_adjustment")
        form = AdjustmentRequestSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return answer_once(request, partial(self._adjust, statement, form.validated_data))

    def _adjust(self, statement: Statement, asked: dict[str, Any]) -> Response:
        adjustment = request_adjustment(statement, **asked, actor=self.actor)
        return Response(AdjustmentSerializer(adjustment).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={200: FILE_RESPONSE})
    @action(detail=True, throttle_classes=DOWNLOADS)
    def workbook(self, request: Request, pk: str) -> FileResponse:
        """Download the statement as Excel; the export is audited."""
        statement = self.get_object()
        return written(f"{statement}-结算单.xlsx", partial(self._write, statement))

    def _write(self, statement: Statement, target: BinaryIO) -> None:
        statement_workbook(statement, target, actor=self.actor)


@extend_schema_view(list=extend_schema(parameters=[choice_parameter("status", AdjustmentStatus)]))
class AdjustmentViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[Adjustment]):
    """Corrections of closed statements, which two people make."""

    permission: ClassVar[str] = "billing.view_adjustment"
    queryset = Adjustment.objects.select_related("bank", "requested_by", "decided_by")
    serializer_class = AdjustmentSerializer

    def get_queryset(self) -> QuerySet[Adjustment]:
        """Return the visible adjustments, of one status when asked."""
        return self.chosen(super().get_queryset(), "status", AdjustmentStatus)

    @extend_schema(request=None, responses=AdjustmentSerializer, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Approve as the second person."""
        return self._decided(request, approve=True)

    @extend_schema(request=None, responses=AdjustmentSerializer, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"])
    def refuse(self, request: Request, pk: str) -> Response:
        """Refuse as the second person."""
        return self._decided(request, approve=False)

    def _decided(self, request: Request, *, approve: bool) -> Response:
        adjustment = self.get_object()
        return answer_once(request, partial(self._decide, adjustment, approve=approve))

    def _decide(self, adjustment: Adjustment, *, approve: bool) -> Response:
        decided = decide_adjustment(adjustment, approve=approve, actor=self.actor)
        return Response(AdjustmentSerializer(decided).data)
