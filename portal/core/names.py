"""Names of holders: one spelling for each, the bytes a chip has room for, and what cannot be printed.

Chip space is 30 bytes (tag 09) and 20 bytes (tag 4E) of GB 18030; no character may straddle the two
(R-12, R-17).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Protocol

from portal.core.errors import InputRefusedError
from portal.core.excerpt import excerpt
from portal.core.problems import Problem

FIELD = "AAC003"
TAG_09_BYTES: Final = 30
TAG_4E_BYTES: Final = 20
NAME_BYTES: Final = TAG_09_BYTES + TAG_4E_BYTES
SEPARATOR = "\u00b7"
NAME_ROOM = f"不超过{NAME_BYTES}字节（GB 18030，第30、31字节间不拆字）"

# GB 18030-2022 gave 18 two-byte codes assigned characters instead of private use ones, swapping positions.
_SWAPPED = {
    **{0xE78D + i: code for i, code in enumerate((0xFE10, 0xFE12, 0xFE11, *range(0xFE13, 0xFE1A)))},
    0xE81E: 0x9FB4,
    0xE826: 0x9FB5,
    0xE82B: 0x9FB6,
    0xE82C: 0x9FB7,
    0xE832: 0x9FB8,
    0xE843: 0x9FB9,
    0xE854: 0x9FBA,
    0xE864: 0x9FBB,
}
# Six more were later given four-byte codes of Extension B; their two-byte codes are still met in old data.
_EXTENSION_B = {
    0xE816: 0x20087,
    0xE817: 0x20089,
    0xE818: 0x200CC,
    0xE831: 0x215D7,
    0xE83B: 0x2298F,
    0xE855: 0x241FE,
}


def _gbk_private() -> dict[int, int]:
    """Map U+E815…U+E864, where GBK put FE50…FEA0, to the characters GB 18030 gives those codes today."""
    trails = [*range(0x50, 0x7F), *range(0x80, 0xA1)]
    found = {0xE815 + i: ord(bytes((0xFE, trail)).decode("gb18030")) for i, trail in enumerate(trails)}
    return {private: code for private, code in found.items() if not 0xE000 <= code <= 0xF8FF}


_FROM_PRIVATE = _gbk_private() | {0xE7C7: 0x1E3F} | _EXTENSION_B | _SWAPPED
_TO_CODEC = {assigned: private for private, assigned in _SWAPPED.items()}
_FULL_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20}
_BULLETS = dict.fromkeys(map(ord, "\u2022\u2027\u30fb\uff65\u2219\u22c5\u0387\u2024"), SEPARATOR)
_NORMAL = _FROM_PRIVATE | _FULL_WIDTH | _BULLETS

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_ANY_HAN = re.compile(f"[{_HAN}]")
_PLAIN_HAN = re.compile("[\u4e00-\u9fa5]{1,25}")
_HAN_DOT = re.compile(f"(?<=[{_HAN}]) ?\\. ?(?=[{_HAN}])")
_HAN_SPACE = re.compile(f"(?<=[{_HAN}{SEPARATOR}]) (?=[{_HAN}{SEPARATOR}])")
_SPACES = re.compile("[ \u00a0\u2000-\u200a\u202f\u205f]+")
_HAN_PUNCTUATION = frozenset(f"{SEPARATOR} -'\u2019")
_LATIN_PUNCTUATION = _HAN_PUNCTUATION | frozenset(".,")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Glyphs(Protocol):
    """What this module asks of a chain of fonts."""

    def missing(self, text: str) -> str:
        """Return the characters of `text` no font can draw."""
        ...


class NameTooLongError(InputRefusedError):
    """The name does not fit the chip's two name fields."""

    code = "name_too_long"


def encode_gb18030(text: str) -> bytes:
    """Encode by GB 18030-2022, newer than Python's codec; raise UnicodeEncodeError on a lone surrogate."""
    return text.translate(_TO_CODEC).encode("gb18030")


def decode_gb18030(raw: bytes) -> str:
    """Decode by GB 18030-2022, without private use characters where a standard one exists."""
    return raw.decode("gb18030").translate(_FROM_PRIVATE)


def normalise_name(name: str) -> str:
    """Bring a name to the one spelling used for matching, chip and face.

    Full-width Latin becomes ASCII, every separator of a Chinese name U+00B7, private use code points their
    standard characters; spaces collapse, and vanish inside Chinese. Latin letters keep their case.
    """
    if _PLAIN_HAN.fullmatch(name):
        return name
    text = unicodedata.normalize("NFC", name.translate(_NORMAL))
    text = _SPACES.sub(" ", text).strip(" ")
    if _ANY_HAN.search(text):
        text = _HAN_SPACE.sub("", _HAN_DOT.sub(SEPARATOR, text))
    return text


def split_name(name: str) -> tuple[bytes, bytes]:
    """Return tag 09 (≤ 30 bytes) and tag 4E (≤ 20 bytes), unpadded; raise NameTooLongError."""
    raw = encode_gb18030(name[: NAME_BYTES + 1])
    if len(raw) <= TAG_09_BYTES:
        return raw, b""
    cut = _cut(name)
    first, second = encode_gb18030(name[:cut]), encode_gb18030(name[cut : cut + TAG_4E_BYTES + 1])
    if len(second) > TAG_4E_BYTES:
        raise NameTooLongError("姓名超出芯片容量", expected=NAME_ROOM, got=f"{len(name)}字")
    return first, second


def _cut(name: str) -> int:
    """Count the leading characters that fit into tag 09 whole."""
    used = 0
    for index, char in enumerate(name):
        used += len(encode_gb18030(char))
        if used > TAG_09_BYTES:
            return index
    return len(name)


def check_name(name: str, glyphs: Glyphs | None = None, *, column: str = FIELD) -> Problem | None:
    """Find the first thing that keeps a normalised name off the card, without ever printing a box (R-17)."""
    if not name:
        return Problem(column, "name_missing", "姓名")
    if _PLAIN_HAN.fullmatch(name):
        return _check_glyphs(name, glyphs, column)
    return (
        _check_invisible(name[: NAME_BYTES + 1], column)
        or _check_length(name, column)
        or _check_characters(name, column)
        or _check_glyphs(name, glyphs, column)
    )


def _check_invisible(name: str, column: str) -> Problem | None:
    # Han extensions younger than this Python's Unicode tables count as unassigned: the fonts decide on those.
    bad = [c for c in name if unicodedata.category(c) in _INVISIBLE and not _ANY_HAN.match(c)]
    if not bad:
        return None
    return Problem(column, "name_control", "不含控制符、不可见字符、私用区字符", excerpt("".join(bad)))


def _check_length(name: str, column: str) -> Problem | None:
    try:
        split_name(name)
    except NameTooLongError as error:
        return Problem(column, error.code, error.expected, f"{_byte_length(name)}字节：{excerpt(name)}")
    return None


def _byte_length(name: str) -> int:
    return len(name.translate(_TO_CODEC).encode("gb18030", "replace"))


def _check_characters(name: str, column: str) -> Problem | None:
    """Allow letters of any script and the marks that occur in names; digits, formulas and markup fail."""
    allowed = _HAN_PUNCTUATION if has_han(name) else _LATIN_PUNCTUATION
    wrong = SEPARATOR * 2 in name or any(not (_is_letter(c) or c in allowed) for c in name)
    if wrong or not _is_letter(name[0]) or name[-1] in f"{SEPARATOR}-,":
        return Problem(column, "name_symbol", "只含文字和间隔号·", excerpt(name))
    return None


def _is_letter(char: str) -> bool:
    return char.isalpha() or _ANY_HAN.match(char) is not None


def _check_glyphs(name: str, glyphs: Glyphs | None, column: str) -> Problem | None:
    absent = glyphs.missing(name) if glyphs else ""
    if not absent:
        return None
    codes = " ".join(f"{c}(U+{ord(c):04X})" for c in absent[:5])
    return Problem(column, "name_no_glyph", "字库中有的字", codes)


def has_han(name: str) -> bool:
    """Tell whether any character is a Chinese one; foreigners' names may have none (R-12)."""
    return _ANY_HAN.search(name) is not None


def mask_name(name: str) -> str:
    """Hide all but the ends: `张*三`, `王*`, `*` for a single character."""
    if len(name) < 3:
        return f"{name[:1]}*" if len(name) == 2 else "*" * len(name)
    return f"{name[0]}{'*' * (len(name) - 2)}{name[-1]}"
