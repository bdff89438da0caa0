"""API of the banks' sealed account packages (R-8)."""

from __future__ import annotations

from functools import partial
from typing import BinaryIO, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from orders.api.serializers import AccountFileSerializer
from orders.choices import AccountPackageStatus
from orders.models import AccountPackage
from orders.services.sealed_accounts import FRAME_BYTES, receive_accounts
from portal.apikit.idempotency import answer_once
from portal.apikit.uploads import UploadSerializer, uploaded
from portal.apikit.views import KEY_PARAMETER, UploadViewSet, choice_parameter
from portal.roles import require


class AccountPackageSerializer(serializers.ModelSerializer[AccountPackage]):
    """A sealed account package with the files it brought, or why it was refused."""

    bank = serializers.CharField(source="bank.code", read_only=True)
    files = AccountFileSerializer(many=True, read_only=True)

    class Meta:
        model = AccountPackage
        fields = [
            "id", "bank", "number", "file_name", "status", "refusal_code", "refusal_text", "received_at",
            "files",
        ]  # fmt: skip
        read_only_fields = fields


@extend_schema_view(list=extend_schema(parameters=[choice_parameter("status", AccountPackageStatus)]))
class AccountPackageViewSet(ListModelMixin, RetrieveModelMixin, UploadViewSet[AccountPackage]):
    """Sealed account packages of the user's bank (R-8)."""

    permission: ClassVar[str] = "orders.view_accountpackage"
    queryset = AccountPackage.objects.select_related("bank").prefetch_related("files__bank")
    serializer_class = AccountPackageSerializer
    parser_classes = [MultiPartParser]

    def get_queryset(self) -> QuerySet[AccountPackage]:
        """Return the visible packages, of one status when asked."""
        return self.chosen(super().get_queryset(), "status", AccountPackageStatus)

    def upload_limit(self) -> int:
        """Return what the setting allows."""
        return settings.MAX_ACCOUNT_FILE_BYTES + FRAME_BYTES

    @extend_schema(
        request={"multipart/form-data": UploadSerializer},
        responses={201: AccountPackageSerializer},
        parameters=[KEY_PARAMETER],
    )
    def create(self, request: Request) -> Response:
        """Receive a sealed account package of the user's bank; the dry run of its files follows."""
        require(self.actor, "orders.upload_accounts")
        file, name = uploaded(request)
        return answer_once(request, partial(self._receive, file, name))

    def _receive(self, file: BinaryIO, name: str) -> Response:
        package = receive_accounts(file, file_name=name, actor=self.actor)
        return Response(AccountPackageSerializer(package).data, status=status.HTTP_201_CREATED)
