"""The bank's count of all cartons of a delivery, on one page (R-23)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django import forms
from django.utils.html import format_html
from django.utils.translation import gettext as _t

from portal.adminkit import VerbForm, grouped, table
from production.models import Carton
from production.services.receiving import CartonCount

_PART = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_SEPARATORS = re.compile(r"[\s,，、;；]+")
MOST_POSITIONS = 2000
CARTONS_AT_ONCE = 200  # three fields each stay below the server's limit of a form


def parse_positions(text: str) -> list[int]:
    """Read positions such as "3, 7-9"; raise ValidationError at what is neither."""
    found: list[int] = []
    for part in filter(None, _SEPARATORS.split(text)):
        match = _PART.fullmatch(part)
        if match is None:
            raise forms.ValidationError(_t("无法识别的位置：%(part)s") % {"part": part[:20]}, code="position")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < first + MOST_POSITIONS:
            raise forms.ValidationError(_t("无法识别的位置：%(part)s") % {"part": part[:20]}, code="position")
        found += range(first, last + 1)
    return found


def short_number(carton: Carton) -> str:
    """Return what tells a carton from the others of its delivery: 001."""
    return carton.number.rpartition("-")[2]


class CartonsForm(VerbForm):
    """A row of fields for each carton without the bank's word; a row left empty is not confirmed now."""

    def prepare(self) -> None:
        """Make the fields of every open carton."""
        delivery: Any = self.row
        self.cartons = list(
            delivery.cartons.filter(receipt__isnull=True).order_by("number")[:CARTONS_AT_ONCE]
        )
        for carton in self.cartons:
            name = {"carton": carton.number}
            counted = forms.IntegerField(min_value=0, required=False, label=_t("%(carton)s 实点张数") % name)
            missing = forms.CharField(
                max_length=1000, required=False, label=_t("%(carton)s 缺少或损坏的位置") % name
            )
            note = forms.CharField(max_length=200, required=False, label=_t("%(carton)s 说明") % name)
            for key, field in (("counted", counted), ("missing", missing), ("note", note)):
                field.widget.attrs["aria-label"] = field.label
                self.fields[f"{key}_{carton.pk}"] = field

    def visible_fields(self) -> list[Any]:
        """Leave the fields to the table."""
        return []

    def preface(self) -> Any:
        """Return the table of cartons with their fields."""
        headers = [_t("箱号"), _t("清单张数"), _t("实点张数"), _t("缺少或损坏的箱内位置"), _t("说明")]
        rows = [
            (
                short_number(carton),
                grouped(carton.card_count),
                *(self._cell(key, carton) for key in ("counted", "missing", "note")),
            )
            for carton in self.cartons
        ]
        return table(headers, rows, empty=_t("所有箱均已点收"))

    def _cell(self, key: str, carton: Carton) -> Any:
        bound = self[f"{key}_{carton.pk}"]
        errors = "；".join(map(str, bound.errors))
        return (
            format_html("{}<p class='text-red-700 dark:text-red-300'>{}</p>", bound, errors)
            if errors
            else bound
        )

    def clean(self) -> dict[str, Any]:
        """Read each filled row; a row with positions or a note needs its count."""
        cleaned: dict[str, Any] = super().clean() or {}
        counts = dict(self._counts(cleaned))
        return {"counts": counts}

    def _counts(self, cleaned: dict[str, Any]) -> Iterator[tuple[int, CartonCount]]:
        for carton in self.cartons:
            counted = cleaned.get(f"counted_{carton.pk}")
            missing, note = cleaned.get(f"missing_{carton.pk}", ""), cleaned.get(f"note_{carton.pk}", "")
            if counted is None:
                if missing or note:
                    self.add_error(f"counted_{carton.pk}", _t("请填写实点张数"))
                continue
            try:
                yield carton.pk, CartonCount(counted, parse_positions(missing), note)
            except forms.ValidationError as exc:
                self.add_error(f"missing_{carton.pk}", exc)
