"""Amounts in yuan as Decimal, never float: rounding to fen, reading, and the two ways of writing them."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

from portal.core.errors import InputRefusedError

FEN = Decimal("0.01")
WAN = 10**4
YI = 10**8
CAPITAL_LIMIT = 10**12
_DIGITS = "零壹贰叁肆伍陆柒捌玖"
_PLACES = ("", "拾", "佰", "仟")
_AMOUNT = re.compile(r"([+-]?)[¥￥]?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,15})(\.[0-9]{1,2})?元?", re.ASCII)


class AmountRefusedError(InputRefusedError):
    """Text that is no amount of yuan with at most two decimals."""

    code = "amount_refused"


def to_fen(amount: Decimal | int) -> Decimal:
    """Round an amount of yuan half up to whole fen; floats are a programming error."""
    if isinstance(amount, float):
        raise TypeError("money is Decimal, not float")
    return Decimal(amount).quantize(FEN, rounding=ROUND_HALF_UP)


def format_yuan(amount: Decimal | int) -> str:
    """Write ¥13,750,000.00; a negative amount as -¥1.00."""
    fen = to_fen(amount)
    return f"{'-' if fen < 0 else ''}¥{abs(fen):,.2f}"


def parse_yuan(text: str) -> Decimal:
    """Read an amount as people write it: ¥ and thousands commas optional, two decimals at most."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise AmountRefusedError("金额无法识别", expected="例如 13,750,000.00", got=text.strip()[:40])
    sign, whole, decimals = match.groups()
    return to_fen(Decimal(f"{sign}{whole.replace(',', '')}{decimals or ''}"))


def capital_yuan(amount: Decimal | int) -> str:
    """Write an amount in capital characters as invoices and cheques carry it: 壹仟叁佰柒拾伍万元整.

    After 《正确填写票据和结算凭证的基本规定》 (银发〔1997〕393号); where it allows a 零 or none, this follows
    its shorter examples within the decimals and its fuller ones inside the whole yuan.
    """
    fen = to_fen(amount)
    whole, cents = divmod(int(abs(fen) * 100), 100)
    if whole >= CAPITAL_LIMIT:
        raise AmountRefusedError("金额过大，无法写成大写", expected="小于一万亿元", got=format_yuan(fen))
    sign = "负" if fen < 0 else ""
    return sign + _capital_whole(whole, cents) + _capital_cents(whole, cents)


def _capital_whole(whole: int, cents: int) -> str:
    if whole:
        return _capital(whole) + "元"
    return "" if cents else "零元"


def _capital_cents(whole: int, cents: int) -> str:
    tenths, hundredths = divmod(cents, 10)
    if not cents:
        return "整"
    text = f"{_DIGITS[tenths]}角" if tenths else ("零" if whole else "")
    return text + (f"{_DIGITS[hundredths]}分" if hundredths else "整")


def _capital(number: int) -> str:
    """Write a positive whole number below 10^12, splitting at 亿 and 万."""
    for size, unit in ((YI, "亿"), (WAN, "万")):
        if number >= size:
            upper, lower = divmod(number, size)
            return _capital(upper) + unit + _capital_rest(upper, lower, size)
    return _capital_group(number)


def _capital_rest(upper: int, lower: int, size: int) -> str:
    if not lower:
        return ""
    gap = lower < size // 10 or upper % 10 == 0
    return ("零" if gap else "") + _capital(lower)


def _capital_group(number: int) -> str:
    """Write 1…9999; a run of zeros between digits is one 零."""
    text, zero = "", False
    for place in (3, 2, 1, 0):
        digit = number // 10**place % 10
        if digit:
            text += ("零" if zero and text else "") + _DIGITS[digit] + _PLACES[place]
        zero = digit == 0
    return text
