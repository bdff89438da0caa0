"""Wrong credentials of programs are counted by address; after too many, none is looked at (issue 3, Web).

What was right at the same address before is still looked at: a branch's programs and stations share an
address, and one that is set up wrongly must not shut the others out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

from django.conf import settings
from rest_framework.exceptions import Throttled

from portal.audit import client_address, record_alone
from portal.limits import Taken, is_trusted, parse_rate, take, trust, waiting

LIMIT = "credential"
TRUSTED_SECONDS = 24 * 3600
T = TypeVar("T")


def checked(credential: bytes, look_up: Callable[[], T | None]) -> T | None:
    """Return whose credential it is, None for a wrong one, which counts against its address.

    Raises Throttled, the first time audited, when the address has shown too many wrong ones.
    """
    address = f"address {client_address.get()}"
    shown = f"{address} {credential.hex()}"
    rate = parse_rate(settings.RATES[LIMIT])
    if waiting(LIMIT, address, rate) and not is_trusted(shown):
        _refuse(take(LIMIT, address, rate))
    found = look_up()
    if found is not None:
        trust(shown, TRUSTED_SECONDS)
    elif (taken := take(LIMIT, address, rate)).wait:
        _refuse(taken)
    return found


def _refuse(taken: Taken) -> NoReturn:
    if taken.is_first:
        record_alone("limit.exceeded", actor=None, limit=LIMIT, counted_by="address")
    raise Throttled(max(1, taken.wait))
