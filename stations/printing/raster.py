"""Pages as PWG Raster (PWG 5102.4): every pixel as it is, which every IPP Everywhere printer takes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from PIL import Image

from stations.printing.sides import LONG_EDGE, ONE, SHORT_EDGE

SYNC = b"RaS2"
DPI = 300
POINTS_PER_INCH = 72
SRGB = 19
MOST_LINES = 256  # of one repeat
MOST_PIXELS = 128  # of one run
HEADER_SIZE = 1796
# How a printer wants the back (PWG 5102.4 §4.3.2, table 5): mirrored across and along the feed.
_TRANSFORMS = {
    ("flipped", LONG_EDGE): (1, -1),
    ("flipped", SHORT_EDGE): (-1, 1),
    ("rotated", LONG_EDGE): (-1, -1),
    ("manual-tumble", SHORT_EDGE): (-1, -1),
}


def raster(pages: Sequence[Image.Image], sides: str, sheet_back: str, medium: str) -> bytes:
    """Return RGB pages of one size as one document, the back as `pwg-raster-document-sheet-back` asks."""
    parts = [SYNC]
    for number, page in enumerate(pages):
        cross, feed = _TRANSFORMS.get((sheet_back, sides), (1, 1)) if number else (1, 1)
        parts.append(_header(page.size, sides, len(pages), (cross, feed), medium))
        parts.extend(_lines(_mirrored(page, cross, feed)))
    return b"".join(parts)


def _mirrored(page: Image.Image, cross: int, feed: int) -> Image.Image:
    if cross < 0:
        page = page.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return page.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if feed < 0 else page


def _header(size: tuple[int, int], sides: str, pages: int, transforms: tuple[int, int], medium: str) -> bytes:
    """Return a page's header; what is not set here stays 0, the printer's own choice (§4.3.1)."""
    width, height = size
    header = bytearray(HEADER_SIZE)
    header[0:9] = b"PwgRaster"
    header[1732 : 1732 + len(medium)] = medium.encode("ascii")
    points = (round(pixels * POINTS_PER_INCH / DPI) for pixels in size)
    numbers = {
        272: (int(sides != ONE),),  # Duplex
        276: (DPI, DPI),  # HWResolution
        340: (1,),  # NumCopies
        352: tuple(points),  # PageSize
        368: (int(sides == SHORT_EDGE),),  # Tumble
        372: (width, height, 0, 8, 24, width * 3, 0, SRGB),  # to ColorSpace, chunky
        420: (3,),  # NumColors
        452: (pages, *transforms),  # TotalPageCount, CrossFeedTransform, FeedTransform
    }
    for place, values in numbers.items():
        struct.pack_into(f">{len(values)}i", header, place, *values)
    return bytes(header)


def _lines(page: Image.Image) -> Iterator[bytes]:
    """Yield the lines, equal ones once with their count (§4.4)."""
    width, height = page.size
    row = width * 3
    content = page.tobytes()
    at = 0
    while at < height:
        line = content[at * row : (at + 1) * row]
        repeat = 1
        while repeat < min(MOST_LINES, height - at) and content.startswith(line, (at + repeat) * row):
            repeat += 1
        yield bytes((repeat - 1,)) + _runs(line, width)
        at += repeat


def _runs(line: bytes, width: int) -> bytes:
    """Return a line of one colour as repeats, any other as it is: cards are small, memory is not short."""
    parts = []
    plain = line == line[:3] * width
    for start in range(0, width, MOST_PIXELS):
        count = min(MOST_PIXELS, width - start)
        if plain or count == 1:
            parts.append(bytes((count - 1,)) + line[:3] if plain else b"\0" + line[start * 3 : start * 3 + 3])
        else:
            parts.append(bytes((257 - count,)) + line[start * 3 : (start + count) * 3])
    return b"".join(parts)
