"""The test card: all of CR80 on both sides, a frame at the edge, marks in millimetres, the ribbon's colours.

Arrow and word of each side point to its upper edge: a printer that turns cards otherwise than asked shows it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from stations.printing.sides import BACK, FRONT

WIDTH, HEIGHT, DPI = 1011, 638, 300
MILLIMETRE = DPI / 25.4
COLOURS = ("#00aeef", "#ec008c", "#fff200", "#000000", "#ff0000", "#00a651", "#2e3192")
_WORDS = {FRONT: "FRONT", BACK: "BACK"}


def pictures(sides: Sequence[str]) -> list[bytes]:
    """Return a face of the test card for each side."""
    return [picture(side) for side in sides]


def picture(side: str = BACK) -> bytes:
    """Return a face as JPEG; a frame that is cut or away from the edge shows a wrong size."""
    face = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(face)
    draw.rectangle((0, 0, WIDTH - 1, HEIGHT - 1), outline="black", width=3)
    for number in range(1, int(WIDTH / MILLIMETRE)):
        length = 3 if number % 10 == 0 else 1.5
        at = round(number * MILLIMETRE)
        draw.line((at, 0, at, round(length * MILLIMETRE)), fill="black")
    _name(draw, side)
    width = (WIDTH - 160) // len(COLOURS)
    for number, colour in enumerate(COLOURS):
        left = 80 + number * width
        draw.rectangle((left, 180, left + width - 1, 360), fill=colour)
    for step in range(256):
        left = 80 + step * (WIDTH - 160) // 256
        draw.rectangle((left, 400, left + 4, 500), fill=(step, step, step))
    target = io.BytesIO()
    face.save(target, "JPEG", quality=95, dpi=(DPI, DPI))
    return target.getvalue()


def _name(draw: ImageDraw.ImageDraw, side: str) -> None:
    """Draw the arrow and which side this is, with the font that Pillow brings: the machine may have none."""
    draw.polygon([(80, 160), (140, 160), (110, 90)], fill="black")
    draw.text((160, 88), _WORDS[side], fill="black", font=ImageFont.load_default(72))
