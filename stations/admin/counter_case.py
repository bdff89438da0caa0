"""A person without a matched record: entered at the counter with a photo, decided by another (R-14)."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from orders.dictionary import CARD_KIND_LABELS, COLUMNS, DOCUMENT_TYPES, ETHNICITIES, ISSUE_KIND_LABELS, SEXES
from orders.models import DeliveryPoint
from orders.services.refusals import CorrectionRefusedError
from portal.adminkit import VerbForm, signed_in
from portal.choices import OrganisationKind
from portal.core.clock import today
from portal.core.errors import PortalError
from portal.core.images import PhotoRule
from portal.middleware import permissions_policy
from portal.models import Organisation
from portal.texts import coded, described, told
from stations.admin.desk_page import CASE, chosen_station, page, shown
from stations.models import Station
from stations.services.cases import CasePerson, open_case

MAX_PHOTO_UPLOAD = 2 * 2**20
YEARS_VALID = 10
DATES = ("AAC006", "issue_date", "expiry_date")
PIXELS = PhotoRule()
Choices = list[tuple[str, str]]


class CaseForm(VerbForm):
    """The columns of a package's row by their codes, the account, the photo and why it cannot wait."""

    photo = forms.FileField(label=gettext_lazy("照片（JPEG）"))
    account = forms.CharField(label=gettext_lazy("银行账号"), max_length=30)
    reason = forms.CharField(label=gettext_lazy("应急事由"), max_length=200)

    def __init__(self, *args: Any, station: Station, **kwargs: Any) -> None:
        self.station = station
        super().__init__(*args, **kwargs)
        # The browser's own controls, not the admin's: one shows a calendar, the other's file is cut in place.
        for code in DATES:
            self.fields[code].widget = forms.TextInput(attrs={"type": "date"})
        self.fields["photo"].widget = forms.FileInput(attrs={"accept": "image/*", "data-photo-file": ""})

    def prepare(self) -> None:
        """Put every column into a box of its own, with the choices of the dictionary."""
        choices, initial = self._choices(), self._initial()
        for column in COLUMNS:
            if column.code != "seq":
                label = coded(column.label, column.code)
                self.fields[column.code] = self._box(label, choices.get(column.code), column.required)
                self.fields[column.code].initial = initial.get(column.code, "")
        for field in self.fields.values():
            field.widget.attrs["autocomplete"] = "off"
        self.order_fields([column.code for column in COLUMNS if column.code != "seq"])

    def _box(self, label: Any, choices: Choices | None, required: bool) -> forms.Field:
        if choices is None:
            return forms.CharField(label=label, required=required, max_length=200)
        offered = choices if len(choices) == 1 else [("", _("请选择")), *choices]
        return forms.ChoiceField(label=label, required=required, choices=offered)

    def _choices(self) -> dict[str, Choices]:
        banks = self._banks()
        points = DeliveryPoint.objects.filter(bank__in=banks).order_by("bank", "code")
        return {
            "AAC004": [(code, told(label)) for code, label in SEXES.items()],
            "AAC005": list(ETHNICITIES.items()),
            "AAC058": [(code, told(kind.label)) for code, kind in DOCUMENT_TYPES.items()],
            "AAE008": [(bank.code, str(bank)) for bank in banks],
            "branch": [(point.code, f"{point.code} {point.name}") for point in points],
            "issue_kind": [(str(kind), told(label)) for kind, label in ISSUE_KIND_LABELS.items()],
            "card_kind": [("finished", told(CARD_KIND_LABELS["finished"]))],  # type: ignore[index]
        }

    def _banks(self) -> list[Organisation]:
        operator = self.station.operator
        if operator.kind == OrganisationKind.BANK:
            return [operator]
        return list(Organisation.objects.filter(kind=OrganisationKind.BANK, is_active=True).order_by("code"))

    def _initial(self) -> dict[str, str]:
        day = today()
        until = day.replace(year=day.year + YEARS_VALID, day=min(day.day, 28))
        return {
            "AAC004": "",
            "AAC005": "01",
            "AAC058": "01",
            "AAB301": settings.CITY_CODE,
            "issue_kind": "first",
            "card_kind": "finished",
            "issue_date": day.isoformat(),
            "expiry_date": until.isoformat(),
        }

    @classmethod
    def upload_limit(cls) -> int:
        """Take more than any photo may have, so that the check can say what is wrong with it."""
        return MAX_PHOTO_UPLOAD

    def clean_photo(self) -> Any:
        """Refuse a file that cannot be a photo of a card."""
        return self.bounded_file("photo")

    def person(self) -> CasePerson:
        """Return what was entered."""
        row = {
            column.code: str(self.cleaned_data.get(column.code) or "")
            for column in COLUMNS
            if column.code != "seq"
        }
        return CasePerson(row, self.cleaned_data["photo"].read(), self.cleaned_data["account"])

    def show_problems(self, refused: CorrectionRefusedError) -> None:
        """Put each finding at its box."""
        for problem in refused.problems:
            place = problem.field if problem.field in self.fields else None
            words = {"expected": told(problem.expected), "got": problem.got or "-"}
            self.add_error(place, _("应为：%(expected)s；实为：%(got)s") % words)


@page(CASE)
def case_page(request: HttpRequest) -> HttpResponse:
    """Ask for the person's data and photo; what is sent in waits for the second person."""
    station, posted = chosen_station(request), request.method == "POST"
    form = CaseForm(
        request.POST if posted else None,
        request.FILES if posted else None,
        request=request,
        station=station,
    )
    status = 200
    if posted and form.is_valid():
        status = 409
        try:
            open_case(
                form.person(), station=station, reason=form.cleaned_data["reason"], actor=signed_in(request)
            )
        except CorrectionRefusedError as exc:
            form.show_problems(exc)
        except PortalError as exc:
            form.add_error(None, described(exc))
        else:
            messages.success(request, _("应急申请已提交，须由另一人复核后才能制卡"))
            return redirect("counter")
    elif posted:
        status = 422
    return _case(request, station, form, status)


# What portal.middleware.BodyRules asks how long the page's request may be.
cast("Any", case_page).form_class = CaseForm


def _case(request: HttpRequest, station: Station, form: CaseForm, status: int) -> HttpResponse:
    context = {
        "station": station,
        "form": form,
        "width": PIXELS.width,
        "height": PIXELS.height,
        "least": settings.PHOTO_MIN_BYTES,
        "most": settings.PHOTO_MAX_BYTES,
    }
    response = shown(request, "counter_case.html", _("应急制卡申请"), context, status=status)
    response["Permissions-Policy"] = permissions_policy(allowed=("camera",))
    return response


def urls() -> list[Any]:
    """Return the addresses of these pages."""
    return [path("case/", case_page, name="counter-case")]
