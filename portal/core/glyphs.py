"""Which font can draw a character: a chain of fonts, so that a name is never printed as an empty box (R-17).

Coverage is a bit per code point (about 26 KB a font), read from the cmap tables alone.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import noto_cjk_sans_otc
import numpy as np
from fontTools.ttLib import TTFont

# Faces inside NotoSansCJK-Regular.ttc stand in the order JP, KR, SC, TC, HK.
NOTO_SC_INDEX = 2
FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
# Debian's fonts-babelstone-han and fonts-hanazono, in the order they are tried after Noto.
RARE_FONTS = ("BabelStoneHan.ttf", "HanaMinA.ttf", "HanaMinB.ttf")


@dataclass(frozen=True, slots=True)
class FontFile:
    """A font: its file, and the face's number where the file is a collection."""

    path: Path
    index: int = 0


class FontChain:
    """Fonts in order of preference."""

    def __init__(self, fonts: Sequence[FontFile]) -> None:
        self.fonts = tuple(fonts)
        self._coverage = [_bitmap(_ranges(font)) for font in self.fonts]
        self._union = functools.reduce(_either, self._coverage, b"")

    def covers(self, char: str) -> bool:
        """Tell whether any font draws this one character."""
        return _has(self._union, ord(char))

    def font_for(self, char: str) -> FontFile | None:
        """Return the first font that draws the character."""
        code = ord(char)
        for font, bitmap in zip(self.fonts, self._coverage, strict=True):
            if _has(bitmap, code):
                return font
        return None

    def missing(self, text: str) -> str:
        """Return the characters no font draws, each once, in order of appearance; spaces need no glyph."""
        union = self._union
        return "".join(dict.fromkeys(c for c in text if c != " " and not _has(union, ord(c))))


@functools.cache
def default_chain() -> FontChain:
    """Return this process's chain: the packaged Noto Sans CJK SC, then rare-character fonts if installed."""
    noto = FontFile(Path(str(noto_cjk_sans_otc.FONT_PATH)), NOTO_SC_INDEX)
    return FontChain([noto, *installed_rare_fonts()])


def installed_rare_fonts(folders: Iterable[Path] = FONT_FOLDERS) -> list[FontFile]:
    """Find the known rare-character fonts below these folders, in order of preference."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.ttf")):
            found.setdefault(path.name, path)
    return [FontFile(found[name]) for name in RARE_FONTS if name in found]


def _has(bitmap: bytes, code: int) -> bool:
    position = code >> 3
    return position < len(bitmap) and bool(bitmap[position] >> (code & 7) & 1)


def _either(left: bytes, right: bytes) -> bytes:
    short, long = sorted((left, right), key=len)
    return (int.from_bytes(short, "little") | int.from_bytes(long, "little")).to_bytes(len(long), "little")


def _bitmap(ranges: Sequence[tuple[int, int]]) -> bytes:
    """Set a bit per code point of the inclusive ranges."""
    flags = np.zeros(max((last for _, last in ranges), default=-1) + 1, dtype=np.uint8)
    for first, last in ranges:
        flags[first : last + 1] = 1
    return np.packbits(flags, bitorder="little").tobytes()


def _ranges(font: FontFile) -> list[tuple[int, int]]:
    """Read the code points a face maps to a glyph, from its cmap alone."""
    number = font.index if font.path.suffix.lower() in (".ttc", ".otc") else -1
    with TTFont(font.path, fontNumber=number, lazy=True) as face:
        raw: bytes = face.reader["cmap"]
        groups = _segmented_coverage(raw)
        return groups if groups is not None else [(code, code) for code in face.getBestCmap() or {}]


def _segmented_coverage(cmap: bytes) -> list[tuple[int, int]] | None:
    """Read the first format 12 subtable (OpenType `cmap`), or None where the face has none.

    fontTools would name every glyph first: seconds and tens of megabytes for a CJK face.
    """
    count = struct.unpack_from(">H", cmap, 2)[0]
    for _platform, _encoding, offset in struct.iter_unpack(">HHL", cmap[4 : 4 + 8 * count]):
        if struct.unpack_from(">H", cmap, offset)[0] == 12:
            groups = struct.unpack_from(">L", cmap, offset + 12)[0]
            rows = struct.iter_unpack(">LLL", cmap[offset + 16 : offset + 16 + 12 * groups])
            # Glyph 0 is the box itself.
            return [(first + (glyph == 0), last) for first, last, glyph in rows]
    return None
