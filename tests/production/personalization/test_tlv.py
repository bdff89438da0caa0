"""Record TLV and the value types an and cn, there and back, and with hostile bytes (R-18, R-24)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from production.personalization.tlv import (
    Kind,
    TlvError,
    decode_records,
    decode_value,
    encode_record,
    encode_records,
    encode_value,
    padding,
)

# Private use code points have a standard spelling since GB 18030-2022 and so do not come back as they were.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Co"], exclude_characters="\x00"), max_size=60)
RECORDS = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=255)), max_size=8)


@given(TEXTS)
def test_an_value_comes_back(text: str) -> None:
    """R-18: what is written is what is read, padded to the field."""
    value = encode_value(Kind.AN, text, 255)
    assert len(value) == 255
    assert decode_value(Kind.AN, value) == text


@given(st.text("0123456789", max_size=24))
def test_cn_value_comes_back(digits: str) -> None:
    """R-18: BCD padded right with F, odd numbers of digits too."""
    value = encode_value(Kind.CN, digits, 12)
    assert value.hex().upper() == digits.ljust(24, "F")
    assert decode_value(Kind.CN, value) == digits


@given(st.binary(min_size=16, max_size=16))
def test_hx_value_comes_back(raw: bytes) -> None:
    assert encode_value(Kind.HX, decode_value(Kind.HX, raw), 16) == raw


@given(RECORDS)
def test_records_come_back(records: list[tuple[int, bytes]]) -> None:
    assert list(decode_records(encode_records(records))) == records


@given(RECORDS.filter(bool), st.data())
def test_cut_file_is_refused_with_the_offset(records: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """A file cut inside a record never passes for a shorter file."""
    content = encode_records(records)
    last = len(records[-1][1]) + 2
    cut = data.draw(st.integers(1, last - 1))
    with pytest.raises(TlvError, match="记录不完整") as caught:
        list(decode_records(content[:-cut]))
    assert caught.value.where == f"偏移 {len(content) - last}"


@given(st.binary(max_size=80))
def test_hostile_bytes_decode_or_are_refused(raw: bytes) -> None:
    for kind in Kind:
        with contextlib.suppress(TlvError):
            assert "\x00" not in decode_value(kind, raw)


@pytest.mark.parametrize("pad", [b"\x00", b"\xff"])
def test_reader_accepts_both_paddings_of_text(pad: bytes) -> None:
    """Some writers pad the name extension with FF (facts of the card, section 1)."""
    assert decode_value(Kind.AN, "欧阳".encode("gb18030").ljust(20, pad)) == "欧阳"
    assert decode_value(Kind.AN, pad * 20) == ""


def test_initial_padding_by_kind() -> None:
    assert (padding(Kind.AN, 2), padding(Kind.CN, 2)) == (b"\x00\x00", b"\xff\xff")


def test_record_has_tag_length_value() -> None:
    assert encode_record(0x08, b"440601") == b"\x08\x06440601"


@pytest.mark.parametrize(
    ("kind", "text", "length", "message"),
    [
        (Kind.AN, "张伟张", 5, "值过长"),
        (Kind.AN, "a\x00b", 5, "空字符"),
        (Kind.AN, "\ud800", 5, "无法编码"),
        (Kind.CN, "12A", 4, "不是数字"),
        (Kind.CN, "１２", 4, "不是数字"),
        (Kind.CN, "123", 1, "数字过长"),
        (Kind.HX, "D1", 2, "十六进制值不符"),
        (Kind.HX, "d156", 2, "十六进制值不符"),
    ],
)
def test_value_that_does_not_fit_is_refused_without_showing_it(
    kind: Kind, text: str, length: int, message: str
) -> None:
    with pytest.raises(TlvError, match=message) as caught:
        encode_value(kind, text, length)
    assert text not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("kind", "raw", "message"),
    [
        (Kind.AN, b"a\x00b", "填充字节"),
        (Kind.AN, b"\xd5", "GB 18030"),
        (Kind.CN, b"\x1a", "BCD"),
        (Kind.CN, b"\x1f\x11", "BCD"),
    ],
)
def test_value_that_cannot_be_read_is_refused(kind: Kind, raw: bytes, message: str) -> None:
    with pytest.raises(TlvError, match=message):
        decode_value(kind, raw)


@pytest.mark.parametrize(("tag", "size"), [(256, 1), (-1, 1), (1, 256)])
def test_record_out_of_range_is_refused(tag: int, size: int) -> None:
    with pytest.raises(TlvError, match="超出范围"):
        encode_record(tag & 0xFFFF if tag > 0 else tag, bytes(size))
