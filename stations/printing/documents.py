"""The face in a format the printer takes; always in memory, always every pixel (R-25)."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import NamedTuple

from PIL import Image

from stations.printing.printer import FormatRefusedError

JPEG, PNG = "image/jpeg", "image/png"


class Document(NamedTuple):
    """Bytes and their MIME type."""

    mime: str
    content: bytes

    def __repr__(self) -> str:
        return f"Document({self.mime}, {len(self.content)} bytes)"  # a face is personal


def document(face: bytes, formats: Collection[str]) -> Document:
    """Return the JPEG as it is, or as PNG where the printer reads only that; raise FormatRefusedError."""
    if JPEG in formats:
        return Document(JPEG, face)
    if PNG in formats:
        return Document(PNG, as_png(face))
    raise FormatRefusedError("打印机不接受图像", expected=f"{JPEG} 或 {PNG}", got="、".join(sorted(formats)))


def as_png(face: bytes) -> bytes:
    """Return the same pixels as PNG with the same resolution."""
    target = io.BytesIO()
    with Image.open(io.BytesIO(face)) as picture:
        picture.save(target, "PNG", dpi=picture.info.get("dpi", (300, 300)))
    return target.getvalue()
