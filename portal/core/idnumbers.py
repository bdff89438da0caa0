"""Numbers of persons: residents, Hong Kong, Macau and Taiwan residents, and foreigners (R-12).

Rules: GB 11643 with ISO 7064 MOD 11-2 for the 18-digit forms; the new permanent-resident number is 9,
two digits of province, three of country, birth date, serial, check. The old permanent-resident number
and the 18 characters given to other foreigners carry no check this module could rely on.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from enum import StrEnum

from stdnum.iso7064 import mod_11_2

from portal.core.excerpt import excerpt
from portal.core.problems import Problem

FIELD = "AAC002"
MALE, FEMALE = "1", "2"
OLDEST_AGE = 130

_MAINLAND = "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65"
PROVINCES = frozenset(_MAINLAND.split())
HMT_AREAS = frozenset({"810000", "820000", "830000"})
# ISO 3166-1 without China, and ICAO 9303 for stateless persons and refugees.
_COUNTRIES = """
    ABW AFG AGO AIA ALA ALB AND ARE ARG ARM ASM ATA ATF ATG AUS AUT AZE BDI BEL BEN BES BFA BGD BGR BHR
    BHS BIH BLM BLR BLZ BMU BOL BRA BRB BRN BTN BVT BWA CAF CAN CCK CHE CHL CIV CMR COD COG COK COL COM
    CPV CRI CUB CUW CXR CYM CYP CZE DEU DJI DMA DNK DOM DZA ECU EGY ERI ESH ESP EST ETH FIN FJI FLK FRA
    FRO FSM GAB GBR GEO GGY GHA GIB GIN GLP GMB GNB GNQ GRC GRD GRL GTM GUF GUM GUY HKG HMD HND HRV HTI
    HUN IDN IMN IND IOT IRL IRN IRQ ISL ISR ITA JAM JEY JOR JPN KAZ KEN KGZ KHM KIR KNA KOR KWT LAO LBN
    LBR LBY LCA LIE LKA LSO LTU LUX LVA MAC MAF MAR MCO MDA MDG MDV MEX MHL MKD MLI MLT MMR MNE MNG MNP
    MOZ MRT MSR MTQ MUS MWI MYS MYT NAM NCL NER NFK NGA NIC NIU NLD NOR NPL NRU NZL OMN PAK PAN PCN PER
    PHL PLW PNG POL PRI PRK PRT PRY PSE PYF QAT REU ROU RUS RWA SAU SDN SEN SGP SGS SHN SJM SLB SLE SLV
    SMR SOM SPM SRB SSD STP SUR SVK SVN SWE SWZ SXM SYC SYR TCA TCD TGO THA TJK TKL TKM TLS TON TTO TUN
    TUR TUV TWN TZA UGA UKR UMI URY USA UZB VAT VCT VEN VGB VIR VNM VUT WLF WSM YEM ZAF ZMB ZWE XXA XXB
    XXC
"""
COUNTRIES = frozenset(_COUNTRIES.split())

_TO_ASCII = str.maketrans({0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: " "})
_DIGITS = re.compile(r"\d{17}[\dX]", re.ASCII)
_OLD_PERMANENT = re.compile(r"[A-Z]{3}\d{12}", re.ASCII)
_FOREIGN = re.compile(r"[A-Z]{3}[A-Z0-9]{15}", re.ASCII)
_SCIENTIFIC = re.compile(r"\d(\.\d*)?E\+?\d{1,3}", re.ASCII)


class DocumentKind(StrEnum):
    """What kind of document a number belongs to, told by the number alone."""

    RESIDENT = "resident"
    HMT_RESIDENT = "hmt_resident"
    PERMANENT_RESIDENT = "permanent_resident"
    PERMANENT_RESIDENT_OLD = "permanent_resident_old"
    FOREIGNER = "foreigner"


_NUMBER_LIKE = re.compile(r"(?<!\d)\d{14,18}[\dXx](?!\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class IdNumber:
    """A number that passed every rule of its kind.

    `area` is the six-digit area for residents, the two-digit province for new permanent-resident numbers, the
    three-letter country for the other foreigners.
    """

    kind: DocumentKind
    value: str = field(repr=False)
    birth_on: dt.date | None = field(repr=False)
    sex: str | None = field(repr=False)
    area: str | None = field(repr=False)


def normalise_number(text: str) -> str:
    """Strip, turn full-width characters into ASCII, and write letters in upper case."""
    if not text.isascii():
        text = text.translate(_TO_ASCII)
    return text.strip().upper()


def index_form(text: str) -> str:
    """Return a number, card number or account as blind indexes take it: as `normalise_number`, no spaces."""
    value = normalise_number(text)
    return value if value.isalnum() else "".join(value.split())


def parse_number(text: str, *, today: dt.date, column: str = FIELD) -> IdNumber | Problem:
    """Tell kind, birth date, sex and area, or the first rule the number breaks."""
    value = normalise_number(text)
    if _DIGITS.fullmatch(value):
        return _parse_digits(value, today, column)
    if _OLD_PERMANENT.fullmatch(value):
        return _with_country(DocumentKind.PERMANENT_RESIDENT_OLD, value, column)
    if _FOREIGN.fullmatch(value):
        return _with_country(DocumentKind.FOREIGNER, value, column)
    return _malformed(value, column)


def mask_number(number: str) -> str:
    """Keep four characters at either end of a long number, none of a short one: `4406**********1234`."""
    if len(number) < 12:
        return "*" * len(number)
    return f"{number[:4]}{'*' * (len(number) - 8)}{number[-4:]}"


def without_numbers(text: str) -> str:
    """Mask whatever in a text has the form of a person's, a card's or an account's number (R-45)."""
    return _NUMBER_LIKE.sub(lambda found: mask_number(found[0]), text)


def _parse_digits(value: str, today: dt.date, column: str) -> IdNumber | Problem:
    if mod_11_2.checksum(value) != 1:
        return Problem(column, "number_checksum", "校验位相符（ISO 7064 MOD 11-2）", value)
    kind, area = _kind_and_area(value)
    if area is None:
        return Problem(column, "number_area", "有效的行政区划代码", value[:6])
    birth_on = _birth_on(value)
    if birth_on is None or not plausible_birth(birth_on, today):
        return Problem(column, "number_birth", "真实且不晚于今日的出生日期", value[6:14])
    sex = MALE if int(value[16]) % 2 else FEMALE
    return IdNumber(kind, value, birth_on, sex, area)


def _kind_and_area(value: str) -> tuple[DocumentKind, str | None]:
    if value[0] == "9":
        return DocumentKind.PERMANENT_RESIDENT, value[1:3] if value[1:3] in PROVINCES else None
    if value[:2] in ("81", "82", "83"):
        return DocumentKind.HMT_RESIDENT, value[:6] if value[:6] in HMT_AREAS else None
    return DocumentKind.RESIDENT, value[:6] if value[:2] in PROVINCES else None


def _birth_on(value: str) -> dt.date | None:
    try:
        return dt.date(int(value[6:10]), int(value[10:12]), int(value[12:14]))
    except ValueError:
        return None


def plausible_birth(birth_on: dt.date, today: dt.date) -> bool:
    """Refuse the future and ages nobody has reached."""
    return birth_on <= today and today.year - birth_on.year <= OLDEST_AGE


def _with_country(kind: DocumentKind, value: str, column: str) -> IdNumber | Problem:
    if value[:3] not in COUNTRIES:
        return Problem(column, "number_country", "三位字母国家代码（ISO 3166-1）", value[:3])
    return IdNumber(kind, value, None, None, value[:3])


def _malformed(value: str, column: str) -> Problem:
    if not value:
        return Problem(column, "number_missing", "社会保障号码")
    if _SCIENTIFIC.fullmatch(value):
        return Problem(column, "number_scientific", "文本格式的完整号码（被电子表格改成了科学计数）", value)
    if len(value) not in (15, 18):
        return Problem(
            column, "number_length", "18位（旧版永久居留证15位）", f"{len(value)}位：{excerpt(value)}"
        )
    return Problem(column, "number_format", "17位数字加校验位，或三位国家代码开头", excerpt(value))
