"""One card on the counter's page: live steps, the face, the operator's look, the result and the receipt."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from orders.models import CardholderRecord
from orders.personal import masked_name, masked_number
from portal.adminkit import signed_in
from portal.core.keystore import KeyDestroyedError, KeyMissingError
from stations.admin.desk_page import DECIDE, ISSUE, issuance_of, page, shown, token_of
from stations.choices import IssuanceStatus, PrintState
from stations.models import Issuance
from stations.selectors import parts_of
from stations.services.desk import FaceHiddenError, obstacles, show_face
from stations.services.issuance import LOOK_REASONS, ask_to_resolve, cancel_issuance, confirm_look
from stations.services.printing import may_print_again, print_again

ENDED = frozenset({IssuanceStatus.GOOD, IssuanceStatus.REJECTED, IssuanceStatus.CANCELLED})
AGAIN = frozenset({IssuanceStatus.REJECTED, IssuanceStatus.CANCELLED})


@page(ISSUE, DECIDE)
@require_GET
def issuance_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the card that is being made."""
    issuance = issuance_of(request, pk)
    return shown(request, "counter_issuance.html", _("制卡"), _live(request, issuance))


@page(ISSUE, DECIDE, back="counter-issuance")
@require_GET
def live_part(request: HttpRequest, pk: int) -> HttpResponse:
    """Answer the page's own question about how far the card is."""
    response = TemplateResponse(
        request, "admin/stations/counter_live.html", _live(request, issuance_of(request, pk))
    )
    response["Cache-Control"] = "no-store, private"
    return response


def _live(request: HttpRequest, issuance: Issuance) -> dict[str, Any]:
    steps = list(issuance.steps.all())
    user = signed_in(request)
    return {
        "issuance": issuance,
        "card": issuance.card,
        "steps": [(step, _seconds(step.milliseconds)) for step in steps],
        "total": _seconds(issuance.total_milliseconds),
        "parts": [
            (part, _seconds(part.milliseconds, 2), part.limit and part.limit // 1000)
            for part in parts_of(issuance)
            if part.milliseconds is not None
        ],
        "ended": issuance.status in ENDED,
        "may_issue": user.has_perm(ISSUE),
        "obstacles": [] if issuance.status in ENDED else obstacles(issuance.station),
        "reasons": LOOK_REASONS.items(),
        "may_print_again": may_print_again(issuance),
        "print_done": issuance.print_state == PrintState.COMPLETED,
        "task_key": f"{issuance.status}.{issuance.reason}.{issuance.print_state}",
        "steps_key": ".".join([*(f"{step.pk}{step.status}" for step in steps), str(issuance.round_trips)]),
        "again": _token(issuance, user) if issuance.status in AGAIN else "",
        "person": _masked(issuance),
    }


def _seconds(milliseconds: int | None, places: int = 1) -> str:
    return "" if milliseconds is None else f"{milliseconds / 1000:.{places}f}"


def _record(issuance: Issuance) -> CardholderRecord | None:
    return issuance.card.item.record


def _masked(issuance: Issuance) -> tuple[str, str]:
    """Return number and name masked, nothing of a destroyed record (R-22)."""
    record = _record(issuance)
    if record is None:
        return ("-", "-")
    try:
        return masked_number(record), masked_name(record)
    except (KeyDestroyedError, KeyMissingError):
        return ("-", "-")


def _token(issuance: Issuance, user: Any) -> str:
    record = _record(issuance)
    return token_of(record, user) if record is not None else ""


@page(ISSUE, back="counter-issuance")
@require_GET
def face_picture(request: HttpRequest, pk: int, side: str = "back") -> HttpResponse:
    """Send a side for the comparison with the printed card; each look is audited, no cache keeps it."""
    try:
        picture = show_face(issuance_of(request, pk), side, actor=signed_in(request))
    except FaceHiddenError as exc:
        raise Http404 from exc
    response = HttpResponse(picture, content_type="image/jpeg")
    response["Cache-Control"] = "no-store, private"
    return response


@page(ISSUE, back="counter-issuance")
@require_POST
def take_look(request: HttpRequest, pk: int) -> HttpResponse:
    """Take the operator's word on the printed card."""
    good = request.POST.get("good") == "yes"
    reason = "" if good else request.POST.get("reason", "")
    confirm_look(issuance_of(request, pk), good=good, reason=reason, actor=signed_in(request))
    return redirect("counter-issuance", pk)


@page(ISSUE, back="counter-issuance")
@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a card back that nobody began."""
    cancel_issuance(issuance_of(request, pk), actor=signed_in(request))
    messages.info(request, _("已取消；这张白卡计为废品"))
    return redirect("counter-issuance", pk)


@page(ISSUE, back="counter-issuance")
@require_POST
def read_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Have an unknown card read again."""
    ask_to_resolve(issuance_of(request, pk), actor=signed_in(request))
    return redirect("counter-issuance", pk)


@page(ISSUE, back="counter-issuance")
@require_POST
def print_card_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Have a written card printed that no printer took yet."""
    print_again(issuance_of(request, pk), actor=signed_in(request))
    return redirect("counter-issuance", pk)


@page(ISSUE, DECIDE)
@require_GET
def receipt(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the receipt of a good card, masked, for printing."""
    issuance = issuance_of(request, pk)
    if issuance.status != IssuanceStatus.GOOD:
        raise Http404
    number, name = _masked(issuance)
    context = {"issuance": issuance, "card": issuance.card, "number": number, "name": name}
    return shown(request, "counter_receipt.html", _("领卡回执"), context)


def urls() -> list[Any]:
    """Return the addresses of these pages."""
    place = "issuances/<int:pk>/"
    return [
        path(place, issuance_page, name="counter-issuance"),
        path(f"{place}live/", live_part, name="counter-live"),
        path(f"{place}face/", face_picture, name="counter-face"),
        path(f"{place}front/", face_picture, {"side": "front"}, name="counter-front"),
        path(f"{place}print-again/", print_card_again, name="counter-print-again"),
        path(f"{place}look/", take_look, name="counter-look"),
        path(f"{place}cancel/", cancel, name="counter-cancel"),
        path(f"{place}read-again/", read_again, name="counter-read-again"),
        path(f"{place}receipt/", receipt, name="counter-receipt"),
    ]
