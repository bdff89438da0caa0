"""Face templates: where everything stands on the card, in millimetres, as data per issuer (R-17).

The official drawing was not at hand; what a template assumes stands in its `assumption`.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from portal.core.errors import PortalError
from production.personalization.profile_table import Table, take

VALUE_KEYS = frozenset(
    {"name", "number", "card_number", "issue_month", "issuer", "bank_account", "bank_name"}
)
SHAPES = frozenset({"ground", "waves", "bar", "box", "ring"})
MM_PER_INCH = 25.4
_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_COLOUR = re.compile(r"#[0-9A-F]{6}")


class FaceTemplateError(PortalError):
    """A face template that cannot be read or puts something off the card."""

    code = "face_template"


Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle in millimetres."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Shape:
    """A part of the ground; `to` is the lower colour of a gradient, `preview` parts are never printed."""

    kind: str
    area: Area
    colour: Colour
    to: Colour
    stroke: float
    radius: float
    count: int
    preview: bool


@dataclass(frozen=True, slots=True)
class Label:
    """A fixed text; `size` in points, `y` the top of the line."""

    text: str
    x: float
    y: float
    size: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Value:
    """A text that differs from card to card, and its room: one line, or two of smaller letters."""

    key: str
    area: Area
    size: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the card."""

    shapes: tuple[Shape, ...]
    labels: tuple[Label, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True, eq=False, slots=True)
class FaceTemplate:
    """A checked layout of both sides."""

    code: str
    title: str
    issuer: str
    width: float
    height: float
    photo: Area
    back: Side
    front: Side
    assumption: str

    def size_px(self, dpi: int) -> tuple[int, int]:
        """Return width and height in pixels: 1011 × 638 for CR80 at 300 DPI."""
        return pixels(self.width, dpi), pixels(self.height, dpi)


def pixels(millimetres: float, dpi: int) -> int:
    """Return the nearest whole pixel."""
    return round(millimetres * dpi / MM_PER_INCH)


@functools.cache
def load_template(code: str) -> FaceTemplate:
    """Return a template shipped with the portal; raise FaceTemplateError."""
    if not _CODE.fullmatch(code):
        raise FaceTemplateError("版面名称不合法", expected="小写字母、数字和连字符")
    source = resources.files("production.personalization") / "face_templates" / f"{code}.toml"
    if not source.is_file():
        raise FaceTemplateError("没有这个版面", got=code)
    return parse_template(source.read_text(encoding="utf-8"))


def parse_template(text: str) -> FaceTemplate:
    """Read and check the TOML text of a template; raise FaceTemplateError naming what is wrong."""
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise FaceTemplateError("版面不是有效的 TOML", got=str(exc)) from exc
    with Table(raw, "版面", FaceTemplateError) as table:
        template = FaceTemplate(
            code=table.text("code"),
            title=table.text("title"),
            issuer=table.text("issuer"),
            width=table.real("width"),
            height=table.real("height"),
            photo=_photo(table.table("photo")),
            back=_side(table.table("back")),
            front=_side(table.table("front")),
            assumption=table.text("assumption", ""),
        )
    _check(template)
    return template


def _photo(row: Mapping[str, Any]) -> Area:
    with Table(row, "照片", FaceTemplateError) as table:
        return _area(table)


def _side(row: Mapping[str, Any]) -> Side:
    with Table(row, "卡面", FaceTemplateError) as table:
        return Side(
            shapes=tuple(_shape(item) for item in table.rows("shape")),
            labels=tuple(_label(item) for item in table.rows("label")),
            values=tuple(_value(item) for item in table.rows("value")),
        )


def _shape(row: Mapping[str, Any]) -> Shape:
    with Table(row, "底纹", FaceTemplateError) as table:
        return Shape(
            kind=take(table.text("kind"), SHAPES, table),
            area=_area(table),
            colour=_colour(table, "colour"),
            to=_colour(table, "to", table.text("colour")),
            stroke=table.real("stroke", 0.0),
            radius=table.real("radius", 0.0),
            count=table.number("count", 1),
            preview=table.flag("preview", False),
        )


def _label(row: Mapping[str, Any]) -> Label:
    with Table(row, "标签", FaceTemplateError) as table:
        return Label(
            text=table.text("text"),
            x=table.real("x"),
            y=table.real("y"),
            size=table.real("size"),
            colour=_colour(table, "colour", "#141414"),
        )


def _value(row: Mapping[str, Any]) -> Value:
    with Table(row, "内容", FaceTemplateError) as table:
        return Value(
            key=take(table.text("key"), VALUE_KEYS, table),
            area=_area(table),
            size=table.real("size"),
            colour=_colour(table, "colour", "#141414"),
        )


def _area(table: Table) -> Area:
    return Area(table.real("x"), table.real("y"), table.real("width"), table.real("height"))


def _colour(table: Table, key: str, *default: str) -> Colour:
    text = table.text(key, *default)
    if not _COLOUR.fullmatch(text):
        raise FaceTemplateError("颜色写法不对", where=table.where, expected="#RRGGBB", got=text)
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def _check(template: FaceTemplate) -> None:
    """Refuse anything that is off the card or has no size."""
    areas = [("照片", template.photo)]
    for side in (template.back, template.front):
        areas += [(value.key, value.area) for value in side.values]
        areas += [(shape.kind, shape.area) for shape in side.shapes]
        areas += [
            (label.text, Area(label.x, label.y, 0.1, label.size * MM_PER_INCH / 72)) for label in side.labels
        ]
    for name, area in areas:
        right, bottom = area.x + area.width, area.y + area.height
        if min(area.x, area.y) < 0 or min(area.width, area.height) <= 0:
            raise FaceTemplateError("位置或大小不对", where=name)
        if right > template.width + 0.05 or bottom > template.height + 0.05:
            raise FaceTemplateError(
                "超出卡片边缘", where=name, expected=f"{template.width} × {template.height} mm"
            )
