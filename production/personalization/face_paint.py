"""The ground of a card side: gradient, fine waves and plain areas, painted once per renderer."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from production.personalization.face_template import MM_PER_INCH, FaceTemplate, Shape, Side

_SCALE = 3  # painted larger and reduced: smooth edges


def paint_ground(template: FaceTemplate, side: Side, dpi: int, *, preview: bool = False) -> Image.Image:
    """Return the side without any text; `preview` adds parts that stand for the blank's own body."""
    width, height = template.size_px(dpi)
    image = Image.new("RGB", (width * _SCALE, height * _SCALE), "#FFFFFF")
    draw = ImageDraw.Draw(image)
    for shape in side.shapes:
        if preview or not shape.preview:
            _PAINTERS[shape.kind](draw, shape, dpi * _SCALE / MM_PER_INCH)
    return image.reduce(_SCALE)


def _ground(draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    area = shape.area
    rows = round(area.height * scale)
    for y in range(rows + 1):
        red, green, blue = (
            round(a + (b - a) * y / rows) for a, b in zip(shape.colour, shape.to, strict=True)
        )
        draw.line((0, y, area.width * scale, y), fill=(red, green, blue))


def _waves(draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    area = shape.area
    steps = [area.x + step / 4 for step in range(int(area.width * 4) + 2)]
    for row in range(shape.count):
        phase = row * math.pi / shape.count
        points = [(x * scale, (area.y + area.height * _swing(x, phase)) * scale) for x in steps]
        draw.line(points, fill=shape.colour, width=max(1, round(shape.stroke * scale)), joint="curve")


def _swing(x: float, phase: float) -> float:
    """Return the height of a wave at x millimetres, between 0 and 1."""
    return 0.5 + 0.45 * math.sin(x / 13 + phase) * math.cos(x / 41 + phase)


def _bar(draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    draw.rectangle(_box(shape, scale), fill=shape.colour)


def _rounded(draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    draw.rounded_rectangle(_box(shape, scale), radius=shape.radius * scale, fill=shape.colour)


def _ring(draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    draw.ellipse(_box(shape, scale), outline=shape.colour, width=max(1, round(shape.stroke * scale)))


def _box(shape: Shape, scale: float) -> tuple[float, float, float, float]:
    area = shape.area
    return area.x * scale, area.y * scale, (area.x + area.width) * scale, (area.y + area.height) * scale


_PAINTERS = {"ground": _ground, "waves": _waves, "bar": _bar, "box": _rounded, "ring": _ring}
