"""What the API shows of statements."""

from __future__ import annotations

from rest_framework import serializers

from billing.models import Adjustment, Statement, StatementLine
from portal.choices import OrganisationKind
from portal.models import Organisation


class StatementLineSerializer(serializers.ModelSerializer[StatementLine]):
    """Cards of one bank and kind at one price (R-40)."""

    bank = serializers.CharField(source="bank.code", read_only=True)

    class Meta:
        model = StatementLine
        fields = ["bank", "card_kind", "billed_count", "unbilled_count", "unit_price", "amount"]
        read_only_fields = fields


class StatementSerializer(serializers.ModelSerializer[Statement]):
    """A statement of one half-year (R-39); `total` of its lines and `adjusted` by two people, in yuan."""

    contract = serializers.CharField(source="period.contract.number", read_only=True)
    lot = serializers.IntegerField(source="period.contract.lot", read_only=True)
    supplier = serializers.CharField(source="period.contract.supplier.code", read_only=True)
    period = serializers.IntegerField(source="period.number", read_only=True)
    starts_on = serializers.DateField(source="period.starts_on", read_only=True)
    ends_on = serializers.DateField(source="period.ends_on", read_only=True)
    total = serializers.DecimalField(max_digits=14, decimal_places=2, read_only=True)
    adjusted = serializers.DecimalField(max_digits=14, decimal_places=2, read_only=True)

    class Meta:
        model = Statement
        fields = [
            "id", "contract", "lot", "supplier", "period", "starts_on", "ends_on",
            "status", "drafted_at", "closed_at", "total", "adjusted",
        ]  # fmt: skip
        read_only_fields = fields


class StatementDetailSerializer(StatementSerializer):
    """A statement with its lines."""

    lines = StatementLineSerializer(many=True, read_only=True)

    class Meta(StatementSerializer.Meta):
        fields = [*StatementSerializer.Meta.fields, "lines"]
        read_only_fields = fields


class AdjustmentSerializer(serializers.ModelSerializer[Adjustment]):
    """A correction of a closed statement; counts and amounts are signed (R-39)."""

    bank = serializers.CharField(source="bank.code", read_only=True)
    requested_by = serializers.CharField(source="requested_by.username", read_only=True)
    decided_by = serializers.CharField(source="decided_by.username", read_only=True, default=None)

    class Meta:
        model = Adjustment
        fields = [
            "id", "statement", "bank", "card_kind", "count_change", "unit_price", "amount", "reason",
            "status", "requested_by", "requested_at", "decided_by", "decided_at",
        ]  # fmt: skip
        read_only_fields = fields


class AdjustmentRequestSerializer(serializers.ModelSerializer[Adjustment]):
    """What to correct: the bank by its code, cards more (+) or fewer (-), at a price of the contract."""

    bank = serializers.SlugRelatedField(
        slug_field="code", queryset=Organisation.objects.filter(kind=OrganisationKind.BANK)
    )

    class Meta:
        model = Adjustment
        fields = ["bank", "card_kind", "count_change", "unit_price", "reason"]
