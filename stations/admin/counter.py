"""The counter's page: find a person, choose a blank, watch the card being made, look at it, next (R-14)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from portal.adminkit import VerbForm, signed_in
from portal.core.errors import PortalError
from portal.limits import spend
from portal.models import User
from portal.texts import described
from stations.admin.desk_page import (
    CASE,
    DECIDE,
    ISSUE,
    blanks_of,
    chosen_station,
    page,
    present_station,
    record_of,
    remember,
    shown,
    stations_of,
    token_of,
)
from stations.choices import CaseStatus, IssuanceStatus
from stations.models import EmergencyCase, Issuance, Station
from stations.services.desk import Match, find_people, match_of, obstacles, start_at_counter

BUSY = ("queued", "running", "printing", "awaiting_look", "resolving")
SHOWN_OF_EACH = 20


class FindForm(VerbForm):
    """Whom to look for; sent in the body, so that no value stands in an address or a log."""

    number = forms.CharField(
        label=gettext_lazy("社会保障号码"),
        max_length=40,
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}
        ),
    )
    name = forms.CharField(
        label=gettext_lazy("姓名（可不填）"),
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


@page(ISSUE, CASE, DECIDE)
def counter_page(request: HttpRequest) -> HttpResponse:
    """Show the station, what goes on at it, and the box to find a person in."""
    return _counter(request, FindForm(request=request))


def _counter(request: HttpRequest, form: FindForm, *, error: str = "", status: int = 200) -> HttpResponse:
    user = signed_in(request)
    stations = stations_of(user)
    station = present_station(request, stations)
    context: dict[str, Any] = {"stations": stations, "station": station, "form": form, "error": error}
    if station is not None and "change" not in request.GET:
        context |= _at_station(station, user)
        return shown(request, "counter.html", _("制卡柜台"), context, status=status)
    return shown(request, "counter_stations.html", _("选择制卡点"), context)


def _at_station(station: Station, user: User) -> dict[str, Any]:
    issuances = Issuance.objects.filter(station=station).select_related("card", "operator")
    cases = EmergencyCase.objects.filter(station=station).select_related("requested_by", "record__package")
    waiting = cases.filter(status=CaseStatus.APPROVED, record__status="matched")
    return {
        "obstacles": obstacles(station),
        "may_issue": user.has_perm(ISSUE),
        "may_open_case": user.has_perm(CASE),
        "busy": issuances.filter(status__in=BUSY).first(),
        "unknown": issuances.filter(status=IssuanceStatus.UNKNOWN)[:SHOWN_OF_EACH],
        "undecided": cases.filter(status=CaseStatus.REQUESTED)[:SHOWN_OF_EACH],
        "approved": [
            (case, token_of(case.record, user)) for case in waiting[:SHOWN_OF_EACH] if case.record is not None
        ],
    }


@page(ISSUE, CASE, DECIDE)
@require_POST
def choose_station(request: HttpRequest) -> HttpResponse:
    """Remember this machine's station."""
    code = request.POST.get("station", "")
    station = next((one for one in stations_of(signed_in(request)) if one.code == code), None)
    if station is None:
        messages.error(request, _("没有这个制卡点"))
        return redirect("counter")
    return remember(redirect("counter"), station)


@page(ISSUE)
@require_POST
def find_page(request: HttpRequest) -> HttpResponse:
    """List the records that fit, masked; a single one that is ready goes on to its blank at once."""
    spend("search", request)
    form = FindForm(request.POST, request=request)
    if not form.is_valid():
        return _counter(request, form, error=_("请输入社会保障号码"), status=422)
    station, user = chosen_station(request), signed_in(request)
    try:
        found = find_people(station, **form.cleaned_data, actor=user)
    except PortalError as exc:
        return _counter(request, form, error=described(exc), status=409)
    if not found:
        return _counter(
            request, form, error=_("没有相符的记录。请核对号码；确无记录的可办理应急制卡。"), status=404
        )
    if len(found) == 1 and found[0].is_ready:
        return _person(request, station, found[0])
    context = {"station": station, "matches": [(one, token_of(one.record, user)) for one in found]}
    return shown(request, "counter_found.html", _("查找结果"), context)


@page(ISSUE)
@require_POST
def person_page(request: HttpRequest) -> HttpResponse:
    """Show a chosen person, masked, and ask for the blank."""
    record = record_of(request.POST.get("person", ""), signed_in(request))
    return _person(request, chosen_station(request), match_of(record))


def _person(
    request: HttpRequest, station: Station, match: Match, *, error: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "station": station,
        "obstacles": obstacles(station),
        "match": match,
        "token": token_of(match.record, signed_in(request)),
        "blanks": blanks_of(station),
        "error": error,
    }
    return shown(request, "counter_person.html", _("选择白卡"), context, status=status)


@page(ISSUE)
@require_POST
def start_page(request: HttpRequest) -> HttpResponse:
    """Start the card; what refuses it is shown where the blank was chosen."""
    user, station = signed_in(request), chosen_station(request)
    record = record_of(request.POST.get("person", ""), user)
    serial = request.POST.get("serial", "").replace("\0", "")[:32]  # PostgreSQL takes no NUL
    try:
        issuance = start_at_counter(record, station=station, serial=serial, actor=user)
    except PortalError as exc:
        record.refresh_from_db()
        return _person(request, station, match_of(record), error=described(exc), status=409)
    return redirect("counter-issuance", issuance.pk)


def urls() -> list[Any]:
    """Return the addresses of these pages."""
    return [
        path("", counter_page, name="counter"),
        path("station/", choose_station, name="counter-station"),
        path("find/", find_page, name="counter-find"),
        path("person/", person_page, name="counter-person"),
        path("start/", start_page, name="counter-start"),
    ]
