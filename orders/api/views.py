"""API views of the orders app: packages, orders and the banks' account files."""

from __future__ import annotations

from functools import partial
from typing import Any, BinaryIO, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from django.http import FileResponse
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from orders.api.serializers import (
    AccountFileDetailSerializer,
    AccountFileSerializer,
    OrderSerializer,
    PackageDetailSerializer,
    PackageSerializer,
)
from orders.choices import AccountFileStatus, OrderStatus, PackageStatus
from orders.models import AccountFile, Order, Package
from orders.selectors.orders import progress
from orders.services.accounts import load_account_file, problem_workbook, upload_account_file
from orders.services.packages import receive_package
from orders.services.records import return_list
from portal.adminkit.downloads import written
from portal.apikit.idempotency import answer_once
from portal.apikit.throttles import DOWNLOADS
from portal.apikit.uploads import UploadSerializer, uploaded
from portal.apikit.views import FILE_RESPONSE, KEY_PARAMETER, ScopedViewSet, UploadViewSet, choice_parameter
from portal.core.errors import InputRefusedError
from portal.roles import require


class NoBankError(InputRefusedError):
    """Account files are uploaded by the bank itself."""

    code = "no_bank"


@extend_schema_view(
    list=extend_schema(parameters=[choice_parameter("status", PackageStatus)]),
    retrieve=extend_schema(responses=PackageDetailSerializer),
)
class PackageViewSet(ListModelMixin, RetrieveModelMixin, UploadViewSet[Package]):
    """Sealed packages of card data (R-8)."""

    permission: ClassVar[str] = "orders.view_package"
    queryset = Package.objects.select_related("sender")
    serializer_class = PackageSerializer
    parser_classes = [MultiPartParser]

    def get_queryset(self) -> QuerySet[Package]:
        """Return the visible packages, of one status when asked."""
        return self.chosen(super().get_queryset(), "status", PackageStatus)

    def get_serializer_class(self) -> Any:
        """Show more of a single package."""
        return PackageDetailSerializer if self.action == "retrieve" else PackageSerializer

    def upload_limit(self) -> int:
        """Return what the setting allows."""
        return settings.MAX_PACKAGE_BYTES

    @extend_schema(
        request={"multipart/form-data": UploadSerializer},
        responses={201: PackageSerializer},
        parameters=[KEY_PARAMETER],
    )
    def create(self, request: Request) -> Response:
        """Receive a sealed package; its content is checked in the background."""
        require(self.actor, "orders.receive_package")
        file, name = uploaded(request)
        return answer_once(request, partial(self._receive, file, name))

    def _receive(self, file: BinaryIO, name: str) -> Response:
        package = receive_package(file, file_name=name, actor=self.actor)
        return Response(PackageSerializer(package).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={200: FILE_RESPONSE})
    @action(detail=True, throttle_classes=DOWNLOADS)
    def returns(self, request: Request, pk: str) -> FileResponse:
        """Download the return list as Excel: row, field, expected, got."""
        package = self.get_object()
        return written(f"{package.number}-退回清单.xlsx", partial(self._write_returns, package))

    def _write_returns(self, package: Package, target: BinaryIO) -> None:
        return_list(package, target, actor=self.actor)


@extend_schema_view(list=extend_schema(parameters=[choice_parameter("status", OrderStatus)]))
class OrderViewSet(RetrieveModelMixin, ListModelMixin, ScopedViewSet[Order]):
    """Orders with their deadline (R-10)."""

    permission: ClassVar[str] = "orders.view_order"
    queryset = Order.objects.select_related("bank", "contract__supplier")
    serializer_class = OrderSerializer

    def get_queryset(self) -> QuerySet[Order]:
        """Return the visible orders, of one status when asked."""
        return self.chosen(super().get_queryset(), "status", OrderStatus)

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return a page of orders, newest first."""
        page = self.paginate_queryset(self.get_queryset()) or []
        context = {**self.get_serializer_context(), "progress": progress(page)}
        return self.get_paginated_response(OrderSerializer(page, many=True, context=context).data)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return one order."""
        order = self.get_object()
        context = {**self.get_serializer_context(), "progress": progress([order])}
        return Response(OrderSerializer(order, context=context).data)


@extend_schema_view(
    list=extend_schema(parameters=[choice_parameter("status", AccountFileStatus)]),
    retrieve=extend_schema(responses=AccountFileDetailSerializer),
)
class AccountFileViewSet(ListModelMixin, RetrieveModelMixin, UploadViewSet[AccountFile]):
    """Account files of the user's bank (R-8, R-9)."""

    permission: ClassVar[str] = "orders.view_accountfile"
    queryset = AccountFile.objects.select_related("bank")
    serializer_class = AccountFileSerializer
    parser_classes = [MultiPartParser]
    upload_is_sealed = False

    def get_queryset(self) -> QuerySet[AccountFile]:
        """Return the visible files, of one status when asked."""
        return self.chosen(super().get_queryset(), "status", AccountFileStatus)

    def get_serializer_class(self) -> Any:
        """Show more of a single file."""
        return AccountFileDetailSerializer if self.action == "retrieve" else AccountFileSerializer

    def upload_limit(self) -> int:
        """Return what the setting allows."""
        return settings.MAX_ACCOUNT_FILE_BYTES

    @extend_schema(
        request={"multipart/form-data": UploadSerializer},
        responses={201: AccountFileSerializer},
        parameters=[KEY_PARAMETER],
    )
    def create(self, request: Request) -> Response:
        """Upload an account file (CSV or Excel); its dry run follows in the background."""
        require(self.actor, "orders.upload_accounts")
        file, name = uploaded(request)
        return answer_once(request, partial(self._upload, file, name))

    def _upload(self, file: BinaryIO, name: str) -> Response:
        bank = self.actor.organisation
        if bank is None:
            raise NoBankError("用户不属于任何银行")
        row = upload_account_file(file, file_name=name, bank=bank, actor=self.actor)
        return Response(AccountFileSerializer(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={202: AccountFileSerializer}, parameters=[KEY_PARAMETER])
    @action(detail=True, methods=["post"], parser_classes=[JSONParser, MultiPartParser])
    def load(self, request: Request, pk: str) -> Response:
        """Load the good rows of a checked file; matching follows by itself."""
        row = self.get_object()
        return answer_once(request, partial(self._load, row))

    def _load(self, row: AccountFile) -> Response:
        load_account_file(row, actor=self.actor)
        return Response(AccountFileSerializer(row).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses={200: FILE_RESPONSE})
    @action(detail=True, throttle_classes=DOWNLOADS)
    def problems(self, request: Request, pk: str) -> FileResponse:
        """Download the findings of the dry run as Excel."""
        row = self.get_object()
        return written(f"{row.bank.code}-账号文件问题.xlsx", partial(self._write_problems, row))

    def _write_problems(self, row: AccountFile, target: BinaryIO) -> None:
        problem_workbook(row, target, actor=self.actor)
