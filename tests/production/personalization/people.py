"""Generated holders for the tests of personalization; nobody real."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from production.personalization.holder import CardHolder, build_card_identifier

IDENTIFIER = build_card_identifier("440600", bytes.fromhex("0102030405060708"))

HOLDER = CardHolder(
    number="440601199001011234",
    name="张伟",
    sex="1",
    ethnicity="01",
    birth_on=dt.date(1990, 1, 1),
    card_number="A12345678",
    issue_on=dt.date(2026, 10, 12),
    expires_on=dt.date(2036, 10, 12),
    area="440600",
    initialiser="440600000000000000000001",
    birth_area="440601",
    employer_name="佛山市测试有限公司",
    employer_code="91440600MA4ABCDE1X",
)


def holder(**changes: Any) -> CardHolder:
    """Return the holder with some values changed."""
    return dataclasses.replace(HOLDER, **changes)
