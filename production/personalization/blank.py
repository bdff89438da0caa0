"""What a blank card brings along: its chip serial, its answer to reset and the identifier made of them.

Assumption: a blank's serial is a prefix of the maker's lot (a letter, then up to five letters or digits) and
ten digits. Chip serial and card factor are eight bytes, four of the prefix and four of the number, so that no
two blanks share a factor and with it their keys (R-25). The interface bytes of the answer to reset are ours.
"""

from __future__ import annotations

import re

from portal.core.errors import InputRefusedError

MAX_NUMBER = 2**32 - 1
_PREFIX = re.compile(r"[A-Z][0-9A-Z]{0,5}")
_SERIAL = re.compile(r"([A-Z][0-9A-Z]{0,5})([0-9]{10})")
# ISO/IEC 7816-3: direct convention, TB1 = TC1 = 00, 13 historical bytes; the last 8 are the card factor.
_RESET = bytes.fromhex("3B6D0000" + "8153534320")


class BlankSerialError(InputRefusedError):
    """A serial number that no blank of ours can carry."""

    code = "blank_serial"


def check_prefix(prefix: str) -> str:
    """Return the prefix of a lot's serials, or refuse it."""
    if not _PREFIX.fullmatch(prefix):
        raise BlankSerialError(
            "序列号前缀不合规定",
            where="serial_prefix",
            expected="大写字母开头，1–6 位大写字母或数字",
            got=prefix,
        )
    return prefix


def serial_text(prefix: str, number: int) -> str:
    """Return the serial as it stands on reports: prefix and ten digits."""
    if not 0 <= number <= MAX_NUMBER:
        raise BlankSerialError(
            "序列号超出范围", where="first_serial", expected=f"0–{MAX_NUMBER}", got=str(number)
        )
    return f"{check_prefix(prefix)}{number:010d}"


def chip_serial(serial: str) -> bytes:
    """Return the 8 bytes in the chip: the prefix as a number of base 36, then the number."""
    match = _SERIAL.fullmatch(serial)
    if match is None or int(match[2]) > MAX_NUMBER:
        raise BlankSerialError("不是白卡序列号", expected="前缀加十位数字", got=serial[:32])
    return int(match[1], 36).to_bytes(4) + int(match[2]).to_bytes(4)


def answer_to_reset(serial: str) -> bytes:
    """Return the ATR; its last 8 bytes are the factor of the card's keys (facts of the card, section 3)."""
    return _RESET + chip_serial(serial)
