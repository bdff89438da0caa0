"""Magnetic stripe: three tracks with sentinels and LRC, whatever the account number (R-16)."""

from __future__ import annotations

import calendar
import dataclasses
import datetime as dt
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from production.personalization.stripe import (
    TRACK_LIMITS,
    StripeAccount,
    StripeError,
    build_stripe,
    lrc,
    open_track,
    parse_stripe,
    seal_track,
)

EXPIRES = dt.date(2036, 10, 31)
NUMBERS = st.text("0123456789", min_size=12, max_size=19)


def test_three_tracks_of_a_chinese_holder() -> None:
    """R-16: ISO/IEC 7813 for tracks 1 and 2, ISO/IEC 4909 for track 3; no Chinese in the alphabet."""
    stripe = build_stripe(StripeAccount("6217001234567890123", EXPIRES, latin_name="张伟"))
    assert stripe.track1[:-1] == b"%B6217001234567890123^ /^3610620?"
    assert stripe.track2[:-1] == b";6217001234567890123=3610620?"
    zeros = b"0" * 29
    assert stripe.track3[:-1] == b";996217001234567890123=156156" + zeros + b"36101==0=?"


def test_latin_name_stands_on_track_one_in_capitals() -> None:
    stripe = build_stripe(
        StripeAccount("6217001234567890", EXPIRES, latin_name="Maria Fernanda Gonzalez Rodriguez")
    )
    assert stripe.track1.split(b"^")[1] == b"MARIA FERNANDA GONZALEZ RO"


def test_check_character_is_the_exclusive_or() -> None:
    """ISO/IEC 7811-6: each bit column of the characters, check character included, has even parity."""
    assert lrc(2, b";1?") == bytes([0x30 + (0xB ^ 1 ^ 0xF)])
    assert seal_track(2, ";0=?") == b";0=?" + bytes([0x30 + (0xB ^ 0 ^ 0xD ^ 0xF)])


@given(NUMBERS)
def test_every_track_adds_up_to_zero_and_fits(number: str) -> None:
    stripe = build_stripe(StripeAccount(number, EXPIRES))
    for track, base, raw in ((1, 0x20, stripe.track1), (2, 0x30, stripe.track2), (3, 0x30, stripe.track3)):
        assert reduce(lambda total, c: total ^ (c - base), raw, 0) == 0
        assert len(raw) <= TRACK_LIMITS[track]


def test_number_is_not_in_the_repr() -> None:
    account = StripeAccount("6217001234567890123", EXPIRES)
    assert "6217" not in repr(account) + repr(build_stripe(account))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"number": "62170012345"}, "账号"),
        ({"number": "6" * 20}, "账号"),
        ({"number": "6217 0012 3456 7890"}, "账号"),
        ({"number": "６２１７００１２３４５６７８９０"}, "账号"),
        ({"service_code": "62"}, "服务代码"),
        ({"discretionary": "12A"}, "自定义数据"),
        ({"discretionary": "1" * 20}, "第 2 磁道"),
    ],
)
def test_account_that_cannot_be_encoded_is_refused_with_its_part(changes: dict[str, str], where: str) -> None:
    base: dict[str, str] = {"number": "6217001234567890123"}
    with pytest.raises(StripeError) as caught:
        build_stripe(StripeAccount(**(base | changes), expires_on=EXPIRES))
    assert caught.value.where == where
    assert "6217001234567890123" not in str(caught.value)


@pytest.mark.parametrize("text", [";12A?", ";1 2?", ";é?", "\x00"])
def test_character_outside_the_alphabet_is_refused(text: str) -> None:
    with pytest.raises(StripeError, match="不允许的字符"):
        seal_track(2, text)


@given(
    number=NUMBERS,
    year=st.integers(2026, 2069),
    month=st.integers(1, 12),
    service=st.text("0123456789", min_size=3, max_size=3),
    discretionary=st.text("0123456789", max_size=10),
    name=st.from_regex(r"[A-Z][A-Z ./'-]{1,25}", fullmatch=True),
)
def test_every_account_comes_back_from_its_stripe(
    number: str, year: int, month: int, service: str, discretionary: str, name: str
) -> None:
    """R-16: what a reader takes from the three tracks is what the bank gave."""
    last = dt.date(year, month, calendar.monthrange(year, month)[1])
    account = StripeAccount(number, last, service, discretionary, name)
    if 1 + len(number) + 1 + 4 + 3 + len(discretionary) + 2 > TRACK_LIMITS[2]:
        with pytest.raises(StripeError):
            build_stripe(account)
        return
    assert parse_stripe(build_stripe(account)) == account
    nameless = dataclasses.replace(account, latin_name="")
    assert parse_stripe(build_stripe(nameless)) == nameless


@given(st.integers(0, 2), st.data())
def test_one_changed_bit_never_passes(track: int, data: st.DataObject) -> None:
    """ISO/IEC 7811-6: the LRC finds every single error."""
    stripe = build_stripe(StripeAccount("6217001234567890123", EXPIRES))
    name = f"track{track + 1}"
    raw = bytearray(getattr(stripe, name))
    place, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 3))
    raw[place] ^= 1 << bit
    with pytest.raises(StripeError) as caught:
        parse_stripe(dataclasses.replace(stripe, **{name: bytes(raw)}))
    assert caught.value.where == f"第 {track + 1} 磁道"


def test_tracks_of_two_cards_are_told() -> None:
    """R-18: an encoder that mixes up cards."""
    first, second = (build_stripe(StripeAccount(f"621700123456789012{n}", EXPIRES)) for n in (1, 2))
    for name in ("track2", "track3"):
        with pytest.raises(StripeError, match="不一致"):
            parse_stripe(dataclasses.replace(first, **{name: getattr(second, name)}))


@given(st.integers(1, 3), st.binary(max_size=120))
def test_hostile_tracks_are_refused_or_add_up(track: int, raw: bytes) -> None:
    try:
        text = open_track(track, raw)
    except StripeError:
        return
    assert seal_track(track, text) == raw
