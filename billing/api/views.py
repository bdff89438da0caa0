"""API views of the billing app: statements (R-39, R-40)."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any, BinaryIO, ClassVar

from django.db.models import DecimalField, QuerySet, Sum, Value
from django.db.models.functions import Coalesce
from django.http import FileResponse
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request

from billing.api.serializers import StatementDetailSerializer, StatementSerializer
from billing.models import Statement, StatementStatus
from billing.services.statements import statement_workbook
from portal.adminkit.downloads import written
from portal.apikit.views import FILE_RESPONSE, ScopedViewSet, choice_parameter

_YUAN = DecimalField(max_digits=14, decimal_places=2)
_TOTAL = Coalesce(Sum("lines__amount"), Value(Decimal("0.00")), output_field=_YUAN)


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
        rows = self.chosen(super().get_queryset(), "status", StatementStatus).annotate(total=_TOTAL)
        return rows.prefetch_related("lines__bank") if self.action == "retrieve" else rows

    def get_serializer_class(self) -> Any:
        """Show the lines of a single statement."""
        return StatementDetailSerializer if self.action == "retrieve" else StatementSerializer

    @extend_schema(responses={200: FILE_RESPONSE})
    @action(detail=True)
    def workbook(self, request: Request, pk: str) -> FileResponse:
        """Download the statement as Excel; the export is audited."""
        statement = self.get_object()
        return written(f"{statement}-结算单.xlsx", partial(self._write, statement))

    def _write(self, statement: Statement, target: BinaryIO) -> None:
        statement_workbook(statement, target, actor=self.actor)
