"""The photo as the chip holds it (SSSE/EF08): a JPEG made small enough for its file.

Assumption: the file holds a plain JPEG from offset 0; a reader stops at its end mark, what stands behind it
means nothing. The same photo gives the same bytes, so that a card can be read again later.
"""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from portal.core.errors import InputRefusedError

# Width and quality from good to just recognisable: 358 × 441 as received is 26 × 32 mm.
_STEPS = ((179, 80), (179, 65), (179, 50), (143, 60), (143, 45), (119, 50), (119, 35))


class ChipPhotoError(InputRefusedError):
    """A photo that cannot be put on the chip."""

    code = "chip_photo"


def chip_photo(jpeg: bytes, limit: int) -> bytes:
    """Return the photo as a JPEG of at most `limit` bytes; raise ChipPhotoError when none is small enough."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as opened:
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        raise ChipPhotoError("照片无法读取", where="SSSE/EF08", expected="JPEG") from None
    for width, quality in _STEPS:
        size = (width, max(1, round(picture.height * width / picture.width)))
        sink = io.BytesIO()
        small = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        small.info.clear()  # comments and colour profiles of the file would be written along
        small.save(sink, "JPEG", quality=quality, optimize=True)
        if sink.tell() <= limit:
            return sink.getvalue()
    raise ChipPhotoError(
        "照片压缩后仍放不进芯片",
        where="SSSE/EF08",
        expected=f"不超过 {limit} 字节",
        got=f"{sink.tell()} 字节",
    )
