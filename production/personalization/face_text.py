"""Text on the card face: glyphs kept in bounded memory; fitting shrinks and wraps but never cuts (R-17).

One layout engine is fixed (Pillow's basic layout): every glyph stands on a whole pixel, so a glyph
drawn once can be pasted again and the picture equals the one drawn anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from portal.core.errors import InputRefusedError
from portal.core.glyphs import FontFile
from production.personalization.face_template import MM_PER_INCH, Colour, Label, Value, pixels

POINTS_PER_INCH = 72
# Top of a CJK em box to its baseline (OpenType `idtp` of the ideographic em box in the fonts of the chain).
ASCENT = 0.88
SMALLEST_PT = 4.0
STEP_PT = 0.25
# Below this part of its size a text goes on two lines instead of shrinking further.
ONE_LINE_SHRINK = 0.75
LINE_PITCH = 1.08
CACHE_BYTES = 16 * 1024 * 1024
_ENTRY_COST = 600  # Python objects around a mask, measured
_FONTS = 48
_BREAK_AFTER = " ·-/、"


class GlyphMissingError(InputRefusedError):
    """No font of the chain draws a character; the card stops, a box is never printed."""

    code = "glyph_missing"


class FaceTextError(InputRefusedError):
    """A text that does not fit its place even on two lines at the smallest size."""

    code = "face_text"


class Fonts(Protocol):
    """What this module asks of portal.core.glyphs.FontChain."""

    def font_for(self, char: str) -> FontFile | None:
        """Return the first font that draws the character."""
        ...


@dataclass(frozen=True, slots=True)
class Glyph:
    """A drawn character: mask with its offset from the pen, and how far the pen moves, in pixels."""

    mask: np.ndarray | None
    left: int
    top: int
    advance: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text with its place in pixels; `size` is the pixels of an em."""

    text: str
    x: int
    baseline: int
    size: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Ink:
    """A drawn line: mask, place of its corner in pixels of the side, colour."""

    mask: Image.Image
    left: int
    top: int
    colour: Colour

    @property
    def bottom(self) -> int:
        """Return the first pixel row below it."""
        return self.top + self.mask.height

    def paste(self, image: Image.Image, top: int = 0) -> None:
        """Draw it onto an RGB picture that begins at pixel row `top` of the side."""
        image.paste(self.colour, (self.left, self.top - top), self.mask)


class GlyphCache:
    """Masks of the characters used last, within a number of bytes; one per process and renderer."""

    def __init__(self, fonts: Fonts, limit: int = CACHE_BYTES) -> None:
        self._fonts, self._limit = fonts, limit
        self._glyphs: OrderedDict[tuple[str, float], Glyph] = OrderedDict()
        self._faces: OrderedDict[tuple[FontFile, float], ImageFont.FreeTypeFont] = OrderedDict()
        self.used_bytes = 0

    def glyph(self, char: str, size: float) -> Glyph:
        """Return the character at a size in pixels; raise GlyphMissingError."""
        key = (char, size)
        found = self._glyphs.get(key)
        if found is None:
            found = self._glyphs[key] = _draw(char, self._face(char, size))
            self.used_bytes += _cost(found)
            self._shrink()
        else:
            self._glyphs.move_to_end(key)
        return found

    def width(self, text: str, size: float) -> float:
        """Return the pixels the pen moves over the text."""
        return sum(self.glyph(char, size).advance for char in text)

    def ink(self, line: Line) -> Ink | None:
        """Return the line drawn, nothing where it has only spaces; one mask is pasted faster than many."""
        placed: list[tuple[int, int, np.ndarray]] = []
        pen = float(line.x)
        for char in line.text:
            glyph = self.glyph(char, line.size)
            if glyph.mask is not None:
                placed.append((round(pen) + glyph.left, line.baseline + glyph.top, glyph.mask))
            pen += glyph.advance
        return _joined(placed, line.colour) if placed else None

    def _face(self, char: str, size: float) -> ImageFont.FreeTypeFont:
        file = self._fonts.font_for(char)
        if file is None:
            raise GlyphMissingError("字库中没有这个字，不能制卡", got=f"U+{ord(char):04X}")
        key = (file, size)
        face = self._faces.get(key)
        if face is None:
            face = self._faces[key] = open_face(file, size)
            if len(self._faces) > _FONTS:
                self._faces.popitem(last=False)
        else:
            self._faces.move_to_end(key)
        return face

    def _shrink(self) -> None:
        while self.used_bytes > self._limit and len(self._glyphs) > 1:
            _, dropped = self._glyphs.popitem(last=False)
            self.used_bytes -= _cost(dropped)


def open_face(file: FontFile, size: float) -> ImageFont.FreeTypeFont:
    """Open a font at a size in pixels with the one layout engine."""
    return ImageFont.truetype(str(file.path), size, index=file.index, layout_engine=ImageFont.Layout.BASIC)


def em_pixels(points: float, dpi: int) -> float:
    """Return the pixels of an em."""
    return points * dpi / POINTS_PER_INCH


def place_label(label: Label, dpi: int) -> Line:
    """Return a fixed text at its size."""
    top = label.y + ASCENT * label.size * MM_PER_INCH / POINTS_PER_INCH
    return Line(label.text, pixels(label.x, dpi), pixels(top, dpi), em_pixels(label.size, dpi), label.colour)


def place_value(text: str, value: Value, cache: GlyphCache, dpi: int) -> list[Line]:
    """Fit a text: as it is, smaller, then on two lines; raise FaceTextError rather than cut it."""
    room = value.area.width * dpi / MM_PER_INCH
    size = _fit([text], value.size, value.size * ONE_LINE_SHRINK, room, cache, dpi)
    if size:
        return [_line(text, value, size, value.area.y + ASCENT * _mm(value.size), dpi)]
    tallest = value.area.height / (2 * LINE_PITCH) * POINTS_PER_INCH / MM_PER_INCH
    halves = _halves(text, em_pixels(value.size, dpi), cache)
    size = _fit(halves, min(value.size, tallest), SMALLEST_PT, room, cache, dpi)
    if not size:
        raise FaceTextError("内容在卡面上放不下", where=value.key, got=f"{len(text)} 字")
    pitch = LINE_PITCH * _mm(size)
    first = value.area.y + _mm(value.size) / 2 - pitch + ASCENT * _mm(size) + (pitch - _mm(size)) / 2
    return [_line(half, value, size, first + pitch * row, dpi) for row, half in enumerate(halves)]


def _fit(
    texts: list[str], largest: float, smallest: float, room: float, cache: GlyphCache, dpi: int
) -> float:
    """Return the largest size in quarter points at which every text fits, or 0."""
    size = largest
    while size >= smallest - 1e-9:
        widest = max(cache.width(text, em_pixels(size, dpi)) for text in texts)
        if widest <= room:
            return size
        # Widths grow with the size, so everything above this estimate is too wide as well.
        estimate = size * room / widest
        size = min(size - STEP_PT, (estimate // STEP_PT + 1) * STEP_PT)
    return 0.0


def _halves(text: str, size: float, cache: GlyphCache) -> list[str]:
    """Split in two where the wider half is narrowest; between words where there is a choice."""
    places = [i for i in range(1, len(text)) if text[i - 1] in _BREAK_AFTER]
    places = places or list(range(1, len(text)))
    if not places:
        return [text, ""]
    cut = min(places, key=lambda i: max(cache.width(text[:i], size), cache.width(text[i:], size)))
    return [text[:cut].rstrip(), text[cut:].lstrip()]


def _line(text: str, value: Value, size: float, baseline: float, dpi: int) -> Line:
    return Line(text, pixels(value.area.x, dpi), pixels(baseline, dpi), em_pixels(size, dpi), value.colour)


def _mm(points: float) -> float:
    return points * MM_PER_INCH / POINTS_PER_INCH


def _draw(char: str, face: ImageFont.FreeTypeFont) -> Glyph:
    left, top, right, bottom = (int(edge) for edge in face.getbbox(char, anchor="ls"))
    advance = face.getlength(char)
    if right <= left or bottom <= top:
        return Glyph(None, 0, 0, advance)
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), char, fill=255, font=face, anchor="ls")
    return Glyph(np.asarray(mask), left, top, advance)


def _joined(placed: Sequence[tuple[int, int, np.ndarray]], colour: Colour) -> Ink:
    """Join masks; where two overlap the stronger counts, as in Pillow's own lines."""
    left, top = min(x for x, _, _ in placed), min(y for _, y, _ in placed)
    right = max(x + mask.shape[1] for x, _, mask in placed)
    bottom = max(y + mask.shape[0] for _, y, mask in placed)
    joined = np.zeros((bottom - top, right - left), dtype=np.uint8)
    for x, y, mask in placed:
        part = joined[y - top : y - top + mask.shape[0], x - left : x - left + mask.shape[1]]
        np.maximum(part, mask, out=part)
    return Ink(Image.fromarray(joined), left, top, colour)


def _cost(glyph: Glyph) -> int:
    return _ENTRY_COST + (glyph.mask.size if glyph.mask is not None else 0)
