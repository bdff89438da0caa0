"""Lines of a reader of the LD/T 33 kind: the summary, and the two steps with an HSM on a real exchange."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from production.personalization.chip import parse_chip
from production.personalization.profile import load_profile
from production.personalization.reader_lines import (
    HsmRequest,
    ReaderLineError,
    answer_request,
    outer_command,
    parse_request,
    parse_summary,
)
from tests.card.personalizing import ATR, PROFILES, make_card, make_job, powered
from tests.production.personalization.people import HOLDER

EIGHT = st.binary(min_size=8, max_size=8)
REQUESTS = st.builds(
    HsmRequest,
    st.from_regex(r"[0-9]{6}", fullmatch=True),
    st.binary(max_size=15),
    st.sampled_from(["sm4", "3des"]),
    st.binary(min_size=16, max_size=16),
    EIGHT, EIGHT, EIGHT, EIGHT,
    st.from_regex(r"[0-9A-F]{0,12}", fullmatch=True),
)  # fmt: skip
LINE = HsmRequest("440600", ATR[4:], "sm4", bytes(16), bytes(8), bytes(8), bytes(8), bytes(8), "T1").line()


@given(REQUESTS)
def test_every_request_comes_back(request_: HsmRequest) -> None:
    assert parse_request(request_.line()) == request_


def test_the_line_of_step_one_has_nine_parts() -> None:
    """Card facts, §4."""
    parts = LINE.split("|")
    assert parts == ["440600", ATR[4:].hex().upper(), "03", "0" * 32, *["0" * 16] * 4, "T1", ""]


def test_an_hsm_proves_card_and_terminal_and_the_card_is_read() -> None:
    """3.0 cards: EF06 is read only after the terminal's proof; the HSM alone knows the keys."""
    made = make_card(make_job())
    transport = powered(made.card)
    transport.transmit(b"\x00\xa4\x04\x00\x0f" + made.job.environment.aid)
    assert transport.transmit(bytes.fromhex("00B2083014")).sw == 0x6982
    inner = bytes(range(8)), bytes(range(8, 16))
    outer_factor = transport.transmit(bytes.fromhex("0084000008")).data
    request = HsmRequest(
        "440600", ATR[4:], "sm4", bytes(16), *inner, outer_factor, bytes(range(16, 24)), "T1"
    )
    irk, read = made.job.key("SSSE", "IRK"), made.job.key("SSSE", "RKssse")
    answer = answer_request(parse_request(request.line()), irk[1], read[1])
    assert transport.transmit(bytes.fromhex("0088000010") + inner[0] + inner[1]).data == answer.inner
    assert transport.transmit(outer_command(request, answer, read[0].key_id)).sw == 0x9000
    assert transport.transmit(bytes.fromhex("00B2083014")).data[2:].decode() == HOLDER.number


@pytest.mark.parametrize("code", PROFILES)
def test_the_summary_comes_back_by_name(code: str) -> None:
    values = parse_chip(make_job(code).chip.files, load_profile(code))
    parts = parse_summary(values.summary(reset=ATR[4:], terminal="T1", device="D1"))
    assert (parts["number"], parts["name"], parts["card_number"]) == (HOLDER.number, "张伟", "A12345678")
    assert (parts["area"], parts["history"], parts["terminal"]) == ("440600", ATR[4:].hex().upper(), "T1")
    assert parts["spec_version"] == load_profile(code).spec_version


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ("440600", "44060", "第 1 项"),
        ("|03|", "|09|", "第 3 项"),
        ("0" * 32, "0" * 30, "第 4 项"),
        ("|T1|", "|T1", ""),
        ("440600|", "440600||", ""),
    ],
)
def test_a_line_that_is_wrong_names_its_part_only(before: str, after: str, where: str) -> None:
    with pytest.raises(ReaderLineError) as caught:
        parse_request(LINE.replace(before, after, 1))
    assert caught.value.where == where


@given(st.text(max_size=80))
def test_any_text_is_refused_not_crashed_on(text: str) -> None:
    for read in (parse_request, parse_summary):
        with pytest.raises(ReaderLineError):
            read(text)
