"""Rates of wrong and bad cards as people read them: against 0.1 % (R-26)."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t

from portal.adminkit import badge
from portal.adminkit.columns import Colour
from quality.models import DEFECT_RATE_LIMIT, Inspection
from quality.selectors import DefectRate

LIMIT_TEXT = f"{DEFECT_RATE_LIMIT * 100:.1f} %"
RESULTS: Mapping[str, Colour] = {"passed": "success", "held": "danger"}
HOLDS: Mapping[str, Colour] = {"active": "danger", "released": "success"}


def rate_badge(rate: DefectRate) -> SafeString:
    """Return the rate with its verdict in words and colour."""
    verdict = _t("超过 %(limit)s") if rate.exceeded else _t("不超过 %(limit)s")
    text = f"{rate.text}　{verdict % {'limit': LIMIT_TEXT}}"
    return badge(text, "danger" if rate.exceeded else "success", "error" if rate.exceeded else "check_circle")


def pass_rate(found: Inspection) -> DefectRate:
    """Return a pass's rate over all cards made in it; what the line threw out was never read back."""
    made = found.good_count + found.wrong_count + found.bad_count + found.unknown_count
    return DefectRate(made, found.wrong_count, found.bad_count)
