"""What the API shows of packages, orders and account files; nothing personal."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from orders.models import AccountFile, Order, Package
from orders.selectors.accounts import problem_counts as account_problem_counts
from orders.selectors.packages import problem_counts, validation_of


class PackageSerializer(serializers.ModelSerializer[Package]):
    """A package with its counts, or why it was refused."""

    sender = serializers.CharField(source="sender.code", default=None, read_only=True, allow_null=True)

    class Meta:
        model = Package
        fields = [
            "id", "number", "sender", "file_name", "status", "refusal_code", "refusal_text",
            "received_at", "validated_at", "destroyed_at",
            "record_count", "accepted_count", "returned_count",
        ]  # fmt: skip
        read_only_fields = fields


class PackageDetailSerializer(PackageSerializer):
    """A package with how far its check is and what was found."""

    checked_count = serializers.SerializerMethodField()
    problems = serializers.SerializerMethodField(help_text=_("问题代码 → 退回记录数"))

    class Meta(PackageSerializer.Meta):
        fields = [*PackageSerializer.Meta.fields, "checked_count", "problems"]
        read_only_fields = fields

    def get_checked_count(self, package: Package) -> int:
        """Count the records checked so far."""
        return validation_of(package).checked

    @extend_schema_field({"type": "object", "additionalProperties": {"type": "integer"}})
    def get_problems(self, package: Package) -> dict[str, int]:
        """Count the returned records by code."""
        return dict(problem_counts(package))


class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order and how it stands against its deadline (R-10, R-48)."""

    bank = serializers.CharField(source="bank.code", read_only=True)
    supplier = serializers.CharField(source="contract.supplier.code", read_only=True)
    contract = serializers.CharField(source="contract.number", read_only=True)
    lot = serializers.IntegerField(source="contract.lot", read_only=True)
    days_left = serializers.SerializerMethodField(help_text=_("剩余工作日，逾期为负"))
    light = serializers.SerializerMethodField()

    class Meta:
        model = Order
        fields = [
            "id", "number", "bank", "supplier", "contract", "lot", "card_kind", "quantity", "unit_price",
            "matched_on", "due_on", "due_is_provisional", "days_left", "light",
            "status", "created_at", "completed_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_days_left(self, order: Order) -> int:
        """Return the working days left."""
        return int(self.context["progress"][order.pk].days_left)

    @extend_schema_field({"type": "string", "enum": ["green", "amber", "red", "done"]})
    def get_light(self, order: Order) -> str:
        """Return the order's light."""
        return str(self.context["progress"][order.pk].light)


class AccountFileSerializer(serializers.ModelSerializer[AccountFile]):
    """An account file with the counts of its dry run."""

    bank = serializers.CharField(source="bank.code", read_only=True)

    class Meta:
        model = AccountFile
        fields = [
            "id", "bank", "file_name", "size", "status", "refusal_code", "refusal_text",
            "row_count", "good_count", "refused_count", "uploaded_at",
        ]  # fmt: skip
        read_only_fields = fields


class AccountFileDetailSerializer(AccountFileSerializer):
    """An account file with its findings counted by code."""

    problems = serializers.SerializerMethodField(help_text=_("问题代码 → 条数"))

    class Meta(AccountFileSerializer.Meta):
        fields = [*AccountFileSerializer.Meta.fields, "problems"]
        read_only_fields = fields

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_problems(self, account_file: AccountFile) -> dict[str, Any]:
        """Count the findings by code; their content is for the bank's workbook only."""
        return dict(account_problem_counts(account_file))
