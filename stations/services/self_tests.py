"""Self-tests: ask a station to read the card in its reader, and take its report."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone

from portal.audit import unit_of_work
from portal.core.errors import ConflictError
from portal.models import User
from portal.roles import require
from portal.workflow import locked
from stations.choices import SelfTestKind
from stations.models import SelfTest, Station
from stations.queues import PRINT_TEST, SELF_TEST
from stations.services.registry import NotEnrolledError
from stations.services.waking import wake_station

_FUNCTIONS = {SelfTestKind.READ: SELF_TEST, SelfTestKind.PRINT: PRINT_TEST}


class ReportedAlreadyError(ConflictError):
    """A self-test is reported once."""

    code = "self_test_reported"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a self-test; `read_milliseconds` covers EF05 and EF06 (R-24: at most 3,000)."""

    passed: bool
    read_milliseconds: int | None = None
    error_code: str = ""
    error_text: str = ""


def request_self_test(station: Station, *, actor: User, kind: SelfTestKind = SelfTestKind.READ) -> SelfTest:
    """Ask a station to read its card or to print a test card; its agent is woken after the commit."""
    require(actor, "stations.test_station", station)
    with unit_of_work(actor) as work:
        fresh = locked(station)
        if fresh.credential_digest is None or not fresh.is_active:
            raise NotEnrolledError("该制卡点未启用或没有凭证", where=fresh.code)
        test: SelfTest = SelfTest.objects.create(station=fresh, requested_by=actor, kind=kind)
        work.record("station.self_test_requested", fresh, self_test=test.pk, kind=str(kind))
        wake_station(fresh, _FUNCTIONS[kind], test.pk)
    return test


def report_self_test(test: SelfTest, result: Result) -> SelfTest:
    """Write down what the agent found; it acts for its station, nobody signs in for it."""
    with unit_of_work(None) as work:
        fresh = locked(test)
        if fresh.reported_at is not None:
            raise ReportedAlreadyError("该自检已有结果")
        fresh.reported_at, fresh.passed = timezone.now(), result.passed
        fresh.read_milliseconds = result.read_milliseconds
        fresh.error_code, fresh.error_text = result.error_code, result.error_text
        fresh.save()
        outcome = "done" if result.passed else "failed"
        work.record(
            "station.self_test_reported",
            fresh.station,
            result=outcome,
            self_test=fresh.pk,
            code=result.error_code,
        )
    return fresh
