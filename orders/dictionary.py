"""The columns of `records.csv` by data-dictionary code, and the values their codes may take.

AAC058 codes and the kinds of number they go with are an assumption taken from common practice, not from the
provincial dictionary itself: they are data, to be replaced when that is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from portal.core.excerpt import excerpt
from portal.core.idnumbers import DocumentKind
from portal.core.problems import Problem

HEADER: Final = "header"
ROW: Final = "row"


class IssueKind(StrEnum):
    """Why a card is made (R-13)."""

    FIRST = "first"
    REPLACEMENT = "replacement"
    RENEWAL = "renewal"
    WARRANTY = "warranty"
    REMAKE = "remake"


class CardKind(StrEnum):
    """What kind of card is made (R-4, R-13)."""

    FINISHED = "finished"
    PREMADE = "premade"
    TEST = "test"
    SAMPLE = "sample"


ISSUE_KIND_LABELS: Final = {
    IssueKind.FIRST: "首发",
    IssueKind.REPLACEMENT: "补卡",
    IssueKind.RENEWAL: "换卡",
    IssueKind.WARRANTY: "质保",
    IssueKind.REMAKE: "重制",
}
CARD_KIND_LABELS: Final = {
    CardKind.FINISHED: "成品卡",
    CardKind.PREMADE: "预制卡",
    CardKind.TEST: "测试卡",
    CardKind.SAMPLE: "样卡",
}
# Only a finished card has its face personalized.
PHOTO_REQUIRED: Final = frozenset({CardKind.FINISHED})

SEXES: Final = {"1": "男", "2": "女", "9": "未说明"}


@dataclass(frozen=True, slots=True)
class DocumentType:
    """A value of AAC058: its label, and the kinds of number that go with it."""

    label: str
    kinds: frozenset[DocumentKind]


_HMT = frozenset({DocumentKind.HMT_RESIDENT})
_FOREIGNER = frozenset({DocumentKind.FOREIGNER})
_PERMANENT = frozenset({DocumentKind.PERMANENT_RESIDENT, DocumentKind.PERMANENT_RESIDENT_OLD})
DOCUMENT_TYPES: Final = {
    "01": DocumentType("居民身份证（户口簿）", frozenset({DocumentKind.RESIDENT})),
    "04": DocumentType("港澳居民来往内地通行证", _HMT),
    "06": DocumentType("台湾居民来往大陆通行证", _HMT),
    "07": DocumentType("外国人永久居留身份证", _PERMANENT),
    "08": DocumentType("外国人护照", _FOREIGNER),
    "11": DocumentType("外国人工作许可证", _FOREIGNER),
    "16": DocumentType("港澳台居民居住证", _HMT),
}

_PEOPLES = (
    "汉 蒙古 回 藏 维吾尔 苗 彝 壮 布依 朝鲜 满 侗 瑶 白 土家 哈尼 哈萨克 傣 黎 傈僳"
    " 佤 畲 高山 拉祜 水 东乡 纳西 景颇 柯尔克孜"
    " 土 达斡尔 仫佬 羌 布朗 撒拉 毛南 仡佬 锡伯 阿昌 普米 塔吉克"
    " 怒 乌孜别克 俄罗斯 鄂温克 德昂 保安 裕固 京 塔塔尔 独龙 鄂伦春 赫哲 门巴 珞巴 基诺"
)
# GB/T 3304.
ETHNICITIES: Final = {f"{i:02}": f"{name}族" for i, name in enumerate(_PEOPLES.split(), 1)} | {
    "97": "其他",
    "98": "外国血统中国籍人士",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its code, label, whether a value must stand in it, and its most characters."""

    code: str
    label: str
    required: bool
    max_length: int


COLUMNS: Final = (
    Column("seq", "序号", True, 9),
    Column("AAC002", "社会保障号码", True, 40),
    Column("AAC003", "姓名", True, 200),
    Column("AAC004", "性别", True, 1),
    Column("AAC005", "民族", False, 2),
    Column("AAC006", "出生日期", True, 10),
    Column("AAC058", "证件类型", True, 2),
    Column("AAB301", "行政区划代码", True, 6),
    Column("AAE008", "服务银行", True, 20),
    Column("branch", "网点代码", True, 32),
    Column("employer_code", "单位编号", False, 32),
    Column("employer_name", "单位名称", False, 100),
    Column("issue_kind", "制卡类型", True, 20),
    Column("card_kind", "卡种", True, 20),
    Column("AAZ500", "社会保障卡号", True, 20),
    Column("issue_date", "发卡日期", True, 10),
    Column("expiry_date", "卡有效期", True, 10),
)
COLUMN_CODES: Final = tuple(column.code for column in COLUMNS)
LABELS: Final = {column.code: column.label for column in COLUMNS} | {
    "photo": "照片",
    ROW: "整行",
    HEADER: "表头",
}


def check_header(header: Sequence[str | None]) -> tuple[Problem, ...]:
    """Name every column that is missing or stands twice; columns of other names are ignored."""
    missing = [code for code in COLUMN_CODES if code not in header]
    doubled = [code for code in COLUMN_CODES if header.count(code) > 1]
    found = excerpt(",".join(str(name) for name in header[: len(COLUMNS) + 1]))
    return (
        *(Problem(HEADER, "column_missing", f"{code}（{LABELS[code]}）", found) for code in missing),
        *(Problem(HEADER, "column_doubled", f"{code} 只出现一次", found) for code in doubled),
    )
