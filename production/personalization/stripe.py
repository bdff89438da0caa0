"""Magnetic stripe of a card with a bank application: tracks 1 and 2 by ISO/IEC 7813, track 3 by ISO/IEC 4909.

A track is returned as characters (ASCII) with sentinels and the LRC character (ISO/IEC 7811-6); the
encoder of the machine adds the parity bit of each character. The Luhn digit of the account number is
not enforced: banks issue accounts without one.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from portal.core.errors import InputRefusedError

# Characters on the stripe, sentinels and LRC counted; track 1 has 6 bits from 20h, the others 4 from 30h.
TRACK_LIMITS = {1: 79, 2: 40, 3: 107}
_BASE = {1: 0x20, 2: 0x30, 3: 0x30}
_PAN = re.compile(r"[0-9]{12,19}")
_DIGITS = re.compile(r"[0-9]*")
_LATIN = re.compile(r"[A-Z .'/-]+")
_NO_NAME = " /"
_NAME_LENGTH = 26
_CHINA = "156"
_TRACK1 = re.compile(r"%B(?P<number>\d{12,19})\^(?P<name>[A-Z .'/-]+)\^(?P<tail>\d{7,})\?", re.ASCII)
_TRACK2 = re.compile(r";(?P<number>\d{12,19})=(?P<tail>\d{7,})\?", re.ASCII)
_TRACK3 = re.compile(r";99(?P<number>\d{12,19})=\d{35}(?P<expiry>\d{4})1==0=\?", re.ASCII)
# Track 3 after country and currency, as (what, digits): no limits, nothing used yet; ISO/IEC 4909, 5.
_TRACK3_ZEROS = (
    ("currency exponent", 1),
    ("amount authorized per cycle", 4),
    ("amount remaining this cycle", 4),
    ("cycle begin", 4),
    ("cycle length", 2),
    ("retry count", 1),
    ("PIN control parameters", 6),
    ("interchange control", 1),
    ("service restrictions of account and two subsidiaries", 6),
)


class StripeError(InputRefusedError):
    """Account data that cannot be put on a magnetic stripe."""

    code = "stripe_refused"


@dataclass(frozen=True, slots=True)
class StripeAccount:
    """What the bank gives for the stripe; `discretionary` are digits of tracks 1 and 2."""

    number: str = field(repr=False)
    expires_on: dt.date
    service_code: str = "620"
    discretionary: str = field(default="", repr=False)
    latin_name: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Stripe:
    """Three tracks as bytes, each with its sentinels and LRC."""

    track1: bytes = field(repr=False)
    track2: bytes = field(repr=False)
    track3: bytes = field(repr=False)


def build_stripe(account: StripeAccount) -> Stripe:
    """Return the three tracks; raise StripeError naming the part that does not fit."""
    _check(account)
    expiry = f"{account.expires_on:%y%m}"
    tail = f"{expiry}{account.service_code}{account.discretionary}"
    zeros = "".join("0" * digits for _, digits in _TRACK3_ZEROS)
    # Card sequence 1, then two absent subsidiary accounts, relay marker 0 and no crypto check digits.
    body3 = f"99{account.number}={_CHINA}{_CHINA}{zeros}{expiry}1==0="
    return Stripe(
        track1=seal_track(1, f"%B{account.number}^{_track1_name(account.latin_name)}^{tail}?"),
        track2=seal_track(2, f";{account.number}={tail}?"),
        track3=seal_track(3, f";{body3}?"),
    )


def seal_track(track: int, text: str) -> bytes:
    """Append the LRC character; raise StripeError when length or alphabet do not allow the text."""
    base, limit = _BASE[track], TRACK_LIMITS[track]
    raw = text.encode("ascii", "replace")
    if len(raw) + 1 > limit:
        raise StripeError(
            "磁道过长", where=f"第 {track} 磁道", expected=f"不超过 {limit} 个字符", got=f"{len(raw) + 1} 个"
        )
    if any(not base <= c < base + (0x40 if track == 1 else 0x10) for c in raw) or not text.isascii():
        raise StripeError("磁道含有不允许的字符", where=f"第 {track} 磁道")
    return raw + lrc(track, raw)


def parse_stripe(stripe: Stripe) -> StripeAccount:
    """Return what a reader takes from the tracks; raise StripeError where they are damaged or disagree."""
    first = _matched(_TRACK1, 1, stripe.track1)
    second = _matched(_TRACK2, 2, stripe.track2)
    third = _matched(_TRACK3, 3, stripe.track3)
    number, name, tail = first["number"], first["name"], first["tail"]
    if (second["number"], second["tail"]) != (number, tail):
        raise StripeError("磁道内容不一致", where="第 2 磁道")
    if (third["number"], third["expiry"]) != (number, tail[:4]):
        raise StripeError("磁道内容不一致", where="第 3 磁道")
    year, month = 2000 + int(tail[:2]), int(tail[2:4])
    if not 1 <= month <= 12:
        raise StripeError("有效期不是月份", where="第 1 磁道")
    last = dt.date(year, month, calendar.monthrange(year, month)[1])  # valid to the end of its month
    return StripeAccount(number, last, tail[4:7], tail[7:], "" if name == _NO_NAME else name)


def open_track(track: int, raw: bytes) -> str:
    """Return the characters before the LRC; raise StripeError when it does not add up."""
    base = _BASE[track]
    allowed = all(base <= c < base + (0x40 if track == 1 else 0x10) for c in raw)
    if not 3 <= len(raw) <= TRACK_LIMITS[track] or not allowed or lrc(track, raw) != bytes((base,)):
        raise StripeError("磁道校验不符", where=f"第 {track} 磁道")
    return raw[:-1].decode("ascii")


def lrc(track: int, raw: bytes) -> bytes:
    """Return the check character: the exclusive or of all characters' bits, sentinels included."""
    base, total = _BASE[track], 0
    for character in raw:
        total ^= character - base
    return bytes((total + base,))


def _matched(form: re.Pattern[str], track: int, raw: bytes) -> Mapping[str, str]:
    match = form.fullmatch(open_track(track, raw))
    if match is None:
        raise StripeError("磁道格式不符", where=f"第 {track} 磁道")
    return match.groupdict()


def _track1_name(name: str) -> str:
    """Return a Latin name; the standard's empty name otherwise, as the alphabet has no Chinese."""
    upper = name.upper()
    return upper[:_NAME_LENGTH] if _LATIN.fullmatch(upper) and len(upper) > 1 else _NO_NAME


def _check(account: StripeAccount) -> None:
    if not _PAN.fullmatch(account.number):
        raise StripeError(
            "银行账号不合磁条要求", where="账号", expected="12–19 位数字", got=f"{len(account.number)} 位"
        )
    if len(account.service_code) != 3 or not _DIGITS.fullmatch(account.service_code):
        raise StripeError("服务代码不对", where="服务代码", expected="3 位数字")
    if not _DIGITS.fullmatch(account.discretionary):
        raise StripeError("自定义数据不是数字", where="自定义数据", expected="数字")
