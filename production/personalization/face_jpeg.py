"""JPEG of pictures that share most of their rows: only the rows that differ are encoded anew (P3).

With a restart marker after every row of blocks (ITU-T T.81, E.1.4) each such row is coded on its own, so
rows of pictures of one width, quality and subsampling may stand together. What comes out is byte for byte
what Pillow writes for the whole picture with the same option.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass

from PIL import Image

JPEG_QUALITY = 90
BLOCK_ROWS = 16
"""Pixel rows of one row of blocks when colour has half the resolution (4:2:0), as Pillow writes it."""
_HALF_COLOUR = 2  # Pillow's number of 4:2:0
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")  # in coded data every other FF is followed by 00
_RESTARTS = tuple(bytes((0xFF, 0xD0 + number)) for number in range(8))


def encode_jpeg(image: Image.Image, dpi: int) -> bytes:
    """Return an RGB picture as baseline JPEG with its density and a restart marker a row of blocks."""
    out = io.BytesIO()
    image.save(
        out,
        "JPEG",
        quality=JPEG_QUALITY,
        subsampling=_HALF_COLOUR,
        restart_marker_rows=1,
        dpi=(dpi, dpi),
    )
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class CodedGround:
    """A coded picture of which some rows are replaced: all before its coded data, and each row of blocks."""

    head: bytes
    rows: tuple[bytes, ...]
    dpi: int

    @classmethod
    def of(cls, image: Image.Image, dpi: int) -> CodedGround:
        """Encode the picture whose rows the others share."""
        head, rows = _split(encode_jpeg(image, dpi))
        return cls(head, rows, dpi)

    def with_band(self, band: Image.Image, top: int) -> bytes:
        """Return the picture with `band`, of its full width, from pixel row `top` on.

        The band begins and ends between rows of blocks (`block_rows`), or ends with the picture.
        """
        _, fresh = _split(encode_jpeg(band, self.dpi))
        first = top // BLOCK_ROWS
        rows = (*self.rows[:first], *fresh, *self.rows[first + len(fresh) :])
        parts = [self.head]
        for number, row in enumerate(rows):
            parts += (row, _RESTARTS[number % len(_RESTARTS)])
        parts[-1] = _END_OF_IMAGE
        return b"".join(parts)


def block_rows(top: int, bottom: int, height: int) -> tuple[int, int]:
    """Return the pixel rows of the rows of blocks that hold the rows from `top` to before `bottom`."""
    first = max(0, top) // BLOCK_ROWS * BLOCK_ROWS
    return first, min(height, -(-bottom // BLOCK_ROWS) * BLOCK_ROWS)


def _split(jpeg: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return all up to the coded data, and the coded rows of blocks without their markers."""
    place = 2
    while jpeg[place + 1] != _START_OF_SCAN:
        place += 2 + _length(jpeg, place)
    place += 2 + _length(jpeg, place)
    return jpeg[:place], tuple(_RESTART.split(jpeg[place : -len(_END_OF_IMAGE)]))


def _length(jpeg: bytes, place: int) -> int:
    """Return the length of a marker's segment, which counts itself but not the marker."""
    return int(struct.unpack_from(">H", jpeg, place + 2)[0])
