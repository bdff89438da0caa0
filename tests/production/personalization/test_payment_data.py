"""A bank's payment data: checked when it is read, filled for each card, never with a key in it (R-16)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from production.personalization.ber import BerError, decode_ber, encode_ber, find_ber
from production.personalization.card_crypto import TripleDesCipher
from production.personalization.payment import data_group
from production.personalization.payment_data import (
    PaymentAccount,
    PaymentDataError,
    build_payment,
    parse_bank_groups,
    payment_key_names,
    sample_bank_groups,
)

ACCOUNT = PaymentAccount("6228480012345678901", dt.date(2026, 10, 12), dt.date(2036, 10, 31))
MASTERS = {role: bytes(range(n, n + 16)) for n, role in enumerate(("kmc", "ac", "mac", "enc"))}


def changed(**changes: Any) -> str:
    return json.dumps(json.loads(sample_bank_groups("B01")) | changes)


def test_account_number_and_track_stand_in_the_records() -> None:
    """R-16: the PAN is the account number, odd digits filled up with F."""
    made = build_payment(parse_bank_groups(sample_bank_groups("B01")), ACCOUNT, MASTERS)
    assert find_ber(made.groups["0101"], 0x70, 0x5A) == bytes.fromhex("6228480012345678901F")
    assert find_ber(made.groups["0101"], 0x70, 0x57) == bytes.fromhex("6228480012345678901D3610620F")
    assert find_ber(made.groups["0102"], 0x70, 0x5F24) == bytes.fromhex("361031")
    assert find_ber(made.groups["0102"], 0x70, 0x5F25) == bytes.fromhex("261012")
    assert made.groups["9104"] == bytes.fromhex("82027C0094080801020010010100")
    assert list(made.records()) == [("0101", 1, 1), ("0102", 1, 2), ("0201", 2, 1)]
    assert made.kmc == MASTERS["kmc"]


def test_the_cards_keys_are_its_own_and_check() -> None:
    """EMV Book 2, A1.4.1: the last 16 digits of account and sequence number, and their complement."""
    groups = parse_bank_groups(sample_bank_groups("B01"))
    made = build_payment(groups, ACCOUNT, MASTERS)
    cipher, factor = TripleDesCipher(), bytes.fromhex("8001234567890101")
    inverse = bytes(b ^ 0xFF for b in factor)
    for n, role in enumerate(("ac", "mac", "enc")):
        key = made.groups["8000"][16 * n : 16 * n + 16]
        assert key == cipher.encrypt(MASTERS[role], factor) + cipher.encrypt(MASTERS[role], inverse)
        assert made.groups["9000"][3 * n : 3 * n + 3] == cipher.encrypt(key, bytes(8))[:3]
    other = build_payment(groups, dataclasses.replace(ACCOUNT, number="6228480012345678902"), MASTERS)
    assert other.groups["8000"] != made.groups["8000"]


def test_nothing_secret_is_in_the_repr() -> None:
    made = build_payment(parse_bank_groups(sample_bank_groups("B01")), ACCOUNT, MASTERS)
    assert "6228" not in repr(made) + repr(ACCOUNT)
    assert "groups" not in repr(made)


def test_key_names_fit_the_key_store() -> None:
    assert payment_key_names("B01") == {
        "kmc": "pay-B01-kmc", "ac": "pay-B01-ac", "mac": "pay-B01-mac", "enc": "pay-B01-enc",
    }  # fmt: skip
    assert max(len(name) for name in payment_key_names("A" * 20).values()) <= 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "x"}, "格式不认识"),
        ({"bank": "../B"}, "银行代码不对"),
        ({"application": "A0000003330101"}, "支付应用标识不对"),
        ({"application": "zz"}, "不是十六进制"),
        ({"service_code": "62"}, "服务代码不对"),
        ({"control": "50"}, "值的类型不对"),
        ({"control": [["50"]]}, "数据对象写法不对"),
        ({"control": [["50", "XY"]]}, "数据对象写法不对"),
        ({"control": [["50", "@password"]]}, "数据对象写法不对"),
        ({"control": [["5F", "00"]]}, "标签不合法"),
        ({"control": [["50", "00"], ["50", "01"]]}, "重复定义"),
        ({"processing": [["82", "7C00"]]}, "处理选项写法不对"),
        ({"processing": [["82", "7C"], ["94", "08010200"]]}, "处理选项写法不对"),
        ({"processing": [["82", "7C00"], ["94", "08010300"]]}, "定位器与记录不符"),
        ({"records": {"0101": [["5A", "@account"]]}}, "缺少必需的标签"),
        ({"records": {"01": []}}, "数据组写法不对"),
        ({"records": {"0101": {}}}, "数据组写法不对"),
        ({"groups": {"8000": "00"}}, "不能由银行直接给出"),
        ({"groups": {"0103": "00"}}, "不能由银行直接给出"),
        ({"groups": {"9200": "0"}}, "不是十六进制"),
        ({"key": "00"}, "不认识的键"),
    ],
)
def test_data_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    """Before any card is begun with it."""
    with pytest.raises(PaymentDataError, match=message):
        parse_bank_groups(changed(**changes))


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(PaymentDataError):
        parse_bank_groups(text)


@given(st.text(max_size=60))
def test_any_text_is_refused_not_crashed_on(text: str) -> None:
    with pytest.raises(PaymentDataError):
        parse_bank_groups(text)


@pytest.mark.parametrize("number", ["", "1" * 11, "1" * 20, "62284800123456x8", "６" * 16])
def test_account_that_is_no_card_number_is_refused_without_showing_it(number: str) -> None:
    groups = parse_bank_groups(sample_bank_groups("B01"))
    with pytest.raises(PaymentDataError, match="银行账号") as caught:
        build_payment(groups, dataclasses.replace(ACCOUNT, number=number), MASTERS)
    assert not number or number not in str(caught.value)


def test_a_group_too_long_for_one_command_is_refused() -> None:
    raw = json.loads(sample_bank_groups("B01"))
    raw["records"]["0102"].append(["9F4A", "00" * 230])
    with pytest.raises(PaymentDataError, match="数据组过长"):
        build_payment(parse_bank_groups(json.dumps(raw)), ACCOUNT, MASTERS)


@pytest.mark.parametrize(("size", "head"), [(0, "010100"), (254, "0101FE"), (255, "0101FF00FF")])
def test_lengths_of_data_groups(size: int, head: str) -> None:
    assert data_group("0101", bytes(size)).hex().upper().startswith(head)


@given(st.lists(st.tuples(st.sampled_from([0x50, 0x5A, 0x9F38, 0x5F24, 0xDF8101]), st.binary(max_size=300))))
def test_objects_come_back(objects: list[tuple[int, bytes]]) -> None:
    raw = b"".join(encode_ber(tag, value) for tag, value in objects)
    assert list(decode_ber(raw)) == objects


@given(st.binary(max_size=40))
def test_hostile_objects_are_refused_or_read_whole(raw: bytes) -> None:
    try:
        found = list(decode_ber(raw))
    except BerError:
        assert raw
    else:
        assert sum(len(value) for _, value in found) <= len(raw)


@pytest.mark.parametrize("raw", ["6F", "6F05", "9F", "9F81", "6F83000001", "6F8200", "6F80"])
def test_cut_objects_are_refused(raw: str) -> None:
    with pytest.raises(BerError):
        list(decode_ber(bytes.fromhex(raw)))
