"""API views of the production app: deliveries and receipts, return files, destruction certificates."""

from __future__ import annotations

import io
from functools import partial
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import FileResponse, StreamingHttpResponse
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from portal.adminkit.downloads import attachment, streamed
from portal.apikit.idempotency import answer_once
from portal.apikit.throttles import DOWNLOADS
from portal.apikit.views import FILE_RESPONSE, KEY_PARAMETER, ScopedViewSet, choice_parameter
from production.api.serializers import (
    CartonSerializer,
    CertificateSerializer,
    DeliveryDetailSerializer,
    DeliverySerializer,
    ReceiptRequestSerializer,
    ReceiptSerializer,
    ReturnFileSerializer,
)
from production.choices import DeliveryStatus
from production.models import Carton, Delivery, DestructionCertificate, ReturnFile
from production.services.delivery import confirm_carton, download_list, sign_delivery
from production.services.papers import certificate_json, certificate_pdf, download_return_file


@extend_schema_view(
    list=extend_schema(parameters=[choice_parameter("status", DeliveryStatus)]),
    retrieve=extend_schema(responses=DeliveryDetailSerializer),
)
class DeliveryViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[Delivery]):
    """Deliveries, their lists and the bank's signature (R-23)."""

    permission: ClassVar[str] = "production.view_delivery"
    queryset = Delivery.objects.select_related("batch__order__bank", "delivery_point")
    serializer_class = DeliverySerializer

    def get_queryset(self) -> QuerySet[Delivery]:
        """Return the visible deliveries, of one status when asked."""
        rows = self.chosen(super().get_queryset(), "status", DeliveryStatus)
        return rows.prefetch_related("cartons__receipt") if self.action in {"retrieve", "sign"} else rows

    def get_serializer_class(self) -> Any:
        """Show the cartons of a single delivery."""
        return DeliverySerializer if self.action == "list" else DeliveryDetailSerializer

    @extend_schema(responses={200: FILE_RESPONSE})
    @action(detail=True, url_path="list", url_name="list-file", throttle_classes=DOWNLOADS)
    def list_file(self, request: Request, pk: str) -> StreamingHttpResponse:
        """Download the delivery list as Excel; the download is audited."""
        name, blocks = download_list(self.get_object(), actor=self.actor)
        return streamed(blocks, name)

    @extend_schema(request=None, responses=DeliveryDetailSerializer, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"])
    def sign(self, request: Request, pk: str) -> Response:
        """Sign for a delivery whose cartons are all confirmed."""
        delivery = self.get_object()
        return answer_once(request, partial(self._sign, delivery))

    def _sign(self, delivery: Delivery) -> Response:
        sign_delivery(delivery, actor=self.actor)
        return Response(DeliveryDetailSerializer(self.get_object()).data)


class CartonViewSet(RetrieveModelMixin, ScopedViewSet[Carton]):
    """Cartons, which the bank counts one by one."""

    permission: ClassVar[str] = "production.view_carton"
    queryset = Carton.objects.select_related("delivery__batch__order", "receipt")
    serializer_class = CartonSerializer

    @extend_schema(
        request=ReceiptRequestSerializer, responses={201: ReceiptSerializer}, parameters=[KEY_PARAMETER]
    )
    @action(detail=True, methods=["post"])
    def receipt(self, request: Request, pk: str) -> Response:
        """Say what was found in a carton: all as listed, or which positions are missing or damaged."""
        carton = self.get_object()
        form = ReceiptRequestSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        return answer_once(request, partial(self._confirm, carton, form.validated_data))

    def _confirm(self, carton: Carton, found: dict[str, Any]) -> Response:
        receipt = confirm_carton(carton, **found, actor=self.actor)
        return Response(ReceiptSerializer(receipt).data, status=status.HTTP_201_CREATED)


class ReturnFileViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[ReturnFile]):
    """Return files (回盘) for the provincial card system."""

    permission: ClassVar[str] = "production.view_returnfile"
    queryset = ReturnFile.objects.select_related("batch")
    serializer_class = ReturnFileSerializer

    @extend_schema(responses={200: FILE_RESPONSE})
    @action(detail=True, throttle_classes=DOWNLOADS)
    def content(self, request: Request, pk: str) -> StreamingHttpResponse:
        """Download the sealed file; the download is audited."""
        name, blocks = download_return_file(self.get_object(), actor=self.actor)
        return streamed(blocks, name, "application/octet-stream")


class CertificateViewSet(ListModelMixin, RetrieveModelMixin, ScopedViewSet[DestructionCertificate]):
    """Certificates that personal data was destroyed (R-22)."""

    permission: ClassVar[str] = "production.view_destructioncertificate"
    queryset = DestructionCertificate.objects.select_related("batch")
    serializer_class = CertificateSerializer

    @extend_schema(responses={200: FILE_RESPONSE})
    @action(detail=True, throttle_classes=DOWNLOADS)
    def pdf(self, request: Request, pk: str) -> FileResponse:
        """Download the certificate as people file it."""
        found = self.get_object()
        content = io.BytesIO(certificate_pdf(found, actor=self.actor))
        return attachment(content, f"{found.number}.pdf", "application/pdf")

    @extend_schema(responses={200: FILE_RESPONSE})
    @action(detail=True, throttle_classes=DOWNLOADS)
    def json(self, request: Request, pk: str) -> FileResponse:
        """Download content, signature and public key: all that an offline check needs."""
        found = self.get_object()
        content = io.BytesIO(certificate_json(found, actor=self.actor))
        return attachment(content, f"{found.number}.json", "application/json")
