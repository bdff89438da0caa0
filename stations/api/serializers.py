"""What people see of stations, and what a station's agent sends."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from portal.texts import told
from stations.models import Issuance, SelfTest, Station
from stations.services.printing import may_print_again
from stations.services.registry import Report, is_online


class StationSerializer(serializers.ModelSerializer[Station]):
    """A station and what its agent said last."""

    operator = serializers.CharField(source="operator.code", read_only=True)
    is_online = serializers.SerializerMethodField()

    class Meta:
        model = Station
        fields = [
            "id", "code", "name", "place", "operator", "is_active", "is_online",
            "reader_state", "printer_state", "agent_version", "last_seen_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_is_online(self, station: Station) -> bool:
        """Say whether the agent reported lately."""
        return is_online(station)


class SelfTestSerializer(serializers.ModelSerializer[SelfTest]):
    """A self-test; `passed` is null until its station has reported."""

    station = serializers.CharField(source="station.code", read_only=True)

    class Meta:
        model = SelfTest
        fields = [
            "id", "station", "kind", "requested_at", "reported_at", "passed", "read_milliseconds",
            "error_code", "error_text",
        ]  # fmt: skip
        read_only_fields = fields


class IssuanceSerializer(serializers.ModelSerializer[Issuance]):
    """A card that is or was made at a station; nothing of the person."""

    station = serializers.CharField(source="station.code", read_only=True)
    serial = serializers.CharField(source="card.serial", read_only=True)
    may_print_again = serializers.SerializerMethodField()

    class Meta:
        model = Issuance
        fields = [
            "id", "station", "serial", "status", "reason", "reason_text", "is_written", "prints_front",
            "print_state", "print_text", "may_print_again", "requested_at", "ended_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_may_print_again(self, issuance: Issuance) -> bool:
        """Say whether the card waits for a print that was certainly not submitted."""
        return may_print_again(issuance)


class ReaderSerializer(serializers.Serializer[Any]):
    """One reader of a station and the card in it."""

    name = serializers.CharField(max_length=100)
    card = serializers.ChoiceField(choices=["none", "present", "mute"])
    used = serializers.BooleanField(default=True)  # False: the PSAM's, or another than the one that is named


class SupplySerializer(serializers.Serializer[Any]):
    """A ribbon or hopper and how full it is, in percent; -1 where the printer does not know."""

    name = serializers.CharField(max_length=60)
    level = serializers.IntegerField(min_value=-3, max_value=100)


class PrinterSerializer(serializers.Serializer[Any]):
    """A printer as it reports itself (RFC 8011, 5.4.11 and 5.4.12)."""

    name = serializers.CharField(max_length=100)
    state = serializers.ChoiceField(choices=["idle", "processing", "stopped", "unreachable"])
    reasons = serializers.ListField(child=serializers.CharField(max_length=60), max_length=20)
    supplies = SupplySerializer(many=True, required=False, default=list)
    turns_over = serializers.BooleanField(required=False, allow_null=True, default=None)


class HeartbeatSerializer(serializers.Serializer[Any]):
    """What an agent says of its machine."""

    reader_state = serializers.CharField(max_length=60, allow_blank=True)
    printer_state = serializers.CharField(max_length=60, allow_blank=True)
    agent_version = serializers.CharField(max_length=32)
    readers = ReaderSerializer(many=True, required=False, default=list)
    printer = PrinterSerializer(required=False, allow_null=True, default=None)
    running = serializers.IntegerField(min_value=1, required=False, allow_null=True, default=None)

    def report(self) -> Report:
        """Return the validated message."""
        values: dict[str, Any] = self.validated_data
        devices = {name: values[name] for name in ("readers", "printer", "running")}
        return Report(
            values["reader_state"], values["printer_state"], values["agent_version"], devices=devices
        )


class EnrolSerializer(serializers.Serializer[Any]):
    """A station and the one-time code that its security administrator was shown."""

    code = serializers.SlugField(max_length=32)
    one_time = serializers.CharField(max_length=64)


class EnrolAnswerSerializer(serializers.Serializer[Any]):
    """The station's own credential, shown this once."""

    credential = serializers.CharField()


class HeartbeatAnswerSerializer(serializers.Serializer[Any]):
    """What the portal answers a heartbeat."""

    station = serializers.CharField()
    server_time = serializers.DateTimeField()
    sides = serializers.ListField(child=serializers.CharField())


class ResultSerializer(serializers.Serializer[Any]):
    """What became of a self-test: a time when it passed, a code when it failed."""

    passed = serializers.BooleanField()
    read_milliseconds = serializers.IntegerField(
        min_value=0, max_value=600_000, required=False, default=None, allow_null=True
    )
    error_code = serializers.RegexField(
        r"^[a-z0-9_]*$", max_length=64, required=False, default="", allow_blank=True
    )
    error_text = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a result that says both or neither."""
        is_timed, is_named = attrs["read_milliseconds"] is not None, bool(attrs["error_code"])
        if (is_timed, is_named) != (attrs["passed"], not attrs["passed"]):
            raise serializers.ValidationError(told("通过须有耗时且无错误代码，未通过须有错误代码且无耗时"))
        return attrs
