"""The messages of an issuance between agent and portal."""

from __future__ import annotations

import re
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from production.personalization.scripts import CardResponse
from stations.choices import PrintState
from stations.services.exchange import Fault, PrintReport, StepReport

MOST_COMMANDS = 2000
MOST_BYTES = 260  # 256 of a card's answer and a little
CODE = r"^[a-z0-9_]+$"
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")


@extend_schema_field(OpenApiTypes.STR)
class HexField(serializers.Field[bytes, Any, str, Any]):
    """Bytes as hexadecimal digits, at most so many."""

    default_error_messages = {"hex": _("须为十六进制，不超过 {max_bytes} 字节")}

    def __init__(self, *, max_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self.max_bytes = max_bytes

    def to_internal_value(self, data: Any) -> bytes:
        """Return the bytes."""
        if not isinstance(data, str) or len(data) > 2 * self.max_bytes or not _HEX.fullmatch(data):
            self.fail("hex", max_bytes=self.max_bytes)
        return bytes.fromhex(data)

    def to_representation(self, value: bytes) -> str:
        """Return the digits."""
        return value.hex()


class BeginSerializer(serializers.Serializer[Any]):
    """A card lies in the reader."""

    reader = serializers.CharField(max_length=100, allow_blank=True)
    atr = HexField(max_bytes=33)


class CardResponseSerializer(serializers.Serializer[Any]):
    """What the card answered to one command, and how long it took."""

    answer = HexField(max_bytes=MOST_BYTES)
    sw = serializers.RegexField(r"^[0-9A-Fa-f]{4}$")
    card_us = serializers.IntegerField(min_value=0, max_value=600_000_000)
    transport_us = serializers.IntegerField(min_value=0, max_value=600_000_000)


class FaultSerializer(serializers.Serializer[Any]):
    """What stopped a script."""

    code = serializers.RegexField(CODE, max_length=64)
    text = serializers.CharField(max_length=200, allow_blank=True)
    at = serializers.IntegerField(min_value=0, max_value=MOST_COMMANDS)
    sent = serializers.BooleanField()


class StepSerializer(serializers.Serializer[Any]):
    """What a script brought back."""

    responses = serializers.ListField(child=CardResponseSerializer(), max_length=MOST_COMMANDS)
    fault = FaultSerializer(required=False, allow_null=True, default=None)

    def report(self) -> StepReport:
        """Return the validated message."""
        values: dict[str, Any] = self.validated_data
        found = values["responses"]
        fault = values["fault"]
        return StepReport(
            [CardResponse(each["answer"], int(each["sw"], 16)) for each in found],
            sum(each["card_us"] for each in found),
            sum(each["transport_us"] for each in found),
            Fault(**fault) if fault else None,
        )


class CommandSerializer(serializers.Serializer[Any]):
    """One command for the card."""

    apdu = serializers.CharField()
    text = serializers.CharField()
    phase = serializers.CharField()
    expect = serializers.ListField(child=serializers.CharField())


class StepAnswerSerializer(serializers.Serializer[Any]):
    """The next script, or what became of the card."""

    step = serializers.IntegerField()
    serial = serializers.CharField(required=False)
    commands = CommandSerializer(many=True, required=False)
    timeouts = serializers.DictField(child=serializers.IntegerField(), required=False)
    result = serializers.CharField(required=False)
    code = serializers.CharField(required=False)
    text = serializers.CharField(required=False)
    print = serializers.DictField(required=False, allow_null=True)


class PrintSerializer(serializers.Serializer[Any]):
    """What the printer says of the job."""

    state = serializers.ChoiceField(choices=[state.value for state in PrintState if state.value])
    job_id = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, required=False, allow_null=True, default=None
    )
    reasons = serializers.ListField(
        child=serializers.CharField(max_length=60), required=False, default=list, max_length=20
    )
    text = serializers.CharField(max_length=200, allow_blank=True, required=False, default="")

    def report(self) -> PrintReport:
        """Return the validated message."""
        values: dict[str, Any] = self.validated_data
        return PrintReport(
            PrintState(values["state"]), values["job_id"], tuple(values["reasons"]), values["text"]
        )


class PrintAnswerSerializer(serializers.Serializer[Any]):
    """Where the issuance stands after a message of the printer."""

    status = serializers.CharField()
