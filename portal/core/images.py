"""Check a holder's photo as received: a whole, colour JPEG of the right size on a white ground (R-17).

Looks at the header first, so that nothing large is ever decoded, then decodes every coefficient strictly
at 1/8 scale.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import simplejpeg

from portal.core.problems import Problem

FIELD = "photo"
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_END_SEARCH = re.compile(_END)  # three times as fast as `find` in coded data
_PADDING = b"\0\r\n"
_SCAN = 0xDA
# A marker; in coded data 0xFF is followed by 0 or by a restart marker.
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_COLOUR = frozenset({"YCbCr", "RGB"})


@dataclass(frozen=True, slots=True)
class PhotoRule:
    """What a photo must be: pixels, file size in bytes, least brightness (0–255) of the two upper corners.

    Places differ in their size limits (9–20, 14–20, 14–40 KB); `min_ground` 0 accepts any ground.
    """

    width: int = 358
    height: int = 441
    min_bytes: int = 9 * 1024
    max_bytes: int = 40 * 1024
    min_ground: int = 0


def check_photo(jpeg: bytes, rule: PhotoRule, *, column: str = FIELD) -> Problem | None:
    """Find the first thing wrong with a photo; never raises, whatever the bytes."""
    return (
        _check_container(jpeg, rule, column)
        or _check_header(jpeg, rule, column)
        or _check_pixels(jpeg, rule, column)
    )


def _check_container(jpeg: bytes, rule: PhotoRule, column: str) -> Problem | None:
    if not jpeg:
        return Problem(column, "photo_missing", "照片文件")
    if len(jpeg) > rule.max_bytes:
        return Problem(column, "photo_too_large", f"不超过{rule.max_bytes}字节", f"{len(jpeg)}字节")
    if not jpeg.startswith(_START):
        return Problem(column, "photo_not_jpeg", "JPEG文件", f"文件头 {jpeg[:4].hex().upper()}")
    if len(jpeg) < rule.min_bytes:
        return Problem(column, "photo_too_small", f"不少于{rule.min_bytes}字节", f"{len(jpeg)}字节")
    if not jpeg.rstrip(_PADDING).endswith(_END):
        return _damaged(column, "缺少结束标记")
    if not _ends_with_the_picture(jpeg):
        return _damaged(column, "图像之外还有别的内容")
    return None


def _ends_with_the_picture(jpeg: bytes) -> bool:
    """Tell a picture from a file that is something else as well: nothing may follow its end marker."""
    at = 2
    while found := _MARKER.match(jpeg, at):
        marker, at = jpeg[found.end() - 1], found.end()
        if marker == _END[1]:
            return not jpeg[at:].rstrip(_PADDING)
        at += int.from_bytes(jpeg[at : at + 2])
        if marker == _SCAN:
            end = _END_SEARCH.search(jpeg, at)
            if end and not jpeg[end.end() :].rstrip(_PADDING):
                return True  # the usual case, quickly
            coded = _MARKER.search(jpeg, at)
            at = coded.start() if coded else len(jpeg)
    return True  # the decoder says what is wrong with the markers


def _check_header(jpeg: bytes, rule: PhotoRule, column: str) -> Problem | None:
    try:
        height, width, colour, _subsampling = simplejpeg.decode_jpeg_header(jpeg)
    except ValueError:
        return _damaged(column, "文件头损坏")
    if (width, height) != (rule.width, rule.height):
        return Problem(column, "photo_pixels", f"{rule.width}×{rule.height}像素", f"{width}×{height}像素")
    if colour not in _COLOUR:
        return Problem(column, "photo_colour", "24位彩色", str(colour))
    return None


def _check_pixels(jpeg: bytes, rule: PhotoRule, column: str) -> Problem | None:
    try:
        # Every coefficient is read either way; the colours are only put together where they are looked at.
        colours = "RGB" if rule.min_ground else "GRAY"
        small = simplejpeg.decode_jpeg(jpeg, colours, True, True, 1, 1, 1.0, strict=True)
    except ValueError:
        return _damaged(column, "图像内容损坏")
    if not rule.min_ground:
        return None
    ground = _ground(small)
    if ground >= rule.min_ground:
        return None
    return Problem(column, "photo_ground", f"白色背景（亮度不低于{rule.min_ground}）", f"亮度{ground}")


def _ground(small: np.ndarray) -> int:
    """Return the darkest channel mean of the two upper corners, a tenth of the width each."""
    side: int = max(1, small.shape[1] // 10)
    corners = (small[:side, :side], small[:side, -side:])
    # A plain sum costs half of `mean`, and this runs for every photo.
    return min(int(np.add.reduce(corner, axis=(0, 1), dtype=np.int64).min()) // side**2 for corner in corners)


def _damaged(column: str, got: str) -> Problem:
    return Problem(column, "photo_damaged", "完整的JPEG图像", got)
