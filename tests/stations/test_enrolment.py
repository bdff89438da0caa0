"""Enrolling a counter machine by a one-time code (R-45, R-46)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.utils import timezone
from rest_framework.test import APIClient

from portal.core.crypto import sm3
from portal.core.errors import PermissionRefusedError
from portal.models import AuditEntry
from stations.models import Station
from stations.services.registry import (
    NotEnrolledError,
    is_credential,
    offer_enrolment,
    withdraw_credential,
)
from tests.api import ROOT, actions, code_of
from tests.stations.desk import Desk, make_desk

pytestmark = pytest.mark.django_db
ENROL = f"{ROOT}/station/enrol"


@pytest.fixture
def desk() -> Desk:
    for cache in ("limits", "limits_of_process"):
        caches[cache].clear()
    return make_desk()


def redeem(one_time: str, code: str = "demo-1") -> Any:
    return APIClient().post(ENROL, {"code": code, "one_time": one_time}, format="json")


def test_a_code_gives_a_credential_once_and_ends_the_one_before(desk: Desk) -> None:
    station, one_time = offer_enrolment(desk.station, actor=desk.security)
    assert bytes(station.enrolment_digest or b"") == sm3(one_time.encode())
    assert is_credential(Station.objects.get(), desk.credential)
    answer = redeem(one_time)
    assert (answer.status_code, answer["Cache-Control"], set(answer.json())) == (
        200,
        "no-store, private",
        {"credential"},
    )
    fresh = Station.objects.get()
    assert is_credential(fresh, answer.json()["credential"])
    assert not is_credential(fresh, desk.credential)
    assert actions() == ["station.enrolled", "station.enrolment_offered", "station.enrolled"]
    assert one_time not in str(list(AuditEntry.objects.values_list("details", flat=True)))
    assert code_of(redeem(one_time), 403) == "enrolment_refused"


@pytest.mark.parametrize("case", ["wrong", "late", "withdrawn", "inactive", "unknown", "none"])
def test_every_other_code_is_refused_alike_and_changes_nothing(desk: Desk, case: str) -> None:
    """Nobody learns whether the station, the code or the time was wrong; the refusal is audited."""
    one_time, code = "x" * 27, "demo-1"
    if case != "none":
        _, one_time = offer_enrolment(desk.station, actor=desk.security)
    if case == "wrong":
        one_time = one_time[::-1]
    if case == "unknown":
        code = "demo-2"
    if case == "late":
        Station.objects.update(enrolment_until=timezone.now() - timedelta(seconds=1))
    if case == "inactive":
        Station.objects.update(is_active=False)
    if case == "withdrawn":
        withdraw_credential(Station.objects.get(), actor=desk.security)
    before = Station.objects.values().get()
    known = actions()
    answer = redeem(one_time, code)
    assert code_of(answer, 403) == "enrolment_refused"
    assert Station.objects.values().get() == before
    told = [] if case in ("unknown", "inactive") else ["station.enrolment_refused"]
    assert actions() == known + told


def test_codes_are_not_guessed(desk: Desk) -> None:
    answers = [redeem("guess").status_code for _ in range(11)]
    assert answers == [403] * 10 + [429]


@pytest.mark.parametrize(
    "body", [{}, {"code": "demo-1"}, {"code": "a b", "one_time": "x"}, {"code": "x" * 33}]
)
def test_what_is_no_code_is_refused(desk: Desk, body: dict[str, str]) -> None:
    assert APIClient().post(ENROL, body, format="json").status_code == 400
    assert actions() == ["station.enrolled"]


def test_only_the_security_administrator_offers_one_for_an_active_station(desk: Desk) -> None:
    with pytest.raises(PermissionRefusedError):
        offer_enrolment(desk.station, actor=desk.operator)
    Station.objects.update(is_active=False)
    with pytest.raises(NotEnrolledError):
        offer_enrolment(desk.station, actor=desk.security)
    assert Station.objects.get().enrolment_digest is None
