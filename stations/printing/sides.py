"""Which sides a job prints: both in one job, so that no card is turned or confused in between (R-17)."""

from __future__ import annotations

from portal.core.errors import InputRefusedError
from stations.printing.codec import Attributes
from stations.printing.printer import PrinterError

FRONT, BACK = "front", "back"
ONE, LONG_EDGE, SHORT_EDGE = "one-sided", "two-sided-long-edge", "two-sided-short-edge"
BOTH = 2


class SidesRefusedError(PrinterError):
    """The printer does not turn cards over, and nobody is asked to do it by hand."""

    code = "printer_sides"


class SideOrderError(InputRefusedError):
    """An order to print that names no side, an unknown one, or one twice."""

    code = "print_order"


def checked_sides(sides: object) -> tuple[str, ...]:
    """Return the sides of an order, the front first, as pages follow each other; raise SideOrderError."""
    if sides in ([FRONT, BACK], [BACK], [FRONT]) and isinstance(sides, list):
        return tuple(sides)
    raise SideOrderError("打印指令不合要求", expected="front、back", got=str(sides)[:40])


def turns_over(found: Attributes) -> bool:
    """Say whether the printer prints both sides of a card by itself."""
    return bool({LONG_EDGE, SHORT_EDGE} & _offered(found))


def sides_of(found: Attributes, count: int) -> str:
    """Return the `sides` keyword for so many faces (RFC 8011 §5.2.8); raise SidesRefusedError."""
    if count < BOTH:
        return ONE
    for keyword in (LONG_EDGE, SHORT_EDGE):
        if keyword in _offered(found):
            return keyword
    raise SidesRefusedError(
        "打印机不能两面打印",
        expected="装有翻卡器的打印机；正面已预印的白卡，请在制卡点设置中注明",
        got="、".join(sorted(_offered(found))) or ONE,
    )


def _offered(found: Attributes) -> set[str]:
    attribute = found.get("sides-supported")
    return {value for value in attribute.values if isinstance(value, str)} if attribute else set()
