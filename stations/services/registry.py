"""The registry of stations: credentials, who is calling, and what a station's agent reports."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.utils import timezone

from portal.audit import record_alone, unit_of_work
from portal.core.crypto import sm3
from portal.core.errors import ConflictError, PermissionRefusedError
from portal.models import User
from portal.roles import require
from portal.workflow import locked
from stations.models import Station

CREDENTIAL_BYTES = 32
ENROLMENT_BYTES = 20
ENROLMENT_FOR = timedelta(minutes=15)
ONLINE_FOR = timedelta(seconds=35)  # three heartbeats and a little


class EnrolmentRefusedError(PermissionRefusedError):
    """A one-time code that is wrong, used or too old; which of them is not told."""

    code = "enrolment_refused"


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


def offer_enrolment(station: Station, *, actor: User) -> tuple[Station, str]:
    """Return a one-time code for the counter machine, valid 15 minutes; only its digest is kept.

    The credential before stays valid until the code is used; a code before ends.
    """
    require(actor, "stations.enrol_station", station)
    one_time = secrets.token_urlsafe(ENROLMENT_BYTES)
    with unit_of_work(actor) as work:
        fresh = locked(station)
        if not fresh.is_active:
            raise NotEnrolledError("该制卡点已停用", where=fresh.code)
        fresh.enrolment_digest = sm3(one_time.encode())
        fresh.enrolment_until = timezone.now() + ENROLMENT_FOR
        fresh.save(update_fields=["enrolment_digest", "enrolment_until"])
        work.record("station.enrolment_offered", fresh)
    return fresh, one_time


def redeem_enrolment(code: str, one_time: str) -> str:
    """Exchange a one-time code for a new credential, once; raise EnrolmentRefusedError and note the try."""
    station = Station.objects.filter(code=code, is_active=True).first()
    if station is not None:
        with unit_of_work(None) as work:
            fresh = locked(station)
            if _may_redeem(fresh, one_time):
                renewed = fresh.credential_digest is not None
                credential = secrets.token_urlsafe(CREDENTIAL_BYTES)
                fresh.credential_digest = sm3(credential.encode())
                fresh.enrolment_digest = fresh.enrolment_until = None
                fresh.save(update_fields=["credential_digest", "enrolment_digest", "enrolment_until"])
                work.record("station.enrolled", fresh, renewed=renewed, by_code=True)
                return credential
        record_alone("station.enrolment_refused", actor=None, subject=station)
    raise EnrolmentRefusedError("登记码不对、已使用或已过期")


def _may_redeem(station: Station, one_time: str) -> bool:
    given = sm3(one_time.encode("utf-8", "surrogatepass"))
    matches = hmac.compare_digest(bytes(station.enrolment_digest or b""), given)
    until = station.enrolment_until
    return matches and until is not None and timezone.now() < until


def withdraw_credential(station: Station, *, actor: User) -> Station:
    """Shut a station out at once, for example when its machine is lost."""
    require(actor, "stations.enrol_station", station)
    with unit_of_work(actor) as work:
        fresh = locked(station)
        if fresh.credential_digest is None:
            raise NotEnrolledError("该制卡点没有凭证", where=fresh.code)
        fresh.credential_digest = fresh.enrolment_digest = fresh.enrolment_until = None
        fresh.save(update_fields=["credential_digest", "enrolment_digest", "enrolment_until"])
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
