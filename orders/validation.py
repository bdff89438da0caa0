"""Validate one row of a package: every problem of the row at once, or the record in normal form.

Plain values in, plain values out: no database, no settings, so that workers can run it on
whole chunks (R-8, R-9).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orders.dictionary import (
    CARD_KIND_LABELS,
    COLUMNS,
    DOCUMENT_TYPES,
    ETHNICITIES,
    ISSUE_KIND_LABELS,
    PHOTO_REQUIRED,
    ROW,
    SEXES,
    CardKind,
    Column,
    IssueKind,
)
from portal.core.excerpt import excerpt
from portal.core.idnumbers import DocumentKind, IdNumber, normalise_number, parse_number, plausible_birth
from portal.core.images import FIELD as PHOTO
from portal.core.images import PhotoRule, check_photo
from portal.core.names import FIELD as NAME
from portal.core.names import NAME_ROOM, Glyphs, NameTooLongError, check_name, has_han, normalise_name
from portal.core.problems import Problem

# Common practice (one letter and eight digits is one form of it), not the provincial rule: an assumption.
CARD_NUMBER = re.compile(r"[A-Z0-9]{9}", re.ASCII)
# Provinces announce issue dates a little ahead; a date further off is a slip.
ISSUE_AHEAD = dt.timedelta(days=60)

_DATE = re.compile(r"(\d{4})([-/.]?)(\d{2})\2(\d{2})", re.ASCII)
_AREA = re.compile(r"\d{6}", re.ASCII)
_SEQUENCE = re.compile(r"\d{1,9}", re.ASCII)
_NO_DATE = dt.date.min
# Senders write the word or the Chinese label.
_ISSUE_KINDS = {kind.value: kind for kind in IssueKind} | {
    label: kind for kind, label in ISSUE_KIND_LABELS.items()
}
_CARD_KINDS = {kind.value: kind for kind in CardKind} | {
    label: kind for kind, label in CARD_KIND_LABELS.items()
}

# As `csv.DictReader` gives it: surplus cells as a list under None, missing ones as None.
Row = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """What rows are held against: today, the programme's banks and places, the limits of photo and number.

    `bank_codes` maps AAE008 to the bank's key, `delivery_points` (bank key, branch) to the delivery
    point's key; an empty `area_codes` accepts every six-digit area, `fonts` None skips the glyph check.
    """

    today: dt.date
    bank_codes: Mapping[str, int]
    delivery_points: Mapping[tuple[int, str], int]
    photo: PhotoRule = field(default_factory=PhotoRule)
    fonts: Glyphs | None = None
    area_codes: frozenset[str] = frozenset()
    card_number: re.Pattern[str] = CARD_NUMBER


@dataclass(frozen=True, slots=True, repr=False)
class NormalisedRecord:
    """A row that passed every check, each value in its one spelling; its repr shows none of them."""

    seq: int
    number: str
    document_kind: DocumentKind
    document_type: str
    name: str
    sex: str
    ethnicity: str
    birth_on: dt.date
    area: str
    bank_id: int
    delivery_point_id: int
    employer_code: str
    employer_name: str
    issue_kind: IssueKind
    card_kind: CardKind
    card_number: str
    issue_on: dt.date
    expires_on: dt.date


@dataclass(frozen=True, slots=True, repr=False)
class Checked:
    """The outcome of one row: `values` exactly when there are no problems.

    `number` is the number as far as it could be read, for finding duplicates and for the return list.
    """

    values: NormalisedRecord | None
    problems: tuple[Problem, ...]
    number: str

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the problem codes, each once; they hold nothing personal."""
        return tuple(dict.fromkeys(problem.code for problem in self.problems))


def validate_row(row: Row, *, photo: bytes | None, rules: Rules) -> Checked:
    """Check a row as `csv.DictReader` gives it; hostile rows yield problems, never an exception."""
    check = _RowCheck(row, rules)
    values = check.record(photo)
    problems = tuple(check.problems)
    return Checked(None if problems else values, problems, check.number)


class _RowCheck:
    """One row on its way: its cleaned cells, and what was found so far.

    A check that fails notes the problem and returns an empty value, used only if there are no problems.
    """

    def __init__(self, row: Row, rules: Rules) -> None:
        self.rules = rules
        self.problems: list[Problem] = []
        self.cells = self._cells(row)
        self.number = normalise_number(str(row.get("AAC002") or "")[:64])

    def fail(self, column: str, code: str, expected: str, got: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(column, code, expected, excerpt(got)))

    def record(self, photo: bytes | None) -> NormalisedRecord:
        """Run every check; the result counts only while `problems` is empty."""
        identity = self._identity()
        bank_id = self._bank()
        card_kind = self._card_kind()
        issue_on = self._issue_on()
        self._photo(photo, card_kind)
        return NormalisedRecord(
            seq=self._sequence(),
            number=identity.value if identity else "",
            document_kind=identity.kind if identity else DocumentKind.RESIDENT,
            document_type=self._document_type(identity),
            name=self._name(identity),
            sex=self._sex(identity),
            ethnicity=self._ethnicity(identity),
            birth_on=self._birth_on(identity),
            area=self._area(),
            bank_id=bank_id,
            delivery_point_id=self._delivery_point(bank_id),
            employer_code=self.cells["employer_code"],
            employer_name=self.cells["employer_name"],
            issue_kind=self._issue_kind(),
            card_kind=card_kind or CardKind.FINISHED,
            card_number=self._card_number(),
            issue_on=issue_on,
            expires_on=self._expires_on(issue_on),
        )

    def _cells(self, row: Row) -> dict[str, str]:
        """Strip every known cell; report what is missing, too long or unprintable, and leave it empty."""
        extra = row.get(None)
        if extra:
            count = len(extra) if isinstance(extra, list) else 1
            self.fail(ROW, "row_too_long", f"{len(COLUMNS)}列", f"多出{count}列")
        cells = {}
        for column in COLUMNS:
            value = row.get(column.code)
            text = value.strip() if isinstance(value, str) else ""
            # Nearly every cell is plain; only the others are looked at one rule after the other.
            if not text or len(text) > column.max_length or not text.isprintable():
                text = self._cell(column, value)
            cells[column.code] = text
        return cells

    def _cell(self, column: Column, value: object) -> str:
        text = ("" if value is None else value if isinstance(value, str) else str(value)).strip()
        if not text:
            if column.required:
                self.fail(column.code, "value_missing", column.label)
            return ""
        if len(text) > column.max_length:
            self._too_long(column, text)
            return ""
        if column.code != NAME and not text.isprintable():
            self.fail(column.code, "value_control", "不含控制符和不可见字符", text)
            return ""
        return text

    def _too_long(self, column: Column, text: str) -> None:
        if column.code == NAME:
            self.fail(NAME, NameTooLongError.code, NAME_ROOM, text)
        else:
            self.fail(column.code, "value_too_long", f"不超过{column.max_length}字", text)

    def _sequence(self) -> int:
        text = self.cells["seq"]
        if _SEQUENCE.fullmatch(text):
            return int(text)
        if text:
            self.fail("seq", "sequence_format", "不超过9位的整数", text)
        return 0

    def _identity(self) -> IdNumber | None:
        text = self.cells["AAC002"]
        if not text:
            return None
        found = parse_number(text, today=self.rules.today)
        if isinstance(found, Problem):
            self.problems.append(found)
            return None
        return found

    def _name(self, identity: IdNumber | None) -> str:
        if not self.cells[NAME]:
            return ""
        name = normalise_name(self.cells[NAME])
        problem = check_name(name, self.rules.fonts)
        if problem:
            self.problems.append(problem)
        elif identity and identity.kind is DocumentKind.RESIDENT and not has_han(name):
            self.fail(NAME, "name_script", "居民身份证上的汉字姓名", name)
        return name

    def _sex(self, identity: IdNumber | None) -> str:
        text = self.cells["AAC004"]
        if text and text not in SEXES:
            self.fail("AAC004", "sex_unknown", "1男、2女、9未说明", text)
        elif text and identity and identity.sex and identity.sex != text:
            self.fail("AAC004", "sex_mismatch", "与社会保障号码一致的性别", f"{text}（{SEXES[text]}）")
        return text

    def _ethnicity(self, identity: IdNumber | None) -> str:
        code = self.cells["AAC005"]
        if not code:
            if identity and identity.kind is DocumentKind.RESIDENT:
                self.fail("AAC005", "value_missing", "民族代码（GB/T 3304）")
            return ""
        code = code.zfill(2)
        if code not in ETHNICITIES:
            self.fail("AAC005", "ethnicity_unknown", "01–56、97、98（GB/T 3304）", code)
        return code

    def _birth_on(self, identity: IdNumber | None) -> dt.date:
        birth_on = self._date("AAC006")
        if birth_on == _NO_DATE:
            return birth_on
        if identity and identity.birth_on:
            if identity.birth_on != birth_on:
                self.fail("AAC006", "birth_mismatch", "与社会保障号码一致的出生日期", self.cells["AAC006"])
        elif not plausible_birth(birth_on, self.rules.today):
            self.fail("AAC006", "birth_implausible", "不晚于今日的出生日期", self.cells["AAC006"])
        return birth_on

    def _document_type(self, identity: IdNumber | None) -> str:
        code = self.cells["AAC058"]
        if not code:
            return ""
        if code not in DOCUMENT_TYPES:
            self.fail("AAC058", "document_type_unknown", "、".join(DOCUMENT_TYPES), code)
        elif identity and identity.kind not in DOCUMENT_TYPES[code].kinds:
            self.fail(
                "AAC058",
                "document_type_mismatch",
                "与号码相符的证件类型",
                f"{code}（{DOCUMENT_TYPES[code].label}）",
            )
        return code

    def _area(self) -> str:
        code = self.cells["AAB301"]
        allowed = self.rules.area_codes
        if code and (not _AREA.fullmatch(code) or (allowed and code not in allowed)):
            self.fail("AAB301", "area_unknown", "本项目的六位行政区划代码", code)
        return code

    def _bank(self) -> int:
        code = self.cells["AAE008"]
        if not code:
            return 0
        bank_id = self.rules.bank_codes.get(code)
        if bank_id is None:
            self.fail("AAE008", "bank_unknown", "合作银行代码", code)
        return bank_id or 0

    def _delivery_point(self, bank_id: int) -> int:
        code = self.cells["branch"]
        if not (code and bank_id):
            return 0
        point_id = self.rules.delivery_points.get((bank_id, code))
        if point_id is None:
            self.fail("branch", "delivery_point_unknown", f"银行{self.cells['AAE008']}的网点代码", code)
        return point_id or 0

    def _issue_kind(self) -> IssueKind:
        text = self.cells["issue_kind"]
        kind = _ISSUE_KINDS.get(text)
        if text and kind is None:
            self.fail("issue_kind", "issue_kind_unknown", "、".join(IssueKind), text)
        return kind or IssueKind.FIRST

    def _card_kind(self) -> CardKind | None:
        text = self.cells["card_kind"]
        kind = _CARD_KINDS.get(text)
        if text and kind is None:
            self.fail("card_kind", "card_kind_unknown", "、".join(CardKind), text)
        return kind

    def _card_number(self) -> str:
        text = normalise_number(self.cells["AAZ500"])
        if text and not self.rules.card_number.fullmatch(text):
            self.fail("AAZ500", "card_number_format", "9位字母或数字", text)
        return text

    def _issue_on(self) -> dt.date:
        issue_on = self._date("issue_date")
        if issue_on > self.rules.today + ISSUE_AHEAD:
            self.fail(
                "issue_date", "issue_date_ahead", f"最迟今后{ISSUE_AHEAD.days}天", self.cells["issue_date"]
            )
        return issue_on

    def _expires_on(self, issue_on: dt.date) -> dt.date:
        expires_on = self._date("expiry_date")
        if expires_on != _NO_DATE and expires_on <= max(issue_on, self.rules.today):
            self.fail("expiry_date", "expiry_date_past", "晚于今日和发卡日期", self.cells["expiry_date"])
        return expires_on

    def _date(self, column: str) -> dt.date:
        """Read YYYYMMDD or YYYY-MM-DD."""
        text = self.cells[column]
        day = _read_date(text)
        if day is None and text:
            self.fail(column, "date_format", "YYYYMMDD 的真实日期", text)
        return day or _NO_DATE

    def _photo(self, photo: bytes | None, card_kind: CardKind | None) -> None:
        """Ask for a photo where the face shows one (R-17), and check whatever photo came."""
        if photo is not None:
            problem = check_photo(photo, self.rules.photo)
            if problem:
                self.problems.append(problem)
        elif card_kind in PHOTO_REQUIRED:
            self.fail(PHOTO, "photo_missing", "照片文件")


def _read_date(text: str) -> dt.date | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        return dt.date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None
