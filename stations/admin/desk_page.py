"""What every page of the counter shares: who may come in, which station this is, how a refusal is shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import site
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from orders.models import CardholderRecord
from portal.adminkit import signed_in
from portal.core.errors import InputRefusedError, PermissionRefusedError, PortalError
from portal.models import User
from portal.texts import described, told
from stations.models import Issuance, Station, StationBlank

COOKIE = "counter_station"
REMEMBERED = 400 * 86400  # seconds; the longest that browsers keep a cookie
TOKEN_SECONDS = 1800
BLANKS_SHOWN = 200
ISSUE, CASE, DECIDE = "stations.issue_card", "stations.request_case", "stations.decide_case"
View = Callable[..., HttpResponse]


class StaleChoiceError(InputRefusedError):
    """A person who was found too long ago, or by somebody else."""

    code = "choice_stale"


def page(*permissions: str, back: str = "counter") -> Callable[[View], View]:
    """Make a function a page for those with one of the permissions; a refusal is a message on page `back`."""

    def decorate(view: View) -> View:
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not any(request.user.has_perm(permission) for permission in permissions):
                raise PermissionDenied from PermissionRefusedError("", expected=permissions[0])
            try:
                return view(request, *args, **kwargs)
            except PermissionRefusedError as exc:
                raise PermissionDenied(told(exc.message)) from exc
            except PortalError as exc:
                messages.error(request, described(exc))
                return redirect(back, *kwargs.values()) if back != "counter" else redirect(back)

        update_wrapper(guarded, view)
        return update_wrapper(site.admin_view(guarded), guarded)

    return decorate


def stations_of(user: User) -> list[Station]:
    """Return the stations where the user may stand."""
    rows = Station.objects.visible_to(user).filter(is_active=True)
    return list(rows.select_related("operator").order_by("code"))


def present_station(request: HttpRequest, stations: list[Station]) -> Station | None:
    """Return the station that this machine's browser remembers, or the only one there is."""
    if len(stations) == 1:
        return stations[0]
    code = request.COOKIES.get(COOKIE, "")
    return next((station for station in stations if station.code == code), None)


def chosen_station(request: HttpRequest) -> Station:
    """Return the present station; raise InputRefusedError where none is chosen."""
    station = present_station(request, stations_of(signed_in(request)))
    if station is None:
        raise InputRefusedError("请先选择制卡点")
    return station


def remember(response: HttpResponse, station: Station) -> HttpResponse:
    """Let the browser of this machine remember its station."""
    response.set_cookie(
        COOKIE,
        station.code,
        max_age=REMEMBERED,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
        path="/admin/counter/",
    )
    return response


def issuance_of(request: HttpRequest, pk: int) -> Issuance:
    """Return an issuance that the user may see, with all that its pages show; 404 otherwise."""
    rows = Issuance.objects.visible_to(signed_in(request)).select_related(
        "station__operator", "operator", "batch", "card__item__record__package", "card__bank", "card__lot"
    )
    found: Issuance | None = rows.filter(pk=pk).first()
    if found is None:
        raise Http404
    return found


def token_of(record: CardholderRecord, user: User) -> str:
    """Return what stands for a record that this user found; no other user can send it in."""
    return signing.dumps(record.pk, salt=f"stations.counter/{user.pk}")


def record_of(token: str, user: User) -> CardholderRecord:
    """Return the record behind a token; raise StaleChoiceError after half an hour."""
    try:
        pk = signing.loads(token, salt=f"stations.counter/{user.pk}", max_age=TOKEN_SECONDS)
    except signing.BadSignature as exc:
        raise StaleChoiceError("页面已过期，请重新查找") from exc
    record = CardholderRecord.objects.select_related("package", "bank").filter(pk=pk).first()
    if record is None:
        raise StaleChoiceError("该记录已不存在，请重新查找")
    return record


def blanks_of(station: Station) -> list[str]:
    """Return the serials in the station's drawer, the first ones."""
    rows = StationBlank.objects.filter(station=station, status="available").order_by("serial")
    return list(rows.values_list("serial", flat=True)[:BLANKS_SHOWN])


def shown(
    request: HttpRequest, template: str, title: Any, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """Return a page of the counter that no cache keeps."""
    everything = {**site.each_context(request), "title": title, "subtitle": _("制卡柜台"), **context}
    response = TemplateResponse(request, f"admin/stations/{template}", everything, status=status)
    response["Cache-Control"] = "no-store, private"
    return response
