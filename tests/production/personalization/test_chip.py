"""Chip content: built by the profile, read back by tag, compared with the record (R-18, R-24)."""

from __future__ import annotations

import datetime as dt
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.core.names import NameTooLongError
from production.personalization.chip import (
    ChipContent,
    ChipContentError,
    build_chip,
    compare,
    parse_chip,
)
from production.personalization.holder import HolderRefusedError, build_card_identifier
from production.personalization.profile import load_profile
from production.personalization.tlv import TlvError, decode_records, encode_records
from tests.production.personalization.people import HOLDER, IDENTIFIER, holder

PROFILE = load_profile("sssc-3.0-sm4")
HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5)
RARE = st.characters(min_codepoint=0x20000, max_codepoint=0x2A6D6)
NAMES = st.one_of(
    st.text(HAN, min_size=1, max_size=25),
    st.text(RARE, min_size=1, max_size=11),
    st.text(string.ascii_uppercase, min_size=1, max_size=50),
)


def written(**changes: object) -> dict[str, bytes]:
    return dict(build_chip(holder(**changes), PROFILE, IDENTIFIER).files)


def with_tag(files: dict[str, bytes], path: str, tag: int, value: bytes) -> dict[str, bytes]:
    """Return the files with one tag's value replaced."""
    records = [(t, value if t == tag else v) for t, v in decode_records(files[path])]
    return files | {path: encode_records(records)}


def test_card_and_holder_files_byte_by_byte() -> None:
    """R-24: EF05 and EF06 as the record of the card gives them."""
    files = written()
    assert files["SSSE/EF05"].hex().upper() == (
        "0110" "440600D1560000050102030405060708" "020131" "0304332E3030" "040C440600000000000000000001"
        "050420261012" "060420361012" "0709413132333435363738"
    )  # fmt: skip
    assert files["SSSE/EF06"] == (
        b"\x08\x12440601199001011234"
        + b"\x09\x1e" + "张伟".encode("gbk").ljust(30, b"\x00")
        + b"\x4e\x14" + bytes(20)
        + b"\x0a\x011" + b"\x0b\x01\x01" + b"\x0c\x03\x44\x06\x01" + b"\x0d\x04\x19\x90\x01\x01"
    )  # fmt: skip


def test_employer_goes_to_the_public_data() -> None:
    values = parse_chip(written(), PROFILE).values
    assert values["DF01/EF09/2E"] == "佛山市测试有限公司"
    assert values["DF01/EF09/30"] == "MA4ABCDE1"


def test_long_employer_is_cut_between_characters_and_still_agrees() -> None:
    """The one field that may be cut says so in the profile; face and holder files never are."""
    person = holder(employer_name="a" + "佛" * 40)
    files = build_chip(person, PROFILE, IDENTIFIER).files
    assert parse_chip(files, PROFILE).values["DF01/EF09/2E"] == "a" + "佛" * 34
    assert compare(person, files, PROFILE, card_identifier=IDENTIFIER) == []


def test_fields_without_a_value_stay_initial() -> None:
    files = written(birth_on=None, birth_area="", employer_name="", employer_code="")
    assert files["SSSE/EF06"].endswith(b"\x0c\x03\xff\xff\xff\x0d\x04\xff\xff\xff\xff")
    assert set(dict(decode_records(files["DF01/EF09"]))[0x2E]) == {0}
    assert "SSSE/EF07" not in files
    assert "DF02/EF07" not in files


@settings(max_examples=40)
@given(NAMES)
def test_every_name_that_fits_comes_back_and_agrees(name: str) -> None:
    """R-18: names over 30 bytes continue in tag 4E without splitting a character."""
    person = holder(name=name)
    files = build_chip(person, PROFILE, IDENTIFIER).files
    assert parse_chip(files, PROFILE).by_source["name"] == name
    assert compare(person, files, PROFILE, card_identifier=IDENTIFIER) == []


def test_character_is_not_split_between_name_and_extension() -> None:
    records = dict(decode_records(written(name="a" + "欧" * 20)["SSSE/EF06"]))
    assert records[0x09] == ("a" + "欧" * 14).encode("gbk") + b"\x00"
    assert records[0x4E] == ("欧" * 6).encode("gbk").ljust(20, b"\x00")


def test_name_too_long_for_the_chip_is_refused() -> None:
    with pytest.raises(NameTooLongError):
        written(name="欧" * 26)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"number": "4" * 19}, "SSSE/EF06/08"),
        ({"card_number": "A123456789"}, "SSSE/EF05/07"),
        ({"ethnicity": "汉"}, "SSSE/EF06/0B"),
        ({"initialiser": "4" * 25}, "SSSE/EF05/04"),
        ({"birth_area": "4406011"}, "SSSE/EF06/0C"),
    ],
)
def test_value_that_does_not_fit_names_the_tag_only(changes: dict[str, str], where: str) -> None:
    """Nothing is cut silently, and the value is not in the message (R-18)."""
    with pytest.raises(ChipContentError) as caught:
        written(**changes)
    assert caught.value.where == where
    assert next(iter(changes.values())) not in str(caught.value)


@pytest.mark.parametrize("size", [1, 15, 17])
def test_card_identifier_has_sixteen_bytes(size: int) -> None:
    with pytest.raises(ChipContentError, match="十六进制值不符"):
        build_chip(HOLDER, PROFILE, bytes(size))


@pytest.mark.parametrize(
    ("path", "tag", "value", "title"),
    [
        ("SSSE/EF05", 0x01, bytes(16), "卡识别码"),
        ("SSSE/EF05", 0x03, b"2.00", "规范版本"),
        ("SSSE/EF05", 0x07, b"A12345679", "卡号"),
        ("SSSE/EF06", 0x08, b"440601199001011235", "社会保障号码"),
        ("SSSE/EF06", 0x09, "张炜".encode("gbk").ljust(30, b"\x00"), "姓名"),
        ("SSSE/EF06", 0x0D, bytes.fromhex("19900102"), "出生日期"),
        ("DF01/EF09", 0x32, b"01", ""),
    ],
)
def test_one_wrong_value_is_one_difference(path: str, tag: int, value: bytes, title: str) -> None:
    """R-18: including a value left in a field that should be empty."""
    files = with_tag(written(), path, tag, value)
    found = compare(HOLDER, files, PROFILE, card_identifier=IDENTIFIER)
    assert [(d.tag, d.title) for d in found] == [(f"{path}/{tag:02X}", title)]
    assert found[0].expected != found[0].got


def test_difference_hides_the_values_in_its_repr() -> None:
    files = with_tag(written(), "SSSE/EF06", 0x08, b"440601199001011235")
    (found,) = compare(HOLDER, files, PROFILE, card_identifier=IDENTIFIER)
    assert (found.expected, found.got) == ("440601199001011234", "440601199001011235")
    assert "44060119900101123" not in repr(found)
    assert "张伟" not in repr(HOLDER)


def test_other_padding_and_other_order_of_records_is_no_difference() -> None:
    """R-18 compares what the card says, not how a writer padded it."""
    files = with_tag(written(name="欧" * 16), "SSSE/EF06", 0x4E, "欧".encode("gbk").ljust(20, b"\xff"))
    records = list(decode_records(files["SSSE/EF06"]))
    files["SSSE/EF06"] = encode_records(reversed(records))
    assert compare(holder(name="欧" * 16), files, PROFILE, card_identifier=IDENTIFIER) == []


def test_older_card_without_the_name_extension_is_read_by_tag() -> None:
    files = written()
    records = [(tag, value) for tag, value in decode_records(files["SSSE/EF06"]) if tag != 0x4E]
    files["SSSE/EF06"] = encode_records(records)
    assert parse_chip(files, PROFILE).by_source["name"] == "张伟"
    assert compare(HOLDER, files, PROFILE, card_identifier=IDENTIFIER) == []
    long = compare(holder(name="欧" * 16), files, PROFILE, card_identifier=IDENTIFIER)
    assert [d.tag for d in long] == ["SSSE/EF06/09"]


def test_missing_file_is_a_difference_for_each_value() -> None:
    files = written()
    del files["SSSE/EF05"]
    found = compare(HOLDER, files, PROFILE, card_identifier=IDENTIFIER)
    assert [d.tag[-2:] for d in found] == ["01", "02", "03", "04", "05", "06", "07"]
    assert {d.got for d in found} == {""}


def test_broken_file_is_a_difference_and_the_rest_is_still_compared() -> None:
    files = with_tag(written(), "SSSE/EF05", 0x07, b"A12345679")
    files["SSSE/EF06"] = files["SSSE/EF06"][:-1]
    found = compare(HOLDER, files, PROFILE, card_identifier=IDENTIFIER)
    assert [d.tag for d in found] == ["SSSE/EF05/07", "SSSE/EF06"]
    with pytest.raises(TlvError):
        parse_chip(files, PROFILE)


@given(st.binary(max_size=120))
def test_hostile_readback_never_agrees_and_never_crashes(raw: bytes) -> None:
    files = written() | {"SSSE/EF06": raw}
    assert compare(HOLDER, files, PROFILE, card_identifier=IDENTIFIER) != []


def test_summary_has_the_eleven_parts_of_a_reader() -> None:
    """LD/T 33 style: iReadCardBas, each part followed by a bar."""
    line = parse_chip(written(), PROFILE).summary(
        reset=bytes.fromhex("0081543386"), terminal="T1", device="D1"
    )
    assert line == (
        "440600|440601199001011234|A12345678|440600D1560000050102030405060708|张伟|0081543386|3.00|20261012|20361012|T1|D1|"
    )


def test_content_comes_back_from_its_compact_form() -> None:
    content = build_chip(HOLDER, PROFILE, IDENTIFIER)
    raw = content.to_bytes()
    assert ChipContent.from_bytes(raw) == content
    assert len(raw) < 1500
    assert "4406011990" not in repr(content)


@given(st.data())
def test_damaged_compact_form_is_refused(data: st.DataObject) -> None:
    raw = build_chip(HOLDER, PROFILE, IDENTIFIER).to_bytes()
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(ChipContentError):
        ChipContent.from_bytes(raw[:cut])
    with pytest.raises(ChipContentError):
        ChipContent.from_bytes(raw + b"\x00")


def test_expiry_before_issue_is_refused() -> None:
    with pytest.raises(HolderRefusedError, match="有效期"):
        holder(expires_on=dt.date(2026, 10, 12))


def test_card_identifier_is_area_rid_and_serial() -> None:
    assert IDENTIFIER.hex().upper() == "440600D1560000050102030405060708"
    for area, serial in (("44060", bytes(8)), ("44060a", bytes(8)), ("440600", bytes(7))):
        with pytest.raises(HolderRefusedError):
            build_card_identifier(area, serial)
