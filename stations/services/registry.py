"""The registry of stations: credentials, who is calling, and what a station's agent reports."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.utils import timezone

from portal.audit import unit_of_work
from portal.core.crypto import sm3
from portal.core.errors import ConflictError
from portal.models import User
from portal.roles import require
from portal.workflow import locked
from stations.models import Station

CREDENTIAL_BYTES = 32
ONLINE_FOR = timedelta(seconds=35)  # three heartbeats and a little


class NotEnrolledError(ConflictError):
    """A station without a credential."""

    code = "station_not_enrolled"


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent says of its machine; texts for people, at most as long as the columns."""

    reader_state: str
    printer_state: str
    agent_version: str
    devices: Mapping[str, Any] = field(default_factory=dict)


def enrol_station(station: Station, *, actor: User) -> tuple[Station, str]:
    """Give a station a new credential, returned this once; the one before ends with it."""
    require(actor, "stations.enrol_station", station)
    credential = secrets.token_urlsafe(CREDENTIAL_BYTES)
    with unit_of_work(actor) as work:
        fresh = locked(station)
        renewed = fresh.credential_digest is not None
        fresh.credential_digest = sm3(credential.encode())
        fresh.save(update_fields=["credential_digest"])
        work.record("station.enrolled", fresh, renewed=renewed)
    return fresh, credential


def withdraw_credential(station: Station, *, actor: User) -> Station:
    """Shut a station out at once, for example when its machine is lost."""
    require(actor, "stations.enrol_station", station)
    with unit_of_work(actor) as work:
        fresh = locked(station)
        if fresh.credential_digest is None:
            raise NotEnrolledError("该制卡点没有凭证", where=fresh.code)
        fresh.credential_digest = None
        fresh.save(update_fields=["credential_digest"])
        work.record("station.credential_withdrawn", fresh)
    return fresh


def is_credential(station: Station, credential: str) -> bool:
    """Compare a credential with the kept digest in constant time."""
    kept = bytes(station.credential_digest or b"")
    return hmac.compare_digest(kept, sm3(credential.encode("utf-8", "surrogatepass")))


def calling_station(code: str, credential: str) -> Station | None:
    """Return the active station that shows its own credential, None for every other caller."""
    station: Station | None = (
        Station.objects.select_related("operator").filter(code=code, is_active=True).first()
    )
    return station if station is not None and is_credential(station, credential) else None


def note_heartbeat(station: Station, report: Report) -> None:
    """Keep what the agent reports; a state every ten seconds is no event for the audit."""
    Station.objects.filter(pk=station.pk).update(
        reader_state=report.reader_state,
        printer_state=report.printer_state,
        agent_version=report.agent_version,
        report=dict(report.devices),
        last_seen_at=timezone.now(),
    )


def is_online(station: Station) -> bool:
    """Say whether the agent reported lately."""
    seen = station.last_seen_at
    return seen is not None and timezone.now() - seen <= ONLINE_FOR
