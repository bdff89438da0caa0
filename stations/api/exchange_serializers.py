"""The messages of an issuance between agent and portal."""

from __future__ import annotations

import re
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from portal.texts import told
from production.personalization.scripts import CardResponse
from stations.choices import PrintState
from stations.services.exchange import Fault, PrintReport, StepReport
from stations.services.timing import AgentTimes

MOST_COMMANDS = 2000
MOST_BYTES = 260  # 256 of a card's answer and a little
CLAIM_BYTES = 16
MOST_MICROSECONDS = 3_600_000_000
CARD_SIDES = ["front", "back"]
CODE = r"^[a-z0-9_]+$"
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*")
_STATUS_WORD = r"^[0-9A-Fa-f]{4}\Z"
_RESPONSE = ("answer", "sw", "reader_us")
CardAnswer = tuple[CardResponse, int]


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
    """What the card answered to one command, and how long card, reader and transport took together."""

    answer = HexField(max_bytes=MOST_BYTES)
    sw = serializers.RegexField(_STATUS_WORD)
    reader_us = serializers.IntegerField(min_value=0, max_value=MOST_MICROSECONDS)


@extend_schema_field(CardResponseSerializer(many=True))
class ResponsesField(serializers.Field[list[CardAnswer], Any, Any, Any]):
    """A script's responses: checked as CardResponseSerializer would, in a tenth of its time (P7)."""

    default_error_messages = {
        "list": _("须为列表，不超过 {most} 项"),
        "response": _("第 {place} 项不合要求：answer 为十六进制，sw 为四位，reader_us 为微秒数"),
    }

    def to_internal_value(self, data: Any) -> list[CardAnswer]:
        """Return the responses."""
        if not isinstance(data, list) or len(data) > MOST_COMMANDS:
            self.fail("list", most=MOST_COMMANDS)
        found = [_card_answer(each) for each in data]
        if None in found:
            self.fail("response", place=found.index(None) + 1)
        return [each for each in found if each is not None]


def _card_answer(data: Any) -> CardAnswer | None:
    """Return one response, None for anything that is none."""
    answer, sw, spent = (data.get(name) for name in _RESPONSE) if isinstance(data, dict) else (None,) * 3
    if not (isinstance(answer, str) and isinstance(sw, str) and type(spent) is int):
        return None
    fits = len(answer) <= 2 * MOST_BYTES and 0 <= spent <= MOST_MICROSECONDS
    if not (fits and _HEX.fullmatch(answer) and re.fullmatch(_STATUS_WORD, sw)):
        return None
    return CardResponse(bytes.fromhex(answer), int(sw, 16)), spent


class TimesSerializer(serializers.Serializer[Any]):
    """What an agent says of a card's times so far."""

    total_us = serializers.IntegerField(min_value=0, max_value=MOST_MICROSECONDS)
    reader_us = serializers.IntegerField(min_value=0, max_value=MOST_MICROSECONDS)
    waited_us = serializers.IntegerField(min_value=0, max_value=MOST_MICROSECONDS)
    portal_us = serializers.IntegerField(min_value=0, max_value=MOST_MICROSECONDS)
    round_trips = serializers.IntegerField(min_value=0, max_value=1000)


def _times(values: dict[str, int] | None) -> AgentTimes | None:
    """Return the validated times."""
    if values is None:
        return None
    return AgentTimes(**{name.removesuffix("_us"): value for name, value in values.items()})


class FaultSerializer(serializers.Serializer[Any]):
    """What stopped a script."""

    code = serializers.RegexField(CODE, max_length=64)
    text = serializers.CharField(max_length=200, allow_blank=True)
    at = serializers.IntegerField(min_value=0, max_value=MOST_COMMANDS)
    sent = serializers.BooleanField()


class StepSerializer(serializers.Serializer[Any]):
    """What a script brought back."""

    responses = ResponsesField()
    fault = FaultSerializer(required=False, allow_null=True, default=None)
    times = TimesSerializer(required=False, allow_null=True, default=None)

    def report(self) -> StepReport:
        """Return the validated message."""
        values: dict[str, Any] = self.validated_data
        found, fault = values["responses"], values["fault"]
        return StepReport(
            [response for response, _spent in found],
            [spent for _response, spent in found],
            Fault(**fault) if fault else None,
            _times(values["times"]),
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
    times = TimesSerializer(required=False, allow_null=True, default=None)

    def report(self) -> PrintReport:
        """Return the validated message."""
        values: dict[str, Any] = self.validated_data
        return PrintReport(
            PrintState(values["state"]),
            values["job_id"],
            tuple(values["reasons"]),
            values["text"],
            _times(values["times"]),
        )


class PrintAnswerSerializer(serializers.Serializer[Any]):
    """Where the issuance stands after a message of the printer."""

    status = serializers.CharField()


class ClaimSerializer(serializers.Serializer[Any]):
    """What an agent's worker drew for one print: the same again is a lost answer, another another worker."""

    claim = HexField(max_bytes=32)

    def validate_claim(self, value: bytes) -> bytes:
        """Refuse one that two workers could draw alike."""
        if len(value) < CLAIM_BYTES:
            raise serializers.ValidationError(told("不足 16 字节"))
        return value


class PrintOrderSerializer(serializers.Serializer[Any]):
    """What is to be printed, as one job."""

    sides = serializers.ListField(child=serializers.ChoiceField(choices=CARD_SIDES))
    copies = serializers.IntegerField()


class FaceSerializer(serializers.Serializer[Any]):
    """One side of a card."""

    side = serializers.ChoiceField(choices=CARD_SIDES)
    jpeg = serializers.CharField(help_text=_("JPEG，Base64"))


class FacesSerializer(serializers.Serializer[Any]):
    """The sides of a card in the order of printing."""

    faces = FaceSerializer(many=True)
