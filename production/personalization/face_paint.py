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
            _PAINTERS[shape.kind](image, draw, shape, dpi * _SCALE / MM_PER_INCH)
    return image.reduce(_SCALE)


def _ground(image: Image.Image, draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    last = image.height - 1
    for y in range(image.height):
        mix = [round(a + (b - a) * y / last) for a, b in zip(shape.colour, shape.to, strict=True)]
        draw.line((0, y, image.width, y), fill=(mix[0], mix[1], mix[2]))


def _waves(image: Image.Image, draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    area = shape.area
    for row in range(shape.count):
        phase = row * 2 * math.pi / (shape.count * 2)
        points = [
            (x * scale, (area.y + area.height * (0.5 + 0.45 * math.sin(x / 13 + phase) * math.cos(x / 41 + phase))) * scale)
            for x in (area.x + step * 0.25 for step in range(int(area.width * 4) + 2))
        ]
        draw.line(points, fill=shape.colour, width=max(1, round(shape.stroke * scale)), joint="curve")


def _bar(image: Image.Image, draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    draw.rectangle(_box(shape, scale), fill=shape.colour)


def _rounded(image: Image.Image, draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    draw.rounded_rectangle(_box(shape, scale), radius=shape.radius * scale, fill=shape.colour)


def _ring(image: Image.Image, draw: ImageDraw.ImageDraw, shape: Shape, scale: float) -> None:
    draw.ellipse(_box(shape, scale), outline=shape.colour, width=max(1, round(shape.stroke * scale)))


def _box(shape: Shape, scale: float) -> tuple[float, float, float, float]:
    area = shape.area
    return area.x * scale, area.y * scale, (area.x + area.width) * scale, (area.y + area.height) * scale


_PAINTERS = {"ground": _ground, "waves": _waves, "bar": _bar, "box": _rounded, "ring": _ring}
