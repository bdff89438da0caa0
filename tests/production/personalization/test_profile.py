"""The card profile as data: what ships is right, what contradicts itself is refused (R-24, R-25)."""

from __future__ import annotations

from importlib import resources

import pytest

from production.personalization.profile import ProfileError, load_profile, parse_profile
from production.personalization.tlv import Kind

CODE = "sssc-3.0-sm4"
TEXT = (resources.files("production.personalization") / "profiles" / f"{CODE}.toml").read_text(
    encoding="utf-8"
)


def test_shipped_profile_holds_the_files_of_the_card_data_and_the_holder() -> None:
    """R-24: EF05 and EF06 of the SSSE carry the tags, lengths and types on record."""
    files = dict(load_profile(CODE).files())
    ef05 = [(f.tag, f.length, f.kind) for f in files["SSSE/EF05"].fields]
    ef06 = [(f.tag, f.length, f.kind) for f in files["SSSE/EF06"].fields]
    an, cn, hx = Kind.AN, Kind.CN, Kind.HX
    assert ef05 == [(1, 16, hx), (2, 1, an), (3, 4, an), (4, 12, cn), (5, 4, cn), (6, 4, cn), (7, 9, an)]
    assert ef06 == [
        (0x08, 18, an), (0x09, 30, an), (0x4E, 20, an), (0x0A, 1, an),
        (0x0B, 1, cn), (0x0C, 3, cn), (0x0D, 4, cn),
    ]  # fmt: skip


def test_shipped_profile_names_its_applications_and_keys() -> None:
    """R-25: 28 keys with the PSAM's usage byte: 67 is three levels of encryption, 28 one level of MAC."""
    profile = load_profile(CODE)
    keys = {key.full_name: key for key in profile.keys}
    assert [a.name for a in profile.applications] == ["SSSE", "DF01", "DF02", "DF03", "DF04"]
    assert profile.applications[0].aid == b"sx1.sh." + "社会保障".encode("gbk")
    assert profile.applications[4].aid == bytes.fromhex("D15600000503")
    assert len(keys) == 28
    assert (keys["SSSE/IRK"].key_id, keys["SSSE/IRK"].levels, keys["SSSE/IRK"].key_type) == (0, 3, 7)
    assert (keys["DF04/UK6"].key_id, keys["DF04/UK6"].levels, keys["DF04/UK6"].psam_id) == (0x87, 1, 0x5C)
    assert keys["SSSE/RK"].levels == 2


def test_assumptions_are_listed_with_their_place() -> None:
    found = dict(load_profile(CODE).assumptions())
    assert "未知" in found["SSSE/EF05/01"]
    assert "推断" in found["DF01"]
    assert "SSSE/EF06/08" not in found


def test_nested_group_counts_its_records_in_the_length() -> None:
    group = dict(load_profile(CODE).files())["DF01/EF15"].fields[1]
    assert (group.tag, group.length) == (0x40, 3 + 3 + 40 + 6)
    assert group.initial() == b"\x57\x03" + bytes(3) + b"\x58\x03\xff\xff\xff" + b"\x59\x28" + bytes(40)


@pytest.mark.parametrize("code", ["../secrets", "Absent", "", "a/b", "x" * 60])
def test_profile_code_is_never_a_path(code: str) -> None:
    with pytest.raises(ProfileError, match="不合法"):
        load_profile(code)


def test_unknown_profile_is_named() -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile("sssc-9.9")
    assert caught.value.got == "sssc-9.9"
    assert caught.value.code == "card_profile"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('code = "sssc-3.0-sm4"', "code = 3", "值的类型不对"),
        ('algorithm = "sm4"', 'algorithm = "aes"', "不支持的算法"),
        ('title = "社会保障卡 3.0（SM4）"', "", "缺少键"),
        ('name = "DF04"', 'name = "DF03"', "重复定义"),
        ('id = "EF06"', 'id = "EF05"', "重复定义"),
        ('id = "EF08"', 'id = "AB08"', "文件标识不合法"),
        ("tag = 0x08", "tag = 0x09", "重复定义"),
        ("tag = 0x08", "tag = 0x1FF", "标签或长度超出范围"),
        ("length = 18", "length = 300", "标签或长度超出范围"),
        ("length = 18", "length = true", "值的类型不对"),
        ("length = 18", 'length = 18, colour = "red"', "不认识的键"),
        ('source = "number"', 'source = "password"', "值的来源不对"),
        ('source = "number"', 'source = "name"', "重复定义"),
        ('kind = "hx"', 'kind = "bcd"', "取值不对"),
        ('overlong = "cut"', 'overlong = "drop"', "取值不对"),
        ('read = "PIN and RK1"', 'read = "PIN && RK1"', "访问条件写法不对"),
        ('structure = "transparent"', 'structure = "stack"', "文件结构不对"),
        ("size = 1024", "", "文件大小写法不对"),
        ('source = "photo"', 'source = "name"', "文件的来源不对"),
        ('structure = "cyclic"', 'structure = "cyclic"\nsource = "photo"', "文件的来源不对"),
        ('aid = "D15600000500"', 'aid = "D156"', "应用标识长度不对"),
        ('aid = "D15600000500"', 'aid = "XY"', "不是十六进制"),
        ("usage = 0x67", "usage = 0x07", "PSAM 用途字节不对"),
        ("id = 0x05", "id = 0x00", "重复定义"),
        ('application = "DF04"', 'application = "DF09"', "密钥的应用或字节不对"),
        ("[[key]]", "[[key", "不是有效的 TOML"),
    ],
)
def test_contradictory_profile_is_refused(before: str, after: str, message: str) -> None:
    """A typing error in a reviewed file must not reach a card."""
    assert before in TEXT
    with pytest.raises(ProfileError, match=message):
        parse_profile(TEXT.replace(before, after, 1))
