"""A JPEG whose unchanged rows are spliced in is the one a whole encoding gives, byte for byte (R-17, P3)."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from portal.core.glyphs import default_chain
from production.personalization.face import FaceRenderer
from production.personalization.face_jpeg import CodedGround, block_rows, encode_jpeg
from production.personalization.face_template import load_template
from tests.production.personalization.test_face import PHOTO, VALUES, photo

DPI = 300
RENDERER = FaceRenderer(load_template("plain"), default_chain())
NAMES = st.text(st.sampled_from("张王李赵欧阳娜·阿卜杜拉买提江龘𠮷ABCxyz "), min_size=1, max_size=30)


def noise(width: int, height: int, seed: int) -> Image.Image:
    """Return a picture that fills every block, so that no two rows are coded alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 200)),
    rows=st.tuples(st.integers(0, 199), st.integers(1, 200)),
    seed=st.integers(0, 1000),
)
def test_any_band_equals_the_whole_encoding(size: tuple[int, int], rows: tuple[int, int], seed: int) -> None:
    width, height = size
    ground, whole = noise(width, height, seed), noise(width, height, seed)
    first = min(rows[0], height - 1)
    top, bottom = block_rows(first, min(height, first + rows[1]), height)
    band = noise(width, bottom - top, seed + 1)
    whole.paste(band, (0, top))
    before = ground.tobytes()
    assert CodedGround.of(ground, DPI).with_band(band, top) == encode_jpeg(whole, DPI)
    assert ground.tobytes() == before


@pytest.mark.parametrize(
    ("rows", "expected"),
    [((0, 1), (0, 16)), ((15, 16), (0, 16)), ((16, 17), (16, 32)), ((142, 514), (128, 528)),
     ((630, 638), (624, 638)), ((-3, 700), (0, 638))],
)  # fmt: skip
def test_a_band_holds_its_rows_of_blocks_whole(rows: tuple[int, int], expected: tuple[int, int]) -> None:
    assert block_rows(*rows, height=638) == expected


@settings(max_examples=40, deadline=None)
@given(name=NAMES, seed=st.integers(0, 3))
def test_a_card_equals_its_picture_encoded_whole(name: str, seed: int) -> None:
    """Whatever the name, no row that it or the photo touches is taken from the ground (R-18)."""
    values = dataclasses.replace(VALUES, name=name)
    portrait = (PHOTO, photo(300, 300), photo(mode="L"), photo(400, 500))[seed]
    jpeg = RENDERER.render(values, portrait)
    assert jpeg == encode_jpeg(RENDERER.compose(values, portrait), DPI)


def test_two_decoders_read_the_same_picture() -> None:
    """What a printer gets is plain baseline JPEG with its density; its markers disturb no reader."""
    jpeg = RENDERER.render(VALUES, PHOTO)
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.info["dpi"] == (DPI, DPI)
        seen = np.asarray(picture.convert("RGB")).astype(int)
    strict = simplejpeg.decode_jpeg(jpeg, "RGB", strict=True).astype(int)
    drawn = np.asarray(RENDERER.compose(VALUES, PHOTO)).astype(int)
    assert np.array_equal(seen, strict)
    assert np.abs(seen - drawn).mean() < 2
