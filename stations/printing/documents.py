"""The faces in a format the printer takes; always in memory, always every pixel (R-25)."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image

from stations.printing.codec import Attributes
from stations.printing.media import LANDSCAPE, Medium
from stations.printing.printer import FormatRefusedError
from stations.printing.raster import DPI, raster
from stations.printing.sides import LONG_EDGE

JPEG, PNG, PWG, PDF = "image/jpeg", "image/png", "image/pwg-raster", "application/pdf"
CARD = "iso_id-1_53.98x85.6mm"  # PWG 5101.1
_PER_INCH = struct.pack(">iib", DPI, DPI, 3)


class Document(NamedTuple):
    """Bytes and their MIME type; `is_laid` when its pages lie as the medium does, else they are faces."""

    mime: str
    content: bytes
    is_laid: bool

    def __repr__(self) -> str:
        return f"Document({self.mime}, {len(self.content)} bytes)"  # a face is personal


@dataclass(frozen=True, slots=True)
class Sheet:
    """How faces come to lie on a card: the medium, `sides`, and whether this printer's backs are turned."""

    medium: Medium
    sides: str
    turn_back: bool = False
    sheet_back: str = "normal"
    takes_raster: bool = field(default=True)

    @classmethod
    def of(cls, found: Attributes, medium: Medium, sides: str, *, turn_back: bool) -> Sheet:
        """Read the rest from the printer's attributes (PWG 5102.4 §5); unknown ones are the usual ones."""
        backs = found.get("pwg-raster-document-sheet-back")
        sheet_back = str(backs.values[0]) if backs and backs.values else "normal"
        resolutions = found.get("pwg-raster-document-resolution-supported")
        kinds = found.get("pwg-raster-document-type-supported")
        takes = (resolutions is None or _PER_INCH in resolutions.values) and (
            kinds is None or "srgb_8" in kinds.values
        )
        return cls(medium, sides, turn_back, sheet_back, takes)


def document(faces: Sequence[bytes], formats: Collection[str], sheet: Sheet) -> Document:
    """Return one face as the JPEG it is, or as PNG; two as the pages of one document, the front first.

    Raise FormatRefusedError for a printer that reads nothing of it.
    """
    if len(faces) == 1 and JPEG in formats:
        return Document(JPEG, faces[0], is_laid=False)
    if len(faces) == 1 and PNG in formats:
        return Document(PNG, as_png(faces[0]), is_laid=False)
    if PWG in formats and sheet.takes_raster:
        return Document(PWG, raster(_pages(faces, sheet), sheet.sides, sheet.sheet_back, CARD), is_laid=True)
    if PDF in formats:
        return Document(PDF, _pdf(_pages(faces, sheet)), is_laid=True)
    expected = f"{PWG}（300 DPI、sRGB）或 {PDF}"
    if len(faces) == 1:
        expected = f"{JPEG}、{PNG}、{expected}"
    raise FormatRefusedError("打印机不接受卡面的格式", expected=expected, got="、".join(sorted(formats)))


def as_png(face: bytes) -> bytes:
    """Return the same pixels as PNG with the same resolution."""
    target = io.BytesIO()
    with Image.open(io.BytesIO(face)) as picture:
        picture.save(target, "PNG", dpi=picture.info.get("dpi", (300, 300)))
    return target.getvalue()


def _pages(faces: Sequence[bytes], sheet: Sheet) -> list[Image.Image]:
    """Lay the faces on the medium; both sides of a card have the same upper edge.

    A sheet that is turned over its long edge shows its back head down, so that back is turned beforehand.
    """
    pages = []
    for number, face in enumerate(faces):
        with Image.open(io.BytesIO(face)) as picture:
            page = picture.convert("RGB")
        if sheet.medium.rotation == LANDSCAPE:  # anticlockwise, as orientation-requested 4 does
            page = page.transpose(Image.Transpose.ROTATE_90)
        if number and (sheet.sides == LONG_EDGE) != sheet.turn_back:
            page = page.transpose(Image.Transpose.ROTATE_180)
        pages.append(page)
    return pages


def _pdf(pages: Sequence[Image.Image]) -> bytes:
    """Return pages of the card's size, as JPEG of the best quality within."""
    target = io.BytesIO()
    first, *rest = pages
    first.save(target, "PDF", save_all=True, append_images=rest, resolution=DPI, quality=100, subsampling=0)
    return target.getvalue()
