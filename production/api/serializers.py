"""What the API shows of deliveries, return files and destruction certificates."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from production.models import Carton, Delivery, DestructionCertificate, Receipt, ReturnFile

MAX_CARTON = 2000  # BankProfile.carton_size allows no more


class HexField(serializers.Field[bytes, str, str, Any]):
    """Bytes of the database as hexadecimal digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: Any) -> str:
        """Return lower-case digits."""
        return bytes(value).hex()


Hex = extend_schema_field(OpenApiTypes.STR)(HexField)


class ReceiptSerializer(serializers.ModelSerializer[Receipt]):
    """The bank's word on a carton."""

    missing_positions = serializers.ListField(child=serializers.IntegerField(), read_only=True)

    class Meta:
        model = Receipt
        fields = ["result", "counted", "missing_positions", "note", "signed_at"]
        read_only_fields = fields


class CartonSerializer(serializers.ModelSerializer[Carton]):
    """A carton and its receipt, once it has one."""

    receipt = ReceiptSerializer(read_only=True, allow_null=True, default=None)

    class Meta:
        model = Carton
        fields = ["id", "number", "card_count", "receipt"]
        read_only_fields = fields


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """A delivery to one delivery point (R-23)."""

    batch = serializers.CharField(source="batch.number", read_only=True)
    order = serializers.CharField(source="batch.order.number", read_only=True)
    bank = serializers.CharField(source="batch.order.bank.code", read_only=True)
    delivery_point = serializers.CharField(source="delivery_point.code", read_only=True)
    delivery_point_name = serializers.CharField(source="delivery_point.name", read_only=True)
    list_is_ready = serializers.SerializerMethodField()
    list_digest = Hex(allow_null=True)

    class Meta:
        model = Delivery
        fields = [
            "id", "number", "batch", "order", "bank", "delivery_point", "delivery_point_name", "card_count",
            "status", "list_is_ready", "list_digest", "dispatched_at", "signed_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_list_is_ready(self, delivery: Delivery) -> bool:
        """Say whether the list can be downloaded."""
        return bool(delivery.list_name)


class DeliveryDetailSerializer(DeliverySerializer):
    """A delivery with its cartons."""

    cartons = CartonSerializer(many=True, read_only=True)

    class Meta(DeliverySerializer.Meta):
        fields = [*DeliverySerializer.Meta.fields, "cartons"]
        read_only_fields = fields


class ReceiptRequestSerializer(serializers.Serializer[Any]):
    """What a bank found in a carton."""

    counted = serializers.IntegerField(min_value=0, max_value=MAX_CARTON)
    missing_positions = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=MAX_CARTON),
        required=False,
        default=list,
        max_length=MAX_CARTON,
    )
    note = serializers.CharField(required=False, default="", allow_blank=True, max_length=200)


class ReturnFileSerializer(serializers.ModelSerializer[ReturnFile]):
    """A return file (回盘); its content is sealed for the provincial card system."""

    batch = serializers.CharField(source="batch.number", read_only=True)
    digest = Hex()

    class Meta:
        model = ReturnFile
        fields = ["id", "batch", "card_count", "failed_count", "digest", "created_at"]
        read_only_fields = fields


class CertificateSerializer(serializers.ModelSerializer[DestructionCertificate]):
    """A destruction certificate: canonical content and SM2 signature over it (R-22)."""

    batch = serializers.CharField(source="batch.number", read_only=True, default=None)
    request = serializers.IntegerField(source="request_id", read_only=True, allow_null=True)
    content = serializers.DictField(read_only=True)
    signature = Hex(help_text=_("对规范化内容（键排序、无空白的 UTF-8 JSON）的 SM2 签名，DER，十六进制"))

    class Meta:
        model = DestructionCertificate
        fields = ["id", "number", "batch", "request", "content", "signature", "issued_at"]
        read_only_fields = fields
