"""Names: one spelling, the chip's two fields, what cannot be printed (R-12, R-17)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.core.names import (
    NameTooLongError,
    check_name,
    decode_gb18030,
    encode_gb18030,
    has_han,
    mask_name,
    normalise_name,
    split_name,
)


class NoGlyphFor:
    """A stand-in font chain that lacks the given characters."""

    def __init__(self, lacking: str) -> None:
        self.lacking = lacking

    def missing(self, text: str) -> str:
        return "".join(c for c in text if c in self.lacking)


def code_of(name: str) -> str | None:
    problem = check_name(name)
    return problem.code if problem else None


@pytest.mark.parametrize("separator", ["•", "‧", "・", "･", ".", "．", "·", " · ", "\u0387", "∙", "⋅"])
def test_every_separator_of_a_minority_name_becomes_the_middle_dot(separator: str) -> None:
    """R-12: bank and province write it differently, and must match."""
    assert normalise_name(f"阿迪力{separator}艾山") == "阿迪力\u00b7艾山"


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("张三", "张三"),
        ("　张　三 ", "张三"),
        ("ＪＯＨＮ　Smith", "JOHN Smith"),
        ("John  F. Smith", "John F. Smith"),
        ("Zoe\u0308", "Zoë"),
        ("王\ue81e", "王\u9fb4"),  # FE59 as Python's codec decodes it
        ("王\ue816", "王\U00020087"),
        ("王\ue815", "王\u2e81"),  # FE50 of GBK
        ("\ue7c7a", "ḿa"),
        ("\uf92c", "\u90ce"),
    ],
)
def test_normalise_name(raw: str, normal: str) -> None:
    """R-9: matching compares one spelling."""
    assert normalise_name(raw) == normal


@given(st.text(max_size=30) | st.text("张三阿·•.． 　aB\ue81e\ue78d", max_size=12))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise_name(text)
    assert normalise_name(once) == once
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("raw", "char"),
    [
        (b"\xa6\xd9", "\ufe10"),
        (b"\xa6\xda", "\ufe12"),
        (b"\xa6\xdb", "\ufe11"),
        (b"\xa6\xf3", "\ufe19"),
        (b"\xfe\x59", "\u9fb4"),
        (b"\xfe\x66", "\u9fb6"),
        (b"\xfe\xa0", "\u9fbb"),
    ],
)
def test_gb18030_of_2022_maps_these_codes_to_standard_characters(raw: bytes, char: str) -> None:
    """GB 18030-2022 swapped 18 positions that the 2005 edition kept in the private use area."""
    assert decode_gb18030(raw) == char
    assert encode_gb18030(char) == raw


def test_old_two_byte_codes_of_extension_b_characters_still_read() -> None:
    assert decode_gb18030(b"\xfe\x51") == "\U00020087"
    assert encode_gb18030("\U00020087") == bytes.fromhex("95329031")


@given(st.text("张三丰·aZ\u9fb4\u3402\U00020087\U0002ceff", max_size=14))
def test_split_joins_back_and_cuts_between_characters(name: str) -> None:
    """30 + 20 bytes, each half decodes alone."""
    try:
        first, second = split_name(name)
    except NameTooLongError:
        assert len(encode_gb18030(name)) > 50 - 3
        return
    assert len(first) <= 30
    assert len(second) <= 20
    assert decode_gb18030(first) + decode_gb18030(second) == name
    assert not second or len(first) > 30 - 4


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("张" * 15, (30, 0)),
        ("张" * 25, (30, 20)),
        ("a" + "张" * 24, (29, 20)),
        ("a" * 50, (30, 20)),
        ("\U0002ceff" * 12, (28, 20)),
    ],
)
def test_split_pads_rather_than_cutting_a_character(name: str, lengths: tuple[int, int]) -> None:
    """A character is never split across byte 30/31."""
    first, second = split_name(name)
    assert (len(first), len(second)) == lengths


@pytest.mark.parametrize(
    "name", ["张" * 26, "a" * 51, "a" + "张" * 25, "\U0002ceff" * 13, "a" + "\U0002ceff" * 12 + "b"]
)
def test_a_name_beyond_the_chip_is_refused(name: str) -> None:
    with pytest.raises(NameTooLongError) as caught:
        split_name(name)
    assert caught.value.code == "name_too_long"
    assert name not in str(caught.value)


def test_a_ten_thousand_character_name_is_answered_briefly() -> None:
    """Hostile length: the finding carries an excerpt and the figures."""
    problem = check_name("张" * 10_000)
    assert problem is not None
    assert problem.code == "name_too_long"
    assert problem.got == f"20000字节：{'张' * 40}…（共10000字）"


@pytest.mark.parametrize(
    "name",
    [
        "张三",
        "司马相如",
        "阿迪力·艾山",
        "〇三",
        "㐂三",
        "John F. Smith",
        "SMITH, JOHN",
        "O'Neil-Müller",
        "Zoë",
        "玛丽 Smith",
        "\U00030edd三",
    ],
)
def test_names_of_holders_pass(name: str) -> None:
    """R-12, R-17."""
    assert check_name(name) is None


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "name_missing"),
        ("张\x00三", "name_control"),
        ("张\u200b三", "name_control"),
        ("张\n三", "name_control"),
        ("张\ue000", "name_control"),
        ("\ud800", "name_control"),
        ("\u202e张三", "name_control"),
        ("张3", "name_symbol"),
        ("张*三", "name_symbol"),
        ("张?三", "name_symbol"),
        ("张□", "name_symbol"),
        ("张\ufffd", "name_symbol"),
        ("张..三", "name_symbol"),
        ("阿迪力··艾山", "name_symbol"),
        ("·艾山", "name_symbol"),
        ("艾山·", "name_symbol"),
        ("=cmd", "name_symbol"),
        ("-1+1", "name_symbol"),
        ("@SUM", "name_symbol"),
        ("<b>", "name_symbol"),
        ("张三;", "name_symbol"),
    ],
)
def test_each_unusable_name_has_its_code(name: str, code: str) -> None:
    """R-9: named, not guessed."""
    assert code_of(name) == code


def test_control_characters_survive_normalising_and_are_reported() -> None:
    assert code_of(normalise_name("张\t三")) == "name_control"


def test_characters_without_a_glyph_are_named() -> None:
    """R-17: a box is never printed."""
    problem = check_name("张㐂", NoGlyphFor("㐂"))
    assert problem is not None
    assert (problem.code, problem.got) == ("name_no_glyph", "㐂(U+3402)")
    assert check_name("张三", NoGlyphFor("㐂")) is None


@given(st.text(max_size=60))
def test_check_and_split_agree_on_any_text(text: str) -> None:
    name = normalise_name(text)
    if check_name(name) is None:
        first, second = split_name(name)
        assert decode_gb18030(first + second) == name


@pytest.mark.parametrize(
    ("name", "masked"),
    [("张小三", "张*三"), ("王五", "王*"), ("王", "*"), ("", ""), ("阿迪力·艾山", "阿****山")],
)
def test_mask_name(name: str, masked: str) -> None:
    assert mask_name(name) == masked


def test_has_han() -> None:
    """R-12: foreigners' names may have no Chinese character."""
    assert has_han("A张")
    assert not has_han("John")
