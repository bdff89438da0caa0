"""The cast of the demo: the 18 banks of R-5, their delivery points, and three invented suppliers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class BankSpec:
    """One bank as it stands in a package: `code` is AAE008, `points` are the values of the column branch."""

    code: str
    name: str
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PointSpec:
    """One delivery point of a bank; the address is invented."""

    code: str
    bank_code: str
    name: str
    district: str
    address: str


@dataclass(frozen=True, slots=True)
class RosterSpec:
    """One person of a supplier's roster (R-15)."""

    staff_number: str
    name: str
    position: str


@dataclass(frozen=True, slots=True)
class SupplierSpec:
    """One invented supplier and the lot it won (R-1)."""

    code: str
    name: str
    lot: int
    roster: tuple[RosterSpec, ...]


DISTRICTS: Final[Mapping[str, str]] = MappingProxyType(
    {"禅": "禅城区", "南": "南海区", "顺": "顺德区", "三": "三水区", "高": "高明区"}
)

# Code, full name, and one letter per delivery point: the district it lies in.
_BANKS: Final = (
    ("ICBC", "中国工商银行佛山分行", "禅南顺三"),
    ("ABC", "中国农业银行佛山分行", "禅南顺高"),
    ("BOC", "中国银行佛山分行", "禅南顺三"),
    ("CCB", "中国建设银行佛山分行", "禅南顺高"),
    ("BCM", "交通银行佛山分行", "禅南顺"),
    ("CEB", "中国光大银行佛山分行", "禅南"),
    ("CGB", "广发银行佛山分行", "禅南顺"),
    ("CMB", "招商银行佛山分行", "禅南顺"),
    ("SDRCB", "广东顺德农村商业银行", "顺顺顺"),
    ("FSRCB", "佛山农村商业银行", "禅禅三高"),
    ("NHRCB", "广东南海农村商业银行", "南南南"),
    ("PAB", "平安银行佛山分行", "禅南"),
    ("CRB", "珠海华润银行佛山分行", "禅顺"),
    ("CITIC", "中信银行佛山分行", "禅南"),
    ("GZB", "广州银行佛山分行", "禅南"),
    ("CIB", "兴业银行佛山分行", "禅顺"),
    ("PSBC", "中国邮政储蓄银行佛山市分行", "禅南三高"),
    ("CZB", "浙商银行佛山分行", "禅顺"),
)

_STREETS: Final = (
    "榕荫路", "稻香大道", "陶韵街", "荷塘中路", "秋枫路", "龙舟大道", "桑园西路", "云泉街", "锦鲤路",
)  # fmt: skip


def _point(bank_code: str, bank_name: str, letter: str, position: int, ordinal: int) -> PointSpec:
    district = DISTRICTS[letter]
    street = _STREETS[ordinal % len(_STREETS)]
    return PointSpec(
        code=f"{bank_code}-{position:02d}",
        bank_code=bank_code,
        name=f"{bank_name}{district.removesuffix('区')}{street.removesuffix('路')}支行",
        district=district,
        address=f"佛山市{district}{street}{18 + ordinal * 7}号",
    )


def _points() -> dict[str, PointSpec]:
    places = [(code, name, at, n) for code, name, letters in _BANKS for n, at in enumerate(letters, 1)]
    points = (_point(*place, ordinal) for ordinal, place in enumerate(places))
    return {point.code: point for point in points}


DELIVERY_POINTS: Final[Mapping[str, PointSpec]] = MappingProxyType(_points())

BANKS: Final[tuple[BankSpec, ...]] = tuple(
    BankSpec(code, name, tuple(point.code for point in DELIVERY_POINTS.values() if point.bank_code == code))
    for code, name, _ in _BANKS
)

_POSITIONS: Final = ("生产主管", "数据准备员", "个人化操作员", "个人化操作员", "质检员", "仓管员")


def _supplier(code: str, name: str, lot: int, people: str) -> SupplierSpec:
    members = enumerate(zip(people.split(), _POSITIONS, strict=True), 1)
    roster = tuple(RosterSpec(f"{code}{n:03d}", person, position) for n, (person, position) in members)
    return SupplierSpec(code, name, lot, roster)


SUPPLIERS: Final[tuple[SupplierSpec, ...]] = (
    _supplier("LC", "岭川智能卡样例有限公司", 1, "梁样一 何样二 麦样三 关样四 冼样五 霍样六"),
    _supplier("YL", "云麓安全印制样例有限公司", 2, "邓样一 潘样二 区样三 黎样四 游样五 招样六"),
    _supplier("QT", "启汀卡务样例有限公司", 3, "简样一 孔样二 岑样三 庞样四 欧阳样五 劳样六"),
)
