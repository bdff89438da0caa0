"""The person and the card as personalization needs them: values only, none of them in `repr`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from portal.core.errors import InputRefusedError

RID = bytes.fromhex("D156000005")


class HolderRefusedError(InputRefusedError):
    """Values that cannot stand together on one card."""

    code = "holder_refused"


@dataclass(frozen=True, slots=True)
class CardHolder:
    """One person's values for chip and face; area codes have 6 digits.

    `sex` follows GB/T 2261.1 (1 male, 2 female), `ethnicity` GB/T 3304 (two digits). Optional values
    stay empty and leave their field in its initial state. `name` is already normalised
    (portal.core.names).
    """

    number: str = field(repr=False)
    name: str = field(repr=False)
    sex: str = field(repr=False)
    ethnicity: str = field(repr=False)
    birth_on: dt.date | None = field(repr=False)
    card_number: str = field(repr=False)
    issue_on: dt.date
    expires_on: dt.date
    area: str
    initialiser: str
    card_class: str = "1"
    birth_area: str = field(default="", repr=False)
    person_code: str = field(default="", repr=False)
    first_area: str = ""
    employer_name: str = field(default="", repr=False)
    employer_code: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.expires_on <= self.issue_on:
            raise HolderRefusedError(
                "卡有效期不晚于发卡日期", where="expires_on", expected=f"晚于 {self.issue_on}"
            )

    def texts(self) -> Mapping[str, str]:
        """Return the text of every profile source a holder has; the name is whole."""
        code = self.employer_code
        return {
            "card_class": self.card_class,
            "initialiser": self.initialiser,
            "issue_on": _compact(self.issue_on),
            "expires_on": _compact(self.expires_on),
            "card_number": self.card_number,
            "number": self.number,
            "name": self.name,
            "sex": self.sex,
            "ethnicity": self.ethnicity,
            "birth_area": self.birth_area,
            "birth_on": _compact(self.birth_on),
            "person_code": self.person_code,
            "first_area": self.first_area,
            "employer_name": self.employer_name,
            "employer_code": _organisation_code(code),
        }


def build_card_identifier(area: str, serial: bytes) -> bytes:
    """Return the 16-byte 卡识别码: city code (3), RID (5), chip serial (8).

    Assumption: the split is deduced from cards in use (serial 4 + 4 more); the check rule is not published.
    """
    if not (len(area) == 6 and area.isascii() and area.isdigit()) or len(serial) != 8:
        raise HolderRefusedError(
            "卡识别码的组成不对", expected="6 位区划代码和 8 字节序列号", got=f"{len(serial)} 字节"
        )
    return bytes.fromhex(area) + RID + serial


def _organisation_code(code: str) -> str:
    """Return what the chip has room for: positions 9–17 of a unified social credit code (GB 32100).

    Other employer codes longer than that stay off the chip; they are for sorting and lists only.
    """
    if len(code) == 18:
        return code[8:17]
    return code if len(code) <= 9 else ""


def _compact(day: dt.date | None) -> str:
    return f"{day.year:04d}{day.month:02d}{day.day:02d}" if day else ""
