"""Drawn portraits: right by the strictest rule, never the same bytes, and cheap."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import simplejpeg

from portal.core.images import PhotoRule, check_photo
from portal.samples import photos
from portal.samples.photos import DRAWINGS, PhotoBook, draw_bust

STRICT = PhotoRule(min_bytes=14 * 1024, max_bytes=20_000, min_ground=250)


@pytest.fixture(scope="module")
def book() -> PhotoBook:
    return PhotoBook(3, drawings=24)


def test_every_drawing_passes_the_strictest_rule(book: PhotoBook) -> None:
    """R-17: 358 × 441, 24-bit, white ground, 14–20 KB."""
    assert [check_photo(book.photo(index), STRICT) for index in range(24)] == [None] * 24


def test_photos_are_the_same_for_the_same_seed(book: PhotoBook) -> None:
    assert PhotoBook(3, drawings=24).photo(5) == book.photo(5)
    assert PhotoBook(4, drawings=24).photo(5) != book.photo(5)


def test_bytes_differ_even_where_the_drawing_repeats(book: PhotoBook) -> None:
    first, again = book.photo(1), book.photo(25)
    assert first != again
    decoded = [simplejpeg.decode_jpeg(photo, strict=True) for photo in (first, again)]
    assert np.array_equal(*decoded)


def test_drawings_look_different() -> None:
    busts = [draw_bust(str(n)).astype(int) for n in range(8)]
    nearest = min(np.abs(a - b).mean() for n, a in enumerate(busts) for b in busts[:n])
    assert nearest > 5
    assert DRAWINGS >= 200


@pytest.mark.parametrize(
    ("draw", "code"),
    [
        (photos.png_photo, "photo_not_jpeg"),
        (photos.grey_photo, "photo_colour"),
        (photos.small_photo, "photo_pixels"),
        (photos.light_photo, "photo_too_small"),
        (photos.heavy_photo, "photo_too_large"),
    ],
)
def test_wrong_photos_are_wrong_in_one_way(draw: Callable[[str], bytes], code: str) -> None:
    problem = check_photo(draw("a"), PhotoRule())
    assert problem is not None
    assert problem.code == code


def test_a_hundred_thousand_photos_take_seconds(book: PhotoBook) -> None:
    """The goal is 5,000 a second; a tenth of it is asserted, a loaded machine must not fail this."""
    for index in range(24):
        book.photo(index)
    start = time.process_time()
    for index in range(2000):
        book.photo(index)
    assert time.process_time() - start < 4
