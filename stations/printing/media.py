"""The card as a print medium: CR80 by its exact size, as near as the printer knows it (R-25)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stations.printing.codec import Attribute, Attributes, Tag, Value, one
from stations.printing.printer import MediaRefusedError

WIDTH, HEIGHT = 5398, 8560  # hundredths of a millimetre (ISO/IEC 7810 ID-1)
TOLERANCE = 60  # printers round to points: 153 x 243 pt is 5397 x 8572
LANDSCAPE, PORTRAIT = 4, 3  # orientation-requested (RFC 8011 §5.2.10); the face is wider than high


@dataclass(frozen=True, slots=True)
class Medium:
    """A size in hundredths of a millimetre, and how a face that is wider than high lies on it."""

    width: int
    height: int
    rotation: int

    def collection(self) -> Attributes:
        """Return media-col with no margins: the face covers the card."""
        size = {"x-dimension": one(Tag.INTEGER, self.width), "y-dimension": one(Tag.INTEGER, self.height)}
        margins = {f"media-{side}-margin": one(Tag.INTEGER, 0) for side in ("top", "bottom", "left", "right")}
        return {"media-size": one(Tag.COLLECTION, size), **margins}


def medium_of(found: Attributes) -> Medium:
    """Return the printer's own card size; raise MediaRefusedError when it has none."""
    sizes = found.get("media-size-supported")
    if sizes is None:
        return Medium(WIDTH, HEIGHT, LANDSCAPE)
    fitting = [medium for value in sizes.values for medium in _fitting(value)]
    if not fitting:
        raise MediaRefusedError("打印机没有卡片尺寸的介质", expected="53.98 × 85.60 毫米")
    return min(fitting, key=lambda medium: abs(medium.width - WIDTH) + abs(medium.height - HEIGHT))


def _fitting(value: Value) -> Iterator[Medium]:
    if not isinstance(value, dict):
        return
    across, along = value.get("x-dimension"), value.get("y-dimension")
    for width, height, rotation in ((WIDTH, HEIGHT, LANDSCAPE), (HEIGHT, WIDTH, PORTRAIT)):
        found = _near(across, width), _near(along, height)
        if found[0] and found[1]:
            yield Medium(found[0], found[1], rotation)


def _near(dimension: Attribute | None, wanted: int) -> int:
    """Return the dimension that fits: the printer's own, or any within its range; 0 for none."""
    for value in dimension.values if dimension else ():
        if isinstance(value, tuple) and value[0] <= wanted <= value[1]:
            return wanted
        if isinstance(value, int) and abs(value - wanted) <= TOLERANCE:
            return value
    return 0
